# SPDX-License-Identifier: Apache-2.0
"""docs/language.md tells the truth: every example is checked, run in CPython and as machine code; every refusal is refused."""

from __future__ import annotations

import importlib.util
import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import pytest

import delphyne.lang
from delphyne.compiler.back import native
from delphyne.compiler.front import check_paths, compile_functions

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "language.md"
HARDWARE_SECTIONS = {"Addresses and memory that others write", "Hardware", "Secrets and SIMD"}
"""Sections whose functions need the simulated machine or SIMD registers; in those, only functions without hardware run as machine code."""


@dataclass
class Section:
    """The blocks below one heading: the accepted ones joined, the refused ones apart."""

    title: str
    accepted: str = ""
    refused: list[tuple[str, str]] = field(default_factory=list)


def _sections() -> Iterator[Section]:
    for part in re.split(r"^## ", DOCUMENT.read_text(), flags=re.MULTILINE)[1:]:
        section = Section(part.splitlines()[0])
        for kind, text in re.findall(r"^```python([^\n]*)\n(.*?)^```$", part, re.MULTILINE | re.DOTALL):
            if kind.strip():
                section.refused.append((kind.split()[-1], text))
            else:
                section.accepted += text + "\n"
        if section.accepted:
            yield section


SECTIONS = list(_sections())


def _write(tmp_path: Path, name: str, body: str) -> Path:
    used = sorted(name for name in delphyne.lang.__all__ if re.search(rf"\b{name}\b", body))
    path = tmp_path / f"{name}.py"
    path.write_text(f"from __future__ import annotations\nfrom typing import Final\nfrom delphyne.lang import {', '.join(used)}\n\n{body}")
    return path


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def _identifier(section: Section) -> str:
    return "language_" + re.sub(r"\W+", "_", section.title.lower())


def _examples(module: ModuleType) -> list[str]:
    return [
        name
        for name, function in vars(module).items()
        if inspect.isfunction(function) and function.__module__ == module.__name__ and not inspect.signature(function).parameters
        and function.__annotations__.get("return") == "bool"
    ]


@pytest.mark.parametrize("section", SECTIONS, ids=_identifier)
def test_examples_are_accepted_and_true(section: Section, tmp_path: Path) -> None:
    path = _write(tmp_path, _identifier(section), section.accepted)
    assert [diagnostic.render(color=False) for diagnostic in check_paths([path])] == []
    module = _load(path)
    for name in _examples(module):
        assert vars(module)[name]() is True, name


@pytest.mark.parametrize("section", [section for section in SECTIONS if section.title not in HARDWARE_SECTIONS], ids=_identifier)
def test_examples_are_true_as_machine_code(section: Section, tmp_path: Path) -> None:
    path = _write(tmp_path, _identifier(section) + "_native", section.accepted)
    module = _load(path)
    names = _examples(module)
    assert names
    loaded = native.load(compile_functions([vars(module)[name] for name in names]), opt=2)
    for name in names:
        assert loaded.call(f"{path.stem}.{name}") == 1, name


@pytest.mark.parametrize(
    ("section", "code", "text"), [(section, code, text) for section in SECTIONS for code, text in section.refused],
    ids=[f"{code}-{_identifier(section)}" for section in SECTIONS for code, _ in section.refused],
)
def test_refusals_are_refused_by_that_number(section: Section, code: str, text: str, tmp_path: Path) -> None:
    path = _write(tmp_path, f"{_identifier(section)}_{code}", section.accepted + text)
    assert [diagnostic.code for diagnostic in check_paths([path])] == [code]


def test_every_public_name_is_in_the_document() -> None:
    document = DOCUMENT.read_text()
    assert [name for name in delphyne.lang.__all__ if not re.search(rf"\b{name}\b", document)] == []
