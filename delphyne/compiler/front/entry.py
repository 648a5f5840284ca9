# SPDX-License-Identifier: Apache-2.0
"""The shape of one entry of the catalogue of refusals."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """One kind of refusal: what it is, why the language has the rule, what to write instead, one wrong and one right program.

    The examples are whole modules. In a wrong one the comment `# <- text` names the text on its line at which the refusal is reported.
    `module` is the name under which they are compiled, where the rule depends on it."""

    title: str
    reason: str
    remedy: str
    wrong: str
    right: str
    module: str = ""
