# SPDX-License-Identifier: Apache-2.0
"""What a run of a generated program came to, in a form that all the ways to run one share."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Trapped:
    """A trap: the name of its kind, the file and line where it was written, and its two operands."""

    kind: str
    place: str
    a: int
    b: int

    def __str__(self) -> str:
        """For people."""
        return f"{self.kind} ({self.a:#x}, {self.b:#x}) at {self.place}"


@dataclass(frozen=True)
class Outcome:
    """`result` is what `run` answered, or how it trapped; `checksum` that of the statics afterwards. `broken` says what should never happen:
    a refusal by the compiler, an exception that is no trap, a crash, no answer in time."""

    result: int | Trapped | None = None
    checksum: int = 0
    broken: str = ""

    def __str__(self) -> str:
        """For people."""
        if self.broken:
            return f"broken: {self.broken}"
        return f"{f'{self.result:#x}' if isinstance(self.result, int) else self.result}, statics {self.checksum:#x}"
