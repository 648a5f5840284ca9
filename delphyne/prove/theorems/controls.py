# SPDX-License-Identifier: Apache-2.0
"""The control registers of a guest: whatever the host asks for, what EL2 needs is set, and of the rest only what the tables below leave to the host.

The bits are named here once more, by their numbers in the Arm ARM (D24.2), so that a slip in EL2's own lists shows. Abilities are any 64 bits.
"""

from __future__ import annotations

import z3  # type: ignore[import-untyped]

from delphyne.el2.arch.hypervisor import Mdcr
from delphyne.el2.kvm import controls
from delphyne.el2.kvm.abilities import Abilities
from delphyne.prove.path import Formula, Term
from delphyne.prove.symbolic import term
from delphyne.prove.theorem import Given, theorem

VM, SWIO, PTW, FMO, IMO, AMO, VF, VI, VSE, FB, BSU_INNER = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
TWI, TWE, TID0, TID1, TID2, TID3, TSC, TIDCP, TACR, TSW, TPCP, TPU, TTLB, TVM = 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26
TDZ, TRVM, RW, TLOR, TERR, TEA, APK, API, FWB, TID4, ATA, TID5 = 28, 30, 31, 35, 36, 37, 40, 41, 46, 49, 56, 58
"""HCR_EL2."""
HELD = (VM, SWIO, PTW, FMO, IMO, AMO, FB, BSU_INNER, TSC, TIDCP, TACR, TSW, TLOR)
"""Set in every guest's HCR_EL2."""
TRAPS = (TWI, TWE, TID0, TID1, TID2, TID3, TID4, TID5, TVM, TRVM, TPCP, TPU, TTLB, TDZ)
"""What an ordinary guest's host may have trapped more."""
VIRTUAL = (VF, VI, VSE)
"""Virtual interrupts."""
TPMCR, TPM, TDE, TDA, TDOSA, TDRA, E2PB, TPMS, TTRF, E2TB = 5, 6, 8, 9, 10, 11, (12, 13), 14, 19, (24, 25)
"""MDCR_EL2."""
TZ, TFP, TSM, TTA, TAM = 8, 10, 12, 20, 30
CPTR_ONES = (*range(8), 9, 13)
"""CPTR_EL2, and what is RES1 of it without E2H but for traps."""
RAS, TAGS, FORCED, AARCH32_EL1, SPOILT = 1, 6, 9, 10, 33
"""Abilities."""


def bit(word: Term, number: int) -> Formula:
    """Whether it is set."""
    return z3.Extract(number, number, word) == 1


def only(word: Term, *numbers: int) -> Formula:
    """No bit but these is set."""
    return word & ~z3.BitVecVal(sum(1 << number for number in numbers), 64) == 0


def all_of(word: Term, *numbers: int) -> Formula:
    """Each of these is set."""
    return z3.And([bit(word, number) for number in numbers])


def same(word: Term, other: Term, *numbers: int) -> Formula:
    """These are in both words alike."""
    mask = z3.BitVecVal(sum(1 << number for number in numbers), 64)
    return word & mask == other & mask


@theorem(controls.hcr, controls.hcr_always, controls.hcr_choice)
def hcr(given: Given) -> None:
    """An ordinary guest's HCR_EL2, for any abilities and any 64 bits of the host's: stage 2 and EL2's traps and interrupts are on, EL1 is AArch64
    where it must be, and no bit is set but for these, more traps, virtual interrupts and what the CPU and the host let the guest have."""
    abilities, asked, authentication = given.u64("abilities"), given.u64("asked"), given.boolean("authentication")
    known = Abilities.of(abilities)
    made = term(controls.hcr(asked, authentication, controls.hcr_always(known), controls.hcr_choice(known)).raw)
    able, wish = term(abilities), term(asked)
    given.require(all_of(made, *HELD), "what every guest's has")
    given.require(only(made, *HELD, *TRAPS, *VIRTUAL, RW, TERR, TEA, APK, API, FWB, ATA), "and nothing else: no TGE, E2H, NV, HCD, DC ..")
    given.require(z3.And(bit(made, TERR) == bit(able, RAS), bit(made, TEA) == bit(able, RAS)), "errors are EL2's where they can be")
    given.require(bit(made, RW) == z3.Or(z3.Not(bit(able, AARCH32_EL1)), bit(wish, RW)), "AArch32 at EL1 only where the processor has it")
    given.require(bit(made, TVM) == z3.Or(bit(able, SPOILT), bit(wish, TVM)), "writes of translation registers trap where the erratum wants it")
    given.require(z3.And(bit(made, APK) == authentication, bit(made, API) == authentication), "pointer authentication only as it was found")
    given.require(bit(made, FWB) == z3.And(bit(able, FORCED), bit(wish, FWB)), "only where the processor has it")
    given.require(bit(made, ATA) == z3.And(bit(able, TAGS), bit(wish, ATA)), "tags likewise")
    given.require(same(made, wish, *VIRTUAL, *(number for number in TRAPS if number != TVM)), "the host's own choice is heard")


@theorem(controls.protected_hcr)
def protected_hcr(given: Given) -> None:
    """A protected guest's, with what is its host's to choose of it: the same bits are on, EL1 is AArch64, EL2 answers its identification registers,
    and neither the host nor an ability gives it pointer authentication, tags, or a bit that it should not have."""
    abilities, asked = given.u64("abilities"), given.u64("asked")
    own = controls.protected_hcr(Abilities.of(abilities))
    made, able = term(own | (asked & controls.PROTECTED_FROM_HOST)), term(abilities)
    given.require(all_of(made, *HELD, RW, TID0, TID3), "what it cannot do without")
    given.require(only(made, *HELD, RW, TID0, TID3, TERR, TEA, TVM, VF, VI, TWI, TWE), "and nothing else")
    given.require(same(made, term(asked), VF, VI, TWI, TWE), "its host injects interrupts and hears of waits, as it chooses")
    given.require(only(made & ~term(own), VF, VI, TWI, TWE), "which is all that it chooses")
    given.require(z3.And(bit(made, TERR) == bit(able, RAS), bit(made, TEA) == bit(able, RAS)), "errors are EL2's where they can be")
    given.require(bit(made, TVM) == bit(able, SPOILT), "writes of translation registers trap where the erratum wants it")


DEBUG_HELD = (TPMCR, TPM, TPMS, TTRF, TDRA, TDOSA)
"""Set in every guest's MDCR_EL2."""
DEBUG_MADE = (*DEBUG_HELD, TDA, TDE, *E2PB, *E2TB)
"""The rest of it is EL2's own value for the host."""
OTHERS = tuple(number for number in range(64) if number not in DEBUG_MADE)


@theorem(controls.mdcr)
def mdcr(given: Given) -> None:
    """An ordinary guest's MDCR_EL2: monitors, profiling and trace trap and no buffer is its own, whatever the host asks; it reaches debug registers
    only if its own are in the processor. The host chooses two traps, and no other bit."""
    asked, dirty, host = given.u64("asked"), given.boolean("dirty"), given.u64("host")
    made = term(controls.mdcr(asked, dirty, Mdcr.of(host)).raw)
    given.require(all_of(made, *DEBUG_HELD), "what every guest's has")
    given.require(z3.Not(z3.Or([bit(made, number) for number in (*E2PB, *E2TB)])), "buffers are not the guest's")
    given.require(bit(made, TDA) == z3.Or(not dirty, bit(term(asked), TDA)), "the debug registers that are there are its own, or trap")
    given.require(bit(made, TDE) == bit(term(asked), TDE), "its debug exceptions go where the host wants them")
    given.require(same(made, term(host), *OTHERS), "how counters are shared out is EL2's")


@theorem(controls.protected_mdcr)
def protected_mdcr(given: Given) -> None:
    """A protected guest's: everything of debug, monitors, profiling and trace traps, no buffer is the guest's, and its breakpoint instructions are
    its own and no one else's. The host has no say."""
    host = given.u64("host")
    made = term(controls.protected_mdcr(Mdcr.of(host)).raw)
    given.require(all_of(made, *DEBUG_HELD, TDA), "all of it traps")
    given.require(z3.Not(z3.Or([bit(made, number) for number in (TDE, *E2PB, *E2TB)])), "buffers are not the guest's, breakpoint instructions are")
    given.require(same(made, term(host), *OTHERS), "how counters are shared out is EL2's")


@theorem(controls.cptr, outcomes=("nothing", "SIMD", "SVE"))
def cptr(given: Given) -> None:
    """Trace, activity monitors and SME trap always. SIMD traps unless it is the guest's, and SVE unless both are."""
    fp, sve = given.boolean("fp"), given.boolean("sve")
    made = term(controls.cptr(fp, sve).raw)
    given.require(all_of(made, TTA, TAM, TSM), "what no guest has")
    given.require(all_of(made, *CPTR_ONES), "what reads as one is written as one")
    given.require(only(made, TTA, TAM, TSM, TFP, TZ, *CPTR_ONES), "and nothing else")
    given.require(bit(made, TFP) != fp, "SIMD")
    given.require(bit(made, TZ) != (fp and sve), "SVE, which has the registers of SIMD in it")
    given.outcome("SVE" if fp and sve else "SIMD" if fp else "nothing")
