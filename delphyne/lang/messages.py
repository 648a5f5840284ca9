# SPDX-License-Identifier: Apache-2.0
"""Log messages: f-strings in the source, number and arguments at EL2, text for the reader.

In CPython the text is kept, with its level, on the current machine, or in `MESSAGES` where there is none.
"""

from __future__ import annotations

from typing import Final

from delphyne.lang import current
from delphyne.lang.arrays import View, text
from delphyne.lang.enums import Enum8
from delphyne.lang.ints import u8, u64


class Level(Enum8):
    """How much a message matters."""

    ERROR = 1
    WARNING = 2
    INFO = 3
    DEBUG = 4


MESSAGES: Final[list[tuple[Level, str]]] = []
"""What was logged while no machine was current."""


def log(level: Level, message: str) -> None:
    """Keeps a message. The compiler takes an f-string with at most six arguments."""
    if not isinstance(level, Level) or type(message) is not str:
        raise TypeError('log(Level.INFO, f"..")')
    found = current.find_machine()
    (MESSAGES if found is None else found.messages).append((level, message))


FORMATS: Final[list[bytes]] = []
"""What `log_format` answers from in CPython, where messages are rendered at once and have no numbers; for tests of a renderer."""


def log_format(number: u64) -> View[u8] | None:
    """The text of a compiled program's format, place holders included; None where there is no such number."""
    return text(FORMATS[int(number)]) if int(number) < len(FORMATS) else None
