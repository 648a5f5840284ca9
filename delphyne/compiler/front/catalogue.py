# SPDX-License-Identifier: Apache-2.0
"""Every refusal by number. Tests compile both examples of each."""

from __future__ import annotations

from typing import Final

from delphyne.compiler.front import entries_places, entries_structure, entries_syntax, entries_types
from delphyne.compiler.front.entry import Entry

ENTRIES: Final[dict[str, Entry]] = {
    **entries_syntax.ENTRIES,
    **entries_types.ENTRIES,
    **entries_places.ENTRIES,
    **entries_structure.ENTRIES,
}


def explain(code: str) -> str | None:
    """The text that `delphyne explain CODE` prints, or None for an unknown number."""
    entry = ENTRIES.get(code.upper())
    if entry is None:
        return None
    where = f" (in `{entry.module}`)" if entry.module else ""
    return (
        f"{code.upper()}: {entry.title}\n\n{entry.reason}\n\nInstead: {entry.remedy}.\n\n"
        f"Refused{where}:\n\n{_indent(entry.wrong)}\n\nAccepted:\n\n{_indent(entry.right)}\n"
    )


def _indent(text: str) -> str:
    return "\n".join("    " + line if line else "" for line in text.strip().splitlines())
