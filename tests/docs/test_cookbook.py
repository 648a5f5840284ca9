# SPDX-License-Identifier: Apache-2.0
"""docs/cookbook.md quotes the files that run at EL2 as they are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "cookbook.md").read_text()
QUOTES = re.findall(r"^From `([^`]+)`:\n\n```python\n(.*?)\n```$", TEXT, re.MULTILINE | re.DOTALL)


def test_there_are_about_twelve_recipes_and_each_quotes_code() -> None:
    recipes = re.split(r"^## ", TEXT, flags=re.MULTILINE)[1:]
    assert len(recipes) >= 12
    assert [recipe.splitlines()[0] for recipe in recipes if "```python" not in recipe] == []


@pytest.mark.parametrize(("name", "quote"), QUOTES, ids=[f"{number}-{name.rsplit('/', 1)[-1]}" for number, (name, _) in enumerate(QUOTES)])
def test_the_quote_stands_in_the_file(name: str, quote: str) -> None:
    source = (ROOT / name).read_text()
    for part in quote.split("\n\n\n"):
        assert part in source, f"{name} no longer holds:\n{part}"
