# SPDX-License-Identifier: Apache-2.0
"""Makes a failing program small: takes out and lowers the decisions that made it, as long as it still fails.

0 is always the simplest decision and statements begin with their own, so a run of decisions taken out is most often a statement taken out.
"""

from __future__ import annotations

from collections.abc import Callable

from delphyne.fuzz.generate import Program, recorded


def shrink(program: Program, fails: Callable[[Program], bool], budget: int = 1500) -> Program:
    """The simplest program found that still fails, in at most `budget` tries. `fails` must hold for `program`."""
    best = program
    seen = {program.source}

    def attempt(numbers: list[int]) -> bool:
        nonlocal best, budget
        if budget <= 0:
            return False
        candidate = recorded(numbers)
        if _weight(candidate) >= _weight(best) or candidate.source in seen:
            return False
        seen.add(candidate.source)
        budget -= 1
        if fails(candidate):
            best = candidate
            return True
        return False

    improved = True
    while improved and budget > 0:
        improved = _delete(lambda: list(best.made), attempt)
        improved |= _lower(lambda: list(best.made), attempt)
    return best


def _weight(program: Program) -> tuple[int, int, tuple[int, ...]]:
    return program.source.count("\n"), len(program.source), program.made


def _delete(current: Callable[[], list[int]], attempt: Callable[[list[int]], bool]) -> bool:
    """Take out runs of decisions, long ones first."""
    improved = False
    size = max(1, len(current()) // 2)
    while size:
        at = 0
        while at < len(current()):
            numbers = current()
            if attempt(numbers[:at] + numbers[at + size :]):
                improved = True
            else:
                at += size
        size //= 2
    return improved


def _lower(current: Callable[[], list[int]], attempt: Callable[[list[int]], bool]) -> bool:
    """Make single decisions simpler: 0, else half, else one less."""
    improved = False
    for at in range(len(current())):
        numbers = current()
        if at >= len(numbers) or not numbers[at]:
            continue
        for lower in dict.fromkeys((0, numbers[at] // 2, numbers[at] - 1)):
            if attempt([*numbers[:at], lower, *numbers[at + 1 :]]):
                improved = True
                break
    return improved
