# SPDX-License-Identifier: Apache-2.0
"""What the front end says about a wrong program: where, what, why, and what to write instead."""

from __future__ import annotations

import ast
import linecache
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from delphyne.compiler.front import catalogue

if TYPE_CHECKING:
    from collections.abc import Iterable

_RED = "\x1b[1;31m"
_BLUE = "\x1b[1;34m"
_PLAIN = "\x1b[0m"


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One refusal. `line` and `end_line` count from 1, `column` and `end_column` from 0 as in `ast`; line 0 means the file as a whole."""

    code: str
    file: str
    line: int
    column: int
    end_line: int
    end_column: int
    reason: str
    remedy: str

    def _marker(self) -> tuple[str, str] | None:
        source = linecache.getline(self.file, self.line).rstrip("\n") if self.line else ""
        if not source.strip():
            return None
        stop = self.end_column if self.end_line == self.line else len(source)
        # `ast` counts bytes of UTF-8; the caret stands under characters.
        encoded = source.encode()
        start = len(encoded[: self.column].decode(errors="replace"))
        stop = len(encoded[:stop].decode(errors="replace"))
        lead = "".join("\t" if character == "\t" else " " for character in source[:start])
        return source, lead + "^" * max(1, stop - start)

    def render(self, color: bool = False) -> str:
        """The message as people read it: place, number, reason, source line with caret, remedy."""
        red, blue, plain = (_RED, _BLUE, _PLAIN) if color else ("", "", "")
        where = f"{self.file}:{self.line}:{self.column + 1}" if self.line else self.file
        lines = [f"{where}: {red}{self.code}{plain}: {self.reason}"]
        marker = self._marker()
        if marker is not None:
            lines += [f"    {marker[0]}", f"    {red}{marker[1]}{plain}"]
        lines.append(f"    {blue}remedy:{plain} {self.remedy}")
        return "\n".join(lines)

    def as_json(self) -> dict[str, str | int]:
        """The same as a flat dictionary, for editors and scripts."""
        return {
            "code": self.code,
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "end_line": self.end_line,
            "end_column": self.end_column,
            "title": catalogue.ENTRIES[self.code].title,
            "reason": self.reason,
            "remedy": self.remedy,
        }


class Refused(Exception):
    """The program is outside the language; `diagnostics` says where and why, in source order."""

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        self.diagnostics = list(diagnostics)
        super().__init__("\n".join(diagnostic.render() for diagnostic in self.diagnostics))


class Fault(Exception):
    """Ends the checking of one statement. `diagnostic` is None where the cause has been reported before."""

    def __init__(self, diagnostic: Diagnostic | None) -> None:
        self.diagnostic = diagnostic
        super().__init__()


def at(file: str, node: ast.AST, code: str, reason: str, remedy: str = "") -> Diagnostic:
    """A diagnostic at a syntax node; without `remedy` the catalogue's general one is used."""
    line = getattr(node, "lineno", 0)
    column = getattr(node, "col_offset", 0)
    return Diagnostic(
        code,
        file,
        line,
        column,
        getattr(node, "end_lineno", None) or line,
        getattr(node, "end_col_offset", None) or column + 1,
        reason,
        remedy or catalogue.ENTRIES[code].remedy,
    )


@dataclass(slots=True)
class Sink:
    """Collects diagnostics of one run; one and the same place and number is reported once."""

    _found: dict[tuple[str, int, int, str], Diagnostic] = field(default_factory=dict)

    def add(self, diagnostic: Diagnostic) -> None:
        self._found.setdefault((diagnostic.file, diagnostic.line, diagnostic.column, diagnostic.code), diagnostic)

    def sorted(self) -> list[Diagnostic]:
        return sorted(self._found.values(), key=lambda one: (one.file, one.line, one.column, one.code))
