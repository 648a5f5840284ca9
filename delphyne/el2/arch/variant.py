# SPDX-License-Identifier: Apache-2.0
"""Which of the two images this is. No lock, no state.

A debug image shows more than a host may see: on the console what the host provokes, line after line, and by the host's counters and trace what EL2
does. It is another image, with another measurement, and not a word on a command line: the host writes the files that its own loader reads.
"""

from __future__ import annotations

from typing import Final

DEBUG: Final = False
"""`board.demo.build` has it True while it compiles a debug image. Say `variant.DEBUG`: what is imported by name keeps what it was."""
