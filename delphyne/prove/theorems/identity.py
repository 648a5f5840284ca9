# SPDX-License-Identifier: Apache-2.0
"""What a protected guest is told of its processor: never a feature that it does not have, whatever the processor says of itself.

Identification registers hold any 64 bits. The fields that stay hidden are named here from the Arm ARM (D24.2), by their lowest bits.
"""

from __future__ import annotations

import z3  # type: ignore[import-untyped]

from delphyne.el2.arch.el1 import SystemIss
from delphyne.el2.kvm import identity
from delphyne.prove.path import Term
from delphyne.prove.symbolic import term
from delphyne.prove.theorem import Given, theorem

NAMES = {
    32: "ID_AA64PFR0_EL1", 33: "ID_AA64PFR1_EL1", 40: "ID_AA64DFR0_EL1", 48: "ID_AA64ISAR0_EL1", 49: "ID_AA64ISAR1_EL1", 56: "ID_AA64MMFR0_EL1",
    57: "ID_AA64MMFR1_EL1", 58: "ID_AA64MMFR2_EL1",
}  # fmt: skip
"""Of the registers from S3_0_C0_C0_0 on, eight for each CRm, those that a guest reads as anything but zero."""
CLOSED = {
    32: (8, 12, 28, 32, 36, 40, 44, 52),
    33: (0, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60),
    40: (8, 16, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60),
    48: (0, 24),
    49: (4, 8, 24, 28, 40, 56, 60),
    56: (8, 16, 32, 36, 40, 48, 52, 56, 60),
    57: (4, 8, 16, 28, 32, 40, 44, 48, 52, 56),
    58: (12, 24, 40, 44, 56),
}
"""Fields that read as zero. PFR0: EL2, EL3, RAS, SVE, SEL2, MPAM, AMU, RME; PFR1: all but SSBS, so BT, MTE and SME among them; DFR0: monitors,
profiling, trace and all that is newer; ISAR0: TME; ISAR1: pointer authentication (APA, API, GPA, GPI), SPECRES, XS and LS64; MMFR0: BigEnd and its
like at EL0, the granules of stage 2, FGT, ECV; MMFR1: VMIDBits, VH, LO, XNX, TWED, HCX and newer; MMFR2: IESB, NV, FWB, EVT."""
SAME = {
    32: (16, 20, 24, 48, 56, 60), 33: (4,), 40: (), 48: (4, 8, 12, 16, 20, 28, 32, 36, 40, 44, 48, 52, 56, 60),
    49: (0, 12, 16, 20, 32, 36, 44, 48, 52), 56: (4, 12, 20, 24, 28, 44), 57: (0, 12, 20, 24, 36, 60), 58: (0, 4, 8, 16, 20, 28, 32, 36, 48, 52, 60),
}  # fmt: skip
"""Fields that are the processor's own."""


def value(word: Term, lowest: int) -> Term:
    """A field of four bits."""
    return z3.Extract(lowest + 3, lowest, word)


@theorem(identity.read, outcomes=(*NAMES.values(), "no debug", "nothing"))
def read(given: Given) -> None:
    """For any register and whatever the processor answers: closed fields are zero, others the processor's own or less, so that no guest is shown EL2,
    AArch32, monitors, pointer authentication, tags, SVE or a feature that nobody has thought about."""
    crm, op2 = given.u8("CRm"), given.u8("op2")
    given.assume(z3.ULT(term(crm), 16), z3.ULT(term(op2), 8))
    number = z3.ZeroExt(56, term(crm)) * 8 + z3.ZeroExt(56, term(op2))
    shown = term(identity.read(SystemIss(crm=crm, op2=op2, op0=given.u8("op0") & 3)))
    here = next((each for each in NAMES if given.holds(number == each)), None)
    if here is None:
        given.outcome("nothing")
        given.require(shown == 0, "a register that is not named here tells nothing")
        return
    own = z3.BitVec(f"register {NAMES[here]}", 64)
    for lowest in CLOSED[here]:
        given.require(value(shown, lowest) == 0, f"bits from {lowest} of {NAMES[here]} are closed")
    for lowest in SAME[here]:
        given.require(value(shown, lowest) == value(own, lowest), f"bits from {lowest} of {NAMES[here]} are the processor's")
    others = [lowest for lowest in range(0, 64, 4) if lowest not in (*CLOSED[here], *SAME[here])]
    if here == 32:
        given.require(z3.And(others == [0, 4], value(shown, 0) == 1, value(shown, 4) == 1), "EL0 and EL1 in AArch64, and in nothing else")
    elif here == 40:
        debug = given.holds(z3.UGE(value(own, 0), 6))
        given.outcome(NAMES[here] if debug else "no debug")
        parts = [z3.And(value(shown, 0) == 6, value(shown, 12) == 1, value(shown, 20) == 1)] if debug else [shown == 0]
        given.require(z3.And(others == [0, 4, 12, 20], value(shown, 4) == 0, *parts), "debug of ARMv8.0, where the processor has as much")
        return
    elif here == 56:
        given.require(others == [0], "one field is left")
        given.require(z3.And(z3.ULE(value(shown, 0), value(own, 0)), z3.ULE(value(shown, 0), 2)), "addresses of 40 bits at most, as its stage 2 has")
        given.require(z3.Or(value(shown, 0) == value(own, 0), value(shown, 0) == 2), "and no fewer than both have")
    else:
        given.require(not others, "every field is in one of the lists")
    given.outcome(NAMES[here])


@theorem(identity.is_identification, outcomes=("identification", "another"))
def is_identification(given: Given) -> None:
    """For any trapped access: exactly the registers that HCR_EL2.TID3 traps, by all four parts of the name: S3_0_C0_C1_0 to S3_0_C0_C7_7."""
    iss = SystemIss.of(given.u64("iss"))
    found = identity.is_identification(iss)
    given.outcome("identification" if found else "another")
    named = z3.And(term(iss.op0) == 3, term(iss.op1) == 0, term(iss.crn) == 0, z3.ULE(1, term(iss.crm)), z3.ULE(term(iss.crm), 7))
    given.require(named == found, "by its name")


@theorem(identity._fields)
def fields(given: Given) -> None:
    """A list of fields is all four bits of each of them, and no other bit: what is not listed stays hidden."""
    first, second = (int(given.one_of(name, tuple(range(0, 64, 4)))) for name in ("first", "second"))
    given.assume(first < second)
    mask, bit = term(identity._fields(first, second)), given.word("bit", 64)
    given.assume(z3.ULT(bit, 64))
    within = z3.Or([z3.And(z3.UGE(bit, lowest), z3.ULE(bit, lowest + 3)) for lowest in (first, second)])
    given.require(((mask >> bit) & 1 == 1) == within, "exactly those bits")
