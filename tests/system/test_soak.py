# SPDX-License-Identifier: Apache-2.0
"""A small storm on a protected guest's pages; `make soak` has the large one."""

from __future__ import annotations

from pathlib import Path

import pytest

from delphyne.board import soak

pytestmark = pytest.mark.system

EXPORTS = 1500


def test_a_guest_loses_nothing_and_shows_nothing_while_its_pages_come_and_go(image: Path) -> None:
    told, done = soak.run("6.1", 1, EXPORTS, image)
    assert soak.is_clean(told, EXPORTS), f"{told}\n{done.console[-20000:]}"
    assert min(told["touch"], told["drop"], told["swap"]) > EXPORTS // 8, told
    assert told["swapped"] > told["asked"] // 2, told
    assert "WARNING: CPU" not in done.console, done.console[-20000:]
