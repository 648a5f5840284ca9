# SPDX-License-Identifier: Apache-2.0
"""Where the switch between host and guest reads and writes: whatever a kernel says of its structures, inside those whose frames are checked.

Offsets and sizes are any 32 bits each. How wide an access is, is taken from the tables of the simulated switch, which a test holds against the
assembly; which member belongs to a place, and how much of it there is, is said here once more.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import z3  # type: ignore[import-untyped]

from delphyne.el2.arch.err import Err
from delphyne.el2.arch.world import Asked, Places
from delphyne.el2.kvm import places
from delphyne.el2.kvm.layout import Layout
from delphyne.el2.kvm.names import Field, Register, Subject
from delphyne.lang import u64
from delphyne.lang.machine import switch
from delphyne.prove.path import Formula, Term
from delphyne.prove.symbolic import decide, integer, term
from delphyne.prove.theorem import Given, theorem

MOVED = {name: 8 for name, _ in (*switch.SHARED, *switch.ALONE, *switch.ONLY32, *switch.KEYS)}
ASKED = {name: switch.ASKED_BYTES.get(name, 8) for name in Asked.__annotations__}
SINGLE = {
    "pmu_host": 8, "pmu_guest": 8, "mpidr": 8, "fault_esr": 8, "fault_far": 8, "fault_hpfar": 8, "fault_disr": 8, "vsesr": 8, "disr": 8,
    "mdccint": 8, "debug_ptr": 8, "zcr": 8, "gic_vmcr": 4, "gic_ap0r": 4 * 4, "gic_ap1r": 4 * 4,
    "list_registers": 16 * 8, "regs": 34 * 8, "fp": 32 * 16 + 2 * 4,
}  # fmt: skip
"""What EL2 reads and writes by `asked_word` and its like, and arrays at their longest."""
WIDTHS = {**MOVED, **ASKED, **SINGLE}
"""Bytes, for each place that is one."""
NO_PLACES = {"gic", "pmu_counters"}

CONTROLS = {
    "hcr": Field.VCPU_HCR, "mdcr": Field.VCPU_MDCR, "hw_mmu": Field.VCPU_HW_MMU, "pmu_host": Field.VCPU_PMU_HOST, "pmu_guest": Field.VCPU_PMU_GUEST,
    "iflags": Field.VCPU_IFLAGS, "cflags": Field.VCPU_CFLAGS, "fault_esr": Field.VCPU_FAULT_ESR, "fault_far": Field.VCPU_FAULT_FAR,
    "fault_hpfar": Field.VCPU_FAULT_HPFAR, "fault_disr": Field.VCPU_FAULT_DISR, "spsr_abt": Field.VCPU_SPSR_ABT, "spsr_und": Field.VCPU_SPSR_UND,
    "spsr_irq": Field.VCPU_SPSR_IRQ, "spsr_fiq": Field.VCPU_SPSR_FIQ, "vsesr": Field.VCPU_VSESR,
}  # fmt: skip
MEMBERS = {**CONTROLS, "regs": Field.VCPU_REGS, "fp": Field.VCPU_FP_REGS, "debug_ptr": Field.VCPU_DEBUG_PTR}
OF_GIC = {
    "gic_hcr": Field.VGIC_HCR, "gic_vmcr": Field.VGIC_VMCR, "gic_sre": Field.VGIC_SRE, "used_lrs": Field.VGIC_USED_LRS, "its_vm": Field.VGIC_ITS_VM,
    "gic_ap0r": Field.VGIC_AP0R, "gic_ap1r": Field.VGIC_AP1R, "list_registers": Field.VGIC_LR,
}  # fmt: skip
OF_MMU = {"mmu_pgd": Field.MMU_PGD, "mmu_vmid": Field.MMU_VMID}
NOT_PLACED = {Field.VCPU_SVE_STATE: 8, Field.VCPU_SVE_MAX_VL: 4}
"""What is read of `kvm_vcpu` by its offset itself (seats.py)."""
WHOLE = {"fp": 528}
"""Bytes of a member where more of it has to be there than is used."""
RENAMED = {
    "tpidr1": Register.TPIDR_EL1, "tpidr0": Register.TPIDR_EL0, "tpidrro": Register.TPIDRRO_EL0, "sp1": Register.SP_EL1, "elr1": Register.ELR_EL1,
    "spsr1": Register.SPSR_EL1, "dacr32": Register.DACR32_EL2, "ifsr32": Register.IFSR32_EL2, "fpexc32": Register.FPEXC32_EL2,
    "dbgvcr32": Register.DBGVCR32_EL2,
    **{f"ap{key}_{half}": Register[f"AP{key.upper()}KEY{end}_EL1"] for key in ("ia", "ib", "da", "db", "ga") for half, end in
       (("low", "LO"), ("high", "HI"))},
}  # fmt: skip
REGISTERS = {
    name: RENAMED[name] if name in RENAMED else Register[f"{name.upper()}_EL1"]
    for name in Places.__annotations__ if name not in {*MEMBERS, *OF_GIC, *OF_MMU, *NO_PLACES, "pc", "pstate"}
}  # fmt: skip
EIGHT = z3.BitVecVal(8, 64)
PC, PSTATE = 8 * 32, 8 * 33
"""In struct user_pt_regs."""


FITS = z3.Function("fits", *[z3.BitVecSort(64)] * 3, z3.BoolSort())
"""What `_fits` answers, of which `fill` is told nothing but what the theorems about it state."""


def fits(at: Term, length: int | Term, size: int | Term) -> Formula:
    """`length` bytes at `at` lie in a structure of `size` bytes."""
    words = [z3.BitVecVal(word, 64) if isinstance(word, int) else z3.simplify(word) for word in (at, length, size)]
    return FITS(*words)


def wide(at: Term, length: Term, size: Term) -> Formula:
    """The same in numbers that do not overflow."""
    first, count, end = (z3.ZeroExt(1, word) for word in (at, length, size))
    return z3.ULE(first + count, end)


class Kernel:
    """A layout with any offsets and sizes, and places that hold anything."""

    def __init__(self, given: Given, fields: Iterable[Field] = Field) -> None:
        self.given, self.found, self.places = given, Layout(), Places()
        for field in fields:
            self.found.offsets[u64(field.raw)] = given.u32(f"offset of {field.name}")
        for subject in (Subject.VCPU, Subject.MMU, Subject.VGIC):
            self.found.sizes[u64(subject.raw)] = given.u32(f"size of {subject.name}")
        before = given.u64("what each place was before")
        for name in Places.__annotations__:
            setattr(self.places, name, before)
        given.replace(places._fits, lambda at, length, size: decide(fits(term(at), term(length), term(size))))
        self.registers = {register: z3.ZeroExt(31, given.word(f"place of {register.name}", 33)) for register in Register}

    def size(self, subject: Subject) -> Term:
        """Bytes of a structure."""
        return z3.ZeroExt(32, term(self.found.sizes[u64(subject.raw)]))

    def offset(self, field: Field) -> Term:
        """Bytes from the start of its structure."""
        return z3.ZeroExt(32, term(self.found.offsets[u64(field.raw)]))

    def place(self, name: str) -> Term:
        """What was found."""
        return term(getattr(self.places, name))

    def controls_fit(self) -> Formula:
        """Every member that has to do with a run."""
        return z3.And([fits(self.offset(field), WIDTHS[name], self.size(Subject.VCPU)) for name, field in CONTROLS.items()])

    def fill_controls(self, found: Layout, size: u64, into: Places) -> Err | None:
        """In place of `_fill_controls`."""
        for name, field in CONTROLS.items():
            setattr(into, name, integer(self.offset(field)))
        return None if decide(self.controls_fit()) else Err.RANGE

    def is_sound(self) -> Formula:
        """Every member lies in its structure, struct vgic_v3_cpu_if in `kvm_vcpu`, and what is moved in pairs is aligned to one of a pair."""
        vcpu, gic, mmu = (self.size(subject) for subject in (Subject.VCPU, Subject.VGIC, Subject.MMU))
        rows = [(field, WHOLE.get(name, WIDTHS[name]), vcpu) for name, field in MEMBERS.items() if name not in CONTROLS]
        rows += [(field, WIDTHS[name], gic) for name, field in OF_GIC.items()]
        rows += [(field, WIDTHS[name], mmu) for name, field in OF_MMU.items()]
        rows += [(field, width, vcpu) for field, width in NOT_PLACED.items()]
        aligned = z3.And(self.offset(Field.VCPU_FP_REGS) & 15 == 0, self.offset(Field.VCPU_REGS) & 7 == 0)
        within = fits(self.offset(Field.VCPU_VGIC), gic, vcpu)
        return z3.And(aligned, within, self.controls_fit(), *(fits(self.offset(field), width, size) for field, width, size in rows))


@theorem(places._fill_controls, places._member, outcomes=("filled", "refused"), assumes=("places.fits_exactly", "places.counters"))
def fill_controls(given: Given) -> None:
    """None exactly where each of these members lies in `kvm_vcpu` whole; each place is that of its own member."""
    kernel, size = Kernel(given, CONTROLS.values()), Subject.VCPU.raw
    counters, asked = given.u64("counters"), []

    def bits(host: u64, guest: u64) -> u64:
        asked.append((term(host), term(guest)))
        return counters

    given.replace(places._counters, bits)
    filled = places._fill_controls(kernel.found, u64(kernel.found.sizes[u64(size)]), kernel.places) is None
    given.outcome("filled" if filled else "refused")
    given.require(kernel.controls_fit() == filled, "exactly if every member lies in the structure")
    given.require(z3.And([kernel.place(name) == kernel.offset(field) for name, field in CONTROLS.items()]), "the places of the members")
    host, guest = asked[0]
    given.require(z3.And(host == kernel.place("pmu_host"), guest == kernel.place("pmu_guest")), "counters by where both members lie")
    given.require(kernel.place("pmu_counters") == term(counters), "the bits of a member")


@theorem(places.fill, places._fill_interrupts, places._fill_registers, places._fill_registers32, places._fill_keys,
         places._member, outcomes=("filled", "refused"),
         assumes=("places.fits_exactly", "places.nested", "places.register", "places.fill_controls"),
         trusts=("places: widths are those of lang/machine/switch.py, which tests/kvm/test_guest_runs.py holds against the assembly",))
def fill(given: Given) -> None:
    """None exactly where each member lies in its structure whole. All that the switch then touches, in its full width, lies inside `kvm_vcpu`, or
    `kvm_s2_mmu` for two words; what is the GIC's lies inside struct vgic_v3_cpu_if, wherever one is; and each place is that of its own member."""
    kernel = Kernel(given)
    vcpu, gic, mmu = (kernel.size(subject) for subject in (Subject.VCPU, Subject.VGIC, Subject.MMU))
    given.replace(places._fill_controls, kernel.fill_controls)
    given.replace(places._register, lambda found, register: integer(kernel.registers[register]))
    filled = places.fill(kernel.found, kernel.places) is None
    given.outcome("filled" if filled else "refused")
    given.require(kernel.is_sound() == filled, "exactly if every member lies in its structure")
    if not filled:
        return
    regs, fp, start = kernel.place("regs"), kernel.place("fp"), kernel.place("gic")
    for name, field in (*MEMBERS.items(), *OF_MMU.items()):
        given.require(kernel.place(name) == kernel.offset(field), f"{name} is there")
    given.require(start == kernel.offset(Field.VCPU_VGIC), "the GIC's structure")
    for name, field in OF_GIC.items():
        given.require(kernel.place(name) - start == kernel.offset(field), f"{name} is there")
        given.require(fits(kernel.place(name) - start, WIDTHS[name], gic), f"{name} is the GIC's own")
    for name, register in REGISTERS.items():
        given.require(kernel.place(name) == kernel.registers[register], f"{name} is there")
    given.require(z3.And(kernel.place("pc") == regs + PC, kernel.place("pstate") == regs + PSTATE), "behind the general registers")
    given.assume(*(fits(place, 8, vcpu) for place in kernel.registers.values()))
    given.assume(*(nests(regs, WIDTHS["regs"], vcpu, z3.BitVecVal(at, 64), 8) for at in (PC, PSTATE)))
    given.assume(nests(fp, WHOLE["fp"], vcpu, z3.BitVecVal(0, 64), WIDTHS["fp"]))
    given.assume(*(nests(start, gic, vcpu, kernel.offset(field), WIDTHS[name]) for name, field in OF_GIC.items()))
    for name, width in WIDTHS.items():
        given.require(fits(kernel.place(name), width, mmu if name in OF_MMU else vcpu), f"{name} lies inside")
    given.require({*WIDTHS, *NO_PLACES} == set(Places.__annotations__), "which is every place")


def nests(outer: Term, length: int | Term, size: Term, inner: Term, width: int) -> Formula:
    """What `nested` says of these; of numbers that are known it needs no answer of `_fits`."""
    known = isinstance(length, int) and z3.is_bv_value(inner)
    within = z3.BoolVal(inner.as_long() + width <= length) if known else fits(inner, width, length)
    return z3.Implies(z3.And(fits(outer, length, size), within), fits(outer + inner, width, size))


@theorem(places._fits)
def nested(given: Given) -> None:
    """What lies in a structure that lies in another lies in that one, by both offsets. Of numbers that a `Layout` can have."""
    words = ("outer", "length", "size", "inner", "width")
    outer, length, size, inner, width = (integer(z3.ZeroExt(32, given.word(name, 32))) for name in words)
    if places._fits(outer, length, size) and places._fits(inner, width, length):
        given.lemma(z3.And(wide(term(outer), term(length), term(size)), wide(term(inner), term(width), term(length))), "as sums")
        given.require(wide(term(outer) + term(inner), term(width), term(size)), "inside")


@theorem(places._fits, outcomes=("inside", "outside"))
def fits_exactly(given: Given) -> None:
    """Any 64 bits of each: true exactly if the sum, which may be a 65th bit's, is at most the size. Nothing overflows."""
    at, length, size = given.u64("at"), given.u64("length"), given.u64("size")
    inside = places._fits(at, length, size)
    given.outcome("inside" if inside else "outside")
    given.require(wide(term(at), term(length), term(size)) == inside, "the bytes are inside")


@theorem(places._register, outcomes=("kept", "not kept"),
         bounds=("layout._read_register leaves no index but NO_REGISTER and those of registers inside kvm_vcpu (tests/kvm)",))
def register(given: Given) -> None:
    """For any register: 0, which is no place of a register that is moved, where the kernel does not keep it, else eight bytes of `kvm_vcpu`."""
    number, found = given.u64("register"), Layout()
    given.assume(z3.ULT(term(number), len(Register)))
    for each in Register:
        found.registers[u64(each.raw)] = given.u16(f"index of {each.name}")
    index, at, size = found.registers[number], given.u32("offset of the registers"), given.u32("size")
    given.assume(z3.Or(term(index) == 0xFFFF, wide(z3.ZeroExt(32, term(at)) + (z3.ZeroExt(48, term(index)) << 3), EIGHT, z3.ZeroExt(32, term(size)))))
    found.offsets[u64(Field.VCPU_SYS_REGS.raw)] = at
    named: Any = SimpleNamespace(raw=number)
    place = term(places._register(found, named))
    kept = given.holds(term(index) != 0xFFFF)
    given.outcome("kept" if kept else "not kept")
    wanted = z3.ZeroExt(32, term(at)) + z3.ZeroExt(48, term(index)) * 8
    given.require(place == wanted if kept else place == 0, "its own element of sys_regs")
    given.require(z3.Implies(z3.UGE(term(size), 8), wide(place, EIGHT, z3.ZeroExt(32, term(size)))), "eight bytes of `kvm_vcpu` from it are there")


@theorem(places._counters, outcomes=("doublewords", "words"))
def counters(given: Given) -> None:
    """For members of struct kvm_pmu_events anywhere, in either order: all 64 bits exactly if the second begins eight bytes behind the first, else
    the 32 that are its own where they are words."""
    host, guest = (integer(z3.ZeroExt(32, given.word(name, 32))) for name in ("host", "guest"))
    made, apart = term(places._counters(host, guest)), given.holds(term(guest) == term(host) + 8)
    given.outcome("doublewords" if apart else "words")
    given.require(made == z3.BitVecVal((1 << 64) - 1 if apart else (1 << 32) - 1, 64), "as many as it has")
