# SPDX-License-Identifier: Apache-2.0
"""Upkeep of the data and instruction caches for ranges of memory (Arm ARM B2.4, D7.5). No lock, no state."""

from __future__ import annotations

from delphyne.el2.arch.identification import CTR_EL0, DCZID_EL0
from delphyne.el2.arch.pagetable import PAGE_SIZE
from delphyne.lang import Domain, Pa, Va, assembly, dc_civac, dc_zva, dsb, ic_ialluis, isb, owned, u8, u64


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


def zero_page(page: Pa) -> None:
    """Zeroes a page of RAM, by whole blocks where the processor lets EL2 (DC ZVA, Arm ARM C6.2; a block is at most half a page)."""
    blocks = DCZID_EL0.read()
    if blocks.prohibited:
        with owned(page, PAGE_SIZE) as window:
            window.fill(u8(0))
    else:
        zero_blocks(Va(page.raw), Va(page.raw) + PAGE_SIZE, u64(4) << u64(blocks.block))


@assembly
def zero_blocks(at: Va, end: Va, block: u64) -> None:
    """Zeroes the blocks of `block` bytes, what DCZID_EL0 says, from `at`, which is aligned, up to `end`."""
    while at < end:
        dc_zva(at)
        at = at + block


def clear_page(page: Pa) -> None:
    """Zeroes a page of RAM, and leaves nothing of it in any data cache. What caches had of it before does not matter: each line is written whole, and
    cleaned after that, which a processor does to one line in program order (Arm ARM D7.5, ordering of data cache instructions)."""
    blocks = DCZID_EL0.read()
    line = u64(4) << u64(CTR_EL0.read().dmin_line)
    if not blocks.prohibited and u64(4) << u64(blocks.block) == line:
        clear_lines(Va(page.raw), Va(page.raw) + PAGE_SIZE, line)
        dsb(Domain.SY)
    else:
        zero_page(page)
        clean_range(Va(page.raw), PAGE_SIZE)


@assembly
def clear_lines(at: Va, end: Va, line: u64) -> None:
    """Zeroes, cleans and invalidates the lines of `line` bytes from `at`, which is aligned, up to `end`; DC ZVA zeroes as much."""
    while at < end:
        dc_zva(at)
        dc_civac(at)
        at = at + line


def forget_instructions() -> None:
    """No processor executes what stood where something else stands by now, which was cleaned before."""
    ic_ialluis()
    dsb(Domain.ISH)
    isb()
