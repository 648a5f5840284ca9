# SPDX-License-Identifier: Apache-2.0
"""Every statement and expression of a body, whatever holds it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass

from delphyne.compiler import tree


def inside(body: list[tree.Stmt]) -> Iterator[object]:
    """The nodes of statements, their own included, in no order. Types and places in the source are none."""
    waiting: list[object] = list(body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, (list, tuple)):
            waiting.extend(node)
        elif is_dataclass(node) and not isinstance(node, tree.Loc):
            yield node
            waiting.extend(getattr(node, item.name) for item in fields(node) if item.name not in ("loc", "ty"))
