# SPDX-License-Identifier: Apache-2.0
"""Upkeep of the data and instruction caches for ranges of memory (Arm ARM B2.4, D7.5). No lock, no state."""

from __future__ import annotations

from delphyne.el2.arch.identification import CTR_EL0
from delphyne.lang import Domain, Va, assembly, dc_civac, dsb, ic_ialluis, isb, u64


def clean_range(start: Va, size: u64) -> None:
    """Cleans and invalidates the data cache lines of a range to the point of coherency, and waits for it."""
    line = u64(4) << u64(CTR_EL0.read().dmin_line)
    clean_lines(start.align_down(line), start + size, line)
    dsb(Domain.SY)


@assembly
def clean_lines(at: Va, end: Va, line: u64) -> None:
    """Cleans and invalidates the lines of `line` bytes from `at`, which is aligned, up to `end`. In assembly, because a page that becomes a protected
    guest's, or leaves it, is cleaned twice."""
    while at < end:
        dc_civac(at)
        at = at + line


def forget_instructions() -> None:
    """No processor executes what stood where something else stands by now, which was cleaned before."""
    ic_ialluis()
    dsb(Domain.ISH)
    isb()
