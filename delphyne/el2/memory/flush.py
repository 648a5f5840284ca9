# SPDX-License-Identifier: Apache-2.0
"""Making every processor forget what it remembers of a translation table.

Arm ARM D8.16 (TLB maintenance) and D8.17.1 (break-before-make). Each function here begins with a barrier that completes the stores to the tables, and
returns when no processor of the inner shareable domain uses what they replaced. No lock; the caller holds the lock of the tables, so that nobody puts
a new descriptor in before the old one is forgotten.

Where one processor of the machine may still use a translation when the DSB behind its invalidation has completed, both are done twice on all of them
(`arch/errata.py`, `repeat_invalidation`).
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch import errata
from delphyne.el2.arch.el1 import TCR_EL1
from delphyne.el2.arch.pagetable import VTTBR_EL2, Vttbr
from delphyne.lang import (
    AtomicU32,
    Domain,
    Ipa,
    Order,
    Va,
    apart,
    dsb,
    isb,
    tlbi_ipas2e1is,
    tlbi_vae2is,
    tlbi_vmalle1is,
    tlbi_vmalls12e1is,
    u32,
    u64,
    value,
)

TCR_NO_WALKS: Final = u64(1 << 7 | 1 << 23)
"""TCR_EL1.EPD0 and EPD1."""
REPEATED: Final = AtomicU32()
"""Not 0 where some processor that runs needs everything twice."""


@value
class Entered:
    """What was current before another's tables were, and whether it was another's at all."""

    vttbr: Vttbr
    tcr: u64
    changed: bool


def note_processor() -> None:
    """This processor's translations matter from now on: before it has any that EL2 could have to take away, and whoever takes one away sees it."""
    if errata.find().repeat_invalidation:
        REPEATED.store(u32(1), Order.RELAXED)
        dsb(Domain.ISH)


def stage2_address(tables: Vttbr, ipa: Ipa) -> None:
    """Forget what led to or through the descriptor for `ipa`, block or page, in the tables of this VMID; intermediate levels too."""
    dsb(Domain.ISHST)
    before = enter(tables)
    tlbi_ipas2e1is(ipa)
    dsb(Domain.ISH)
    # A combined entry of both stages is found by virtual address only, so that all of the VMID's stage 1 goes.
    tlbi_vmalle1is()
    dsb(Domain.ISH)
    if REPEATED.load(Order.RELAXED) != 0:
        _stage2_address_again(ipa)
    isb()
    leave(before)


@apart
def _stage2_address_again(ipa: Ipa) -> None:
    tlbi_ipas2e1is(ipa)
    dsb(Domain.ISH)
    tlbi_vmalle1is()
    dsb(Domain.ISH)


def stage2_all(tables: Vttbr) -> None:
    """Forget everything of this VMID."""
    dsb(Domain.ISHST)
    before = enter(tables)
    tlbi_vmalls12e1is()
    dsb(Domain.ISH)
    if REPEATED.load(Order.RELAXED) != 0:
        tlbi_vmalls12e1is()
        dsb(Domain.ISH)
    isb()
    leave(before)


def el2_address(va: Va) -> None:
    """Forget what led to or through the descriptor for `va` in EL2's own tables."""
    dsb(Domain.ISHST)
    tlbi_vae2is(va)
    dsb(Domain.ISH)
    if REPEATED.load(Order.RELAXED) != 0:
        tlbi_vae2is(va)
        dsb(Domain.ISH)
    isb()


def enter(tables: Vttbr) -> Entered:
    """Make `tables` current, since the operations on stage 2 act on the current VMID; returns what was.

    EL1's regime is out of context here and nothing walks it but an AT instruction, so that VTCR_EL2 and EL1's registers can stay; but processors
    with errata 1319367 and 1319537 may walk on their own, which TCR_EL1 forbids while the VMID is another's."""
    before = VTTBR_EL2.read()
    if before == tables:
        return Entered(before, u64(0), False)
    tcr = TCR_EL1.read()
    TCR_EL1.write(tcr | TCR_NO_WALKS)
    isb()
    VTTBR_EL2.write(tables)
    isb()
    return Entered(before, tcr, True)


def leave(entered: Entered) -> None:
    """Make current again what was."""
    if entered.changed:
        VTTBR_EL2.write(entered.vttbr)
        isb()
        TCR_EL1.write(entered.tcr)
