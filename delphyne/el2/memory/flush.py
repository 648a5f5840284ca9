# SPDX-License-Identifier: Apache-2.0
"""Making every processor forget what it remembers of a translation table.

Arm ARM D8.16 (TLB maintenance) and D8.17.1 (break-before-make). Each function here begins with a barrier that completes the stores to the tables, and
returns when no processor of the inner shareable domain uses what they replaced. No lock, no state; the caller holds the lock of the
tables, so that nobody puts a new descriptor in before the old one is forgotten.
"""

from __future__ import annotations

from delphyne.el2.arch.pagetable import VTTBR_EL2, Vttbr
from delphyne.lang import Domain, Ipa, Va, dsb, isb, tlbi_ipas2e1is, tlbi_vae2is, tlbi_vmalle1is, tlbi_vmalls12e1is


def stage2_address(tables: Vttbr, ipa: Ipa) -> None:
    """Forget what led to or through the descriptor for `ipa`, block or page, in the tables of this VMID; intermediate levels too."""
    dsb(Domain.ISHST)
    before = _enter(tables)
    tlbi_ipas2e1is(ipa)
    dsb(Domain.ISH)
    # A combined entry of both stages is found by virtual address only, so that all of the VMID's stage 1 goes.
    tlbi_vmalle1is()
    dsb(Domain.ISH)
    isb()
    _leave(tables, before)


def stage2_all(tables: Vttbr) -> None:
    """Forget everything of this VMID."""
    dsb(Domain.ISHST)
    before = _enter(tables)
    tlbi_vmalls12e1is()
    dsb(Domain.ISH)
    isb()
    _leave(tables, before)


def el2_address(va: Va) -> None:
    """Forget what led to or through the descriptor for `va` in EL2's own tables."""
    dsb(Domain.ISHST)
    tlbi_vae2is(va)
    dsb(Domain.ISH)
    isb()


def _enter(tables: Vttbr) -> Vttbr:
    """Make `tables` current, since the operations on stage 2 act on the current VMID; returns what was."""
    # EL1's regime is out of context here and nothing walks it but an AT instruction, so that VTCR_EL2 and EL1's registers can stay.
    before = VTTBR_EL2.read()
    if before != tables:
        VTTBR_EL2.write(tables)
        isb()
    return before


def _leave(tables: Vttbr, before: Vttbr) -> None:
    if before != tables:
        VTTBR_EL2.write(before)
        isb()
