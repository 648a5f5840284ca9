# SPDX-License-Identifier: Apache-2.0
"""Stand-ins for module-level objects: the frame table of a proof is not the one that the module made.

A static is found by identity in every loaded module of Delphyne, so it does not matter under which name, or through which import, a
function reaches it.
"""

from __future__ import annotations

import sys
from types import ModuleType


class Substitution:
    """Names that were bound to something else, and what they were bound to before."""

    def __init__(self) -> None:
        self._saved: list[tuple[ModuleType, str, object]] = []

    def replace(self, static: object, stand_in: object) -> None:
        """Bind every global name of `static` to `stand_in`."""
        for module in [module for name, module in sys.modules.items() if _is_subject(name) and isinstance(module, ModuleType)]:
            for name, bound in list(vars(module).items()):
                if bound is static:
                    self._saved.append((module, name, static))
                    setattr(module, name, stand_in)

    def undo(self) -> None:
        """Bind everything back."""
        while self._saved:
            module, name, static = self._saved.pop()
            setattr(module, name, static)


def _is_subject(module: str) -> bool:
    """The theorems keep the originals, to name them; everything else of Delphyne, and tests with subjects of their own, see stand-ins."""
    return module.startswith(("delphyne.el2", "delphyne.lang")) or module.rpartition(".")[2].startswith("subject")
