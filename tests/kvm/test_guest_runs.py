# SPDX-License-Identifier: Apache-2.0
"""Runs of vCPUs from the host's call to its answer, with guests that a test plays."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from guest_runs import (
    AUTHENTICATION,
    BREAKPOINTS,
    DEBUG_BYTES,
    EL0T,
    EL1H,
    HOST_CONTROLS,
    HOST_HCR,
    IRQ,
    LIST_REGISTERS,
    PLAIN_CPU,
    RAS,
    SERROR,
    SVC32,
    SVE,
    SYNC,
    VCPU_BYTES,
    WATCHPOINTS,
    WORD,
    Left,
    Runs,
)
from guests_world import DEVICE, GUEST_MEMORY, READ, TRANSLATION, a_world, attributes
from hypothesis import given, settings
from hypothesis import strategies as st

from delphyne.el2.arch import world
from delphyne.el2.arch.err import Err
from delphyne.el2.arch.frame import Frame
from delphyne.el2.arch.hypervisor import Hcr
from delphyne.el2.arch.world import Asked, Places
from delphyne.el2.guest import vcpus
from delphyne.el2.kvm import controls, exit_codes, fp, seats, vcpu_run
from delphyne.el2.kvm.abilities import Abilities
from delphyne.el2.kvm.names import Field
from delphyne.lang import u64
from delphyne.lang.machine import Machine, MachineError, switch
from delphyne.lang.machine.errors import GuestFault

SEEDS = st.integers(min_value=0, max_value=WORD)
WORDS = st.integers(min_value=0, max_value=WORD)
EXTREMES = st.one_of(st.just(WORD), st.just(0), WORDS)

MOVED = dict((*switch.SHARED, *switch.ALONE))
LOADED_ONLY = {"mpidr": "VMPIDR_EL2", "vsesr": "VSESR_EL2"}
"""Places that a guest's registers come from and never go to."""
AT_TIMES = {**dict(switch.ONLY32), **dict(switch.KEYS), "disr": "VDISR_EL2", "mdccint": "MDCCINT_EL1", "zcr": "ZCR_EL1", "gic_vmcr": "ICH_VMCR_EL2"}
"""Moved where a guest has them."""
ANSWERS = {"pc", "pstate", "iflags", "hcr", "fault_esr", "fault_far", "fault_hpfar", "fault_disr"}
"""What a host reads after a run."""
ROWS = {"regs", "fp", "list_registers"}
"""Where several registers lie in a row."""
BY_CALLS = {"gic", "gic_ap0r", "gic_ap1r"}
"""Not of a run, but of the host's other calls (kvm/vgic_calls.py)."""
QUESTIONS = {"mdcr", "hw_mmu", "pmu_host", "pmu_guest", "cflags", "gic_hcr", "gic_sre", "used_lrs", "its_vm", "mmu_pgd", "mmu_vmid", "debug_ptr"}
"""Read, and never written."""
NO_PLACES = {"pmu_counters"}


def fault(ec: int, iss: int = 0) -> int:
    return ec << 26 | 1 << 25 | iss


HVC = fault(0x16)
FP_ACCESS = fault(0x07)
SVE_ACCESS = fault(0x19)


@contextmanager
def runs(seed: int = 0, cpu: dict[str, int] | None = None, cpus: int = 1) -> Iterator[Runs]:
    with a_world(cpus) as made:
        yield Runs(made, made.new_vm(), seed=seed, cpu=cpu)


def test_every_place_is_spoken_of_here() -> None:
    groups = [set(MOVED), set(LOADED_ONLY), set(AT_TIMES), ANSWERS, ROWS, BY_CALLS, QUESTIONS, NO_PLACES]
    assert set().union(*groups) == set(Places.__annotations__)
    assert sum(map(len, groups)) == len(Places.__annotations__)
    assert set(Asked.__annotations__) <= set(Places.__annotations__)


def _differing(before: bytes, after: bytes) -> set[int]:
    return {at & ~7 for at in range(len(before)) if before[at] != after[at]}


# --- registers change hands ------------------------------------------------------------------------------------------------------------


@given(seed=SEEDS)
@settings(max_examples=25, deadline=None)
def test_registers_are_exchanged_and_come_back(seed: int) -> None:
    with runs(seed) as one:
        host = one.host_registers()
        before = one.bytes()
        wanted = {register: one.get(name) for name, register in (*MOVED.items(), ("mpidr", "VMPIDR_EL2"), ("pc", "ELR_EL2"), ("pstate", "SPSR_EL2"))}
        one.machine.write_register("VMPIDR_EL2", 0x8000_0007)
        seen: dict[str, int] = {}
        left: dict[str, int] = {}

        def stay() -> Left:
            seen.update(one.registers(list(wanted)))
            left.update(one.scramble([*MOVED.values(), "ELR_EL2"]))
            one.machine.write_register("SPSR_EL2", EL0T)
            return Left(IRQ)

        one.stays = [stay]
        assert one.run() == exit_codes.EXIT_IRQ
        assert seen == wanted
        assert one.registers(list(host)) == host
        assert one.registers(list(HOST_CONTROLS)) == HOST_CONTROLS
        assert one.machine.read_register("VMPIDR_EL2") == 0x8000_0007
        assert {name: one.get(name) for name in MOVED} == {name: left[register] for name, register in MOVED.items()}
        assert (one.get("pc"), one.get("pstate")) == (left["ELR_EL2"], EL0T)
        written = {one.at(name) - one.vcpu for name in (*MOVED, "pc", "pstate")}
        assert _differing(before, one.bytes()) <= written


@given(seed=SEEDS)
@settings(max_examples=25, deadline=None)
def test_registers_of_aarch32_are_exchanged_too(seed: int) -> None:
    """FPEXC32_EL2 among them, which the guest's CPTR_EL2 traps while it is in use: the simulated machine minds."""
    with runs(seed) as one:
        host = one.host_registers()
        one.put("hcr", 0)
        one.put("pstate", SVC32)
        wanted = {register: one.get(name) for name, register in switch.ONLY32}
        seen: dict[str, int] = {}
        left: dict[str, int] = {}

        def stay() -> Left:
            seen.update(one.registers(list(wanted)))
            left.update(one.scramble(list(wanted)))
            return Left(IRQ)

        one.stays = [stay]
        assert one.run() == exit_codes.EXIT_IRQ
        assert seen == wanted
        assert {register: one.get(name) for name, register in switch.ONLY32} == left
        assert one.registers(list(host)) == host


def test_a_guest_of_aarch64_leaves_the_registers_of_aarch32_alone() -> None:
    with runs() as one:
        before = {name: one.get(name) for name, _ in switch.ONLY32}
        held = one.scramble([register for _, register in switch.ONLY32])
        assert one.run() == exit_codes.EXIT_IRQ
        assert one.registers(list(held)) == held
        assert {name: one.get(name) for name, _ in switch.ONLY32} == before


@given(seed=SEEDS, promised=st.booleans())
@settings(max_examples=20, deadline=None)
def test_keys_change_hands_where_the_guest_has_them(seed: int, promised: bool) -> None:
    with runs(seed, AUTHENTICATION) as one:
        names = [register for _, register in switch.KEYS]
        host = one.scramble(names)
        one.put("cflags", int(controls.HAS_AUTHENTICATION) if promised else 0)
        wanted = {register: one.get(name) for name, register in switch.KEYS} if promised else host
        seen: dict[str, int] = {}
        left: dict[str, int] = {}

        def stay() -> Left:
            seen.update(one.registers(names))
            if promised:
                left.update(one.scramble(names))
            return Left(IRQ)

        one.stays = [stay]
        before = {register: one.get(name) for name, register in switch.KEYS}
        one.run()
        assert seen == wanted
        assert one.registers(names) == host
        assert {register: one.get(name) for name, register in switch.KEYS} == (left if promised else before)


@given(seed=SEEDS, count=st.integers(min_value=0, max_value=1 << 31))
@settings(max_examples=25, deadline=None)
def test_list_registers_go_as_far_as_the_processor_has_them(seed: int, count: int) -> None:
    with runs(seed) as one:
        one.put("used_lrs", count)
        used = min(count, LIST_REGISTERS)
        names = [f"ICH_LR{number}_EL2" for number in range(16)]
        held = one.scramble(names[used:])
        wanted = {name: one.word("list_registers", number) for number, name in enumerate(names[:used])}
        beyond = [one.word("list_registers", number) for number in range(used, 16)]
        seen: dict[str, int] = {}
        left: dict[str, int] = {}

        def stay() -> Left:
            seen.update(one.registers(names[:used]))
            left.update(one.scramble(names[:used]))
            return Left(IRQ)

        one.stays = [stay]
        one.run()
        assert seen == wanted
        assert [one.word("list_registers", number) for number in range(used)] == list(left.values())
        assert [one.word("list_registers", number) for number in range(used, 16)] == beyond
        assert one.registers(names) == {**dict.fromkeys(names[:used], 0), **held}


def test_a_gicv2_has_its_controls_around_the_run() -> None:
    with runs() as one:
        one.put("gic_sre", 0)
        one.put("gic_vmcr", 0x1234_5678)
        seen: list[tuple[int, int]] = []

        def stay() -> Left:
            seen.append((one.machine.read_register("ICC_SRE_EL1") & 1, one.machine.read_register("ICH_VMCR_EL2")))
            one.machine.write_register("ICH_VMCR_EL2", 0x8765_4321)
            return Left(IRQ)

        one.stays = [stay]
        one.run()
        assert seen == [(0, 0x1234_5678)]
        assert one.get("gic_vmcr") == 0x8765_4321
        assert one.machine.read_register("ICC_SRE_EL1") & 1


@pytest.mark.parametrize(("processor", "code"), [(0x0100_0022, exit_codes.EXIT_IRQ), (0x0000_0022, exit_codes.EXIT_TRAP)])
def test_a_gicv2_has_no_registers_that_el2_could_use_for_a_guest(processor: int, code: int) -> None:
    """6.12 sets the trap bits of a GICv3's ICH_HCR_EL2 for each guest with a GICv2, on hosts with a GICv2 too: there they mean nothing."""
    reads_rpr = 0x18 << 26 | 1 << 25 | 3 << 20 | 3 << 17 | 12 << 10 | 1 << 5 | 11 << 1 | 1
    with runs(1, cpu={"ID_AA64PFR0_EL1": processor}) as one:
        one.put("gic_hcr", 1 << 10 | 1 << 11 | 1 << 12)
        one.stays = [lambda: Left(SYNC, reads_rpr)]
        assert one.run() == code


NARROW, WIDE = 4, 8
"""How far the two members of struct kvm_pmu_events lie apart, and how many bytes each has: in 6.1, and in 6.12."""


@pytest.mark.parametrize("width", [NARROW, WIDE])
@given(seed=SEEDS, host=WORDS, guest=WORDS, nobody=st.booleans())
@settings(max_examples=20, deadline=None)
def test_counters_that_are_one_sides_alone(width: int, seed: int, host: int, guest: int, nobody: bool) -> None:
    with a_world(pmu=width) as made:
        one = Runs(made, made.new_vm(), seed=seed)
        host, guest = (0, 0) if nobody else (host & (1 << 8 * width) - 1, guest & (1 << 8 * width) - 1)
        one.machine.memory.write(one.at("pmu_host"), host.to_bytes(width, "little") + guest.to_bytes(width, "little"))
        one.machine.write_register("PMUSERENR_EL0", 0x5)
        seen: list[tuple[int, ...]] = []

        def stay() -> Left:
            seen.append(tuple(one.machine.read_register(name) for name in ("PMUSERENR_EL0", "PMCNTENSET_EL0", "PMCNTENCLR_EL0")))
            return Left(IRQ)

        one.stays = [stay]
        one.run()
        assert seen == [(0xF, guest, host)]
        assert one.machine.read_register("PMUSERENR_EL0") == 0x5
        assert one.machine.read_register("PMCNTENSET_EL0") == host
        assert one.machine.read_register("PMCNTENCLR_EL0") == guest


# --- controls are EL2's own --------------------------------------------------------------------------------------------------------------

NEVER = 1 << 12 | 1 << 27 | 1 << 29 | 0b11 << 32 | 1 << 34 | 0b1111 << 42 | 1 << 47
"""HCR_EL2: DC, TGE, HCD, CD, ID, E2H, NV, NV1, AT, NV2, FIEN."""
ALWAYS = 1 << 0 | 1 << 1 | 1 << 2 | 0b111 << 3 | 1 << 9 | 1 << 10 | 1 << 19 | 1 << 20 | 1 << 21 | 1 << 22 | 1 << 35
"""VM, SWIO, PTW, FMO, IMO, AMO, FB, BSU, TSC, TIDCP, TACR, TSW, TLOR."""


@given(seed=SEEDS, hcr=EXTREMES, mdcr=EXTREMES, gic=EXTREMES)
@settings(max_examples=40, deadline=None)
def test_controls_are_el2s_whatever_the_host_says(seed: int, hcr: int, mdcr: int, gic: int) -> None:
    with runs(seed) as one:
        one.put("hcr", hcr)
        one.put("pstate", EL1H if hcr >> 31 & 1 else SVC32)
        one.put("mdcr", mdcr)
        one.put("gic_hcr", gic)
        one.put("its_vm", WORD)
        seen: dict[str, int] = {}

        def stay() -> Left:
            names = ["HCR_EL2", "MDCR_EL2", "CPTR_EL2", "VTCR_EL2", "VTTBR_EL2", "CNTHCTL_EL2", "HSTR_EL2", "ICH_HCR_EL2", "ICC_SRE_EL2"]
            seen.update(one.registers(names))
            return Left(IRQ)

        one.stays = [stay]
        assert one.run() == exit_codes.EXIT_IRQ
        seat = seats.SEATS.mine()
        assert seen["HCR_EL2"] & NEVER == 0
        assert seen["HCR_EL2"] & ALWAYS == ALWAYS
        assert seen["HCR_EL2"] & ~(ALWAYS | int(controls.FROM_HOST)) == 0, "no extension is on that this processor does not have"
        assert seen["HCR_EL2"] & int(controls.FROM_HOST) == hcr & int(controls.FROM_HOST)
        assert seen["MDCR_EL2"] & 0x1F == HOST_CONTROLS["MDCR_EL2"] & 0x1F, "HPMN"
        assert seen["MDCR_EL2"] & (3 << 12 | 3 << 24) == 0, "E2PB, E2TB"
        trapped = 1 << 5 | 1 << 6 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 14 | 1 << 19
        assert seen["MDCR_EL2"] & trapped == trapped
        assert seen["MDCR_EL2"] >> 8 & 1 == mdcr >> 8 & 1, "TDE"
        assert seen["CPTR_EL2"] == int(controls.cptr(False, False).raw)
        assert (seen["VTCR_EL2"], seen["VTTBR_EL2"]) == (int(seat.vtcr), int(seat.vttbr))
        assert seen["CNTHCTL_EL2"] & ~1 == 0
        assert seen["HSTR_EL2"] == switch.HSTR_T15
        assert seen["ICH_HCR_EL2"] == gic & 0x7DFF
        assert seen["ICC_SRE_EL2"] == 0b0111
        assert one.registers(list(HOST_CONTROLS)) == HOST_CONTROLS
        assert one.machine.read_register("ICH_HCR_EL2") == 0


@given(asked=WORDS, found=WORDS)
def test_an_extension_is_a_guests_where_its_cpu_has_it(asked: int, found: int) -> None:
    """FWB and ATA as the host says, TEA, TERR and TVM whatever it says, RW where EL1 has no AArch32; pointer authentication for who has it."""
    can = Abilities.of(u64(found))
    for authentication in (False, True):
        made = controls.hcr(u64(asked), authentication, controls.hcr_always(can), controls.hcr_choice(can))
        wanted = Hcr.of(u64(asked))
        assert (made.fwb, made.ata) == (wanted.fwb and can.forced_write_back, wanted.ata and can.tags)
        assert (made.tea, made.terr) == (can.ras, can.ras)
        assert made.tvm == (wanted.tvm or can.trap_translation_writes)
        assert made.rw == (wanted.rw or not can.aarch32_el1)
        assert (made.apk, made.api) == (authentication, authentication)
        extensions = Hcr(fwb=True, ata=True, tea=True, terr=True, apk=True, api=True).raw
        assert made.raw & ~extensions & ~(controls.ALWAYS | controls.FROM_HOST) == 0
        assert made.raw & controls.ALWAYS == controls.ALWAYS


def test_a_guests_stage_2_is_its_shadow() -> None:
    """What the guest reaches while it runs, and what the host hears where its table has nothing."""
    with runs() as one:
        one.world.put(one.vm, 0x8000_0000, 3, GUEST_MEMORY | attributes())
        reached: list[int] = []

        def touch(ipa: int) -> Left:
            try:
                reached.append(one.machine.stage2_translate(ipa, READ))
            except GuestFault as problem:
                return Left(SYNC, int(one.world.syndrome(problem, ipa, READ).raw))
            return Left(IRQ)

        one.stays = [lambda: touch(0x8000_0000), lambda: touch(0x8000_0000)]
        assert one.run() == exit_codes.EXIT_IRQ
        assert (one.entries, reached) == (2, [GUEST_MEMORY])
        one.stays = [lambda: touch(DEVICE)]
        assert one.run() == exit_codes.EXIT_TRAP
        assert one.get("fault_esr") & 0x3F == TRANSLATION | 1
        assert one.get("fault_hpfar") == DEVICE >> 12 << 4
        one.world.check()


# --- what is to happen before the guest goes on ------------------------------------------------------------------------------------------


@given(pc=WORDS)
@settings(max_examples=20, deadline=None)
def test_an_instruction_is_skipped_once(pc: int) -> None:
    with runs() as one:
        one.put("pc", pc)
        one.put("iflags", int(controls.INCREMENT_PC) | 0x60)
        for _ in range(2):
            assert one.run() == exit_codes.EXIT_IRQ
            assert one.get("pc") == pc + 4 & WORD
            assert one.get("iflags") == 0x60


def test_an_instruction_is_skipped_once_by_the_call_for_it() -> None:
    with runs() as one:
        one.put("pc", 0x1000)
        one.put("iflags", int(controls.INCREMENT_PC))
        frame = Frame()
        frame.x[1] = u64(one.vcpu)
        assert vcpu_run.adjust_only(frame, one.world.layout, one.places) == 0
        assert (one.get("pc"), one.get("iflags")) == (0x1004, 0)
        one.run()
        assert one.get("pc") == 0x1004


@given(flags=st.integers(min_value=0, max_value=0xFF), pc=st.integers(min_value=0, max_value=1 << 40))
@settings(max_examples=60, deadline=None)
def test_the_flags_after_a_run_are_those_before_without_what_was_done(flags: int, pc: int) -> None:
    """With the guest's own debug registers in use, whose flag is written at the end of the run: no other may come back by that."""
    with runs() as one:
        one.put("pc", pc)
        one.put("iflags", flags)
        one.put("debug_ptr", one.debug)
        expected = flags
        if flags & 1:
            expected &= ~0b1111
        elif flags & 2:
            expected &= ~0b10
        one.run()
        assert one.get("iflags") == expected & ~int(controls.DEBUG_DIRTY)


@given(seed=SEEDS, pstate=st.sampled_from([EL1H, EL0T, 0b0100]))
@settings(max_examples=20, deadline=None)
def test_an_exception_is_raised_at_the_guests_el1(seed: int, pstate: int) -> None:
    with runs(seed) as one:
        one.put("pstate", pstate)
        one.put("iflags", int(controls.PENDING_EXCEPTION))
        pc, vbar, esr = one.get("pc"), one.get("vbar") & ~0x7FF, one.get("esr")
        seen: dict[str, int] = {}

        def stay() -> Left:
            seen.update(one.registers(["ELR_EL2", "SPSR_EL2", "ELR_EL1", "SPSR_EL1", "ESR_EL1"]))
            return Left(IRQ)

        one.stays = [stay]
        one.run()
        offset = {EL1H: 0x200, 0b0100: 0, EL0T: 0x400}[pstate]
        assert seen["ELR_EL2"] == vbar + offset
        assert seen["SPSR_EL2"] & 0x3DF == 0x3C5
        assert (seen["ELR_EL1"], seen["SPSR_EL1"], seen["ESR_EL1"]) == (pc, pstate, esr)
        assert one.get("iflags") == 0


def test_an_abort_of_aarch32_is_no_completed_access() -> None:
    """The bit for a skipped instruction is one of those that say which exception: the page is not taken for a device's."""
    with runs() as one:
        one.put("hcr", 0)
        one.put("pstate", SVC32)
        one.put("sctlr", 0)
        one.put("vbar", 0x4000)
        one.put("pc", 0x1000)
        seat = _show_a_fault(one)
        one.put("iflags", int(controls.PENDING_EXCEPTION) | 1 << 1)
        one.run()
        assert one.get("pc") == 0x400C
        assert seat.mmio_page == 0
        assert one.get("iflags") == 0


def test_a_completed_access_is_remembered() -> None:
    """Whichever call skips the instruction."""
    for by_call in (False, True):
        with runs() as one:
            seat = _show_a_fault(one)
            one.put("iflags", int(controls.INCREMENT_PC))
            if by_call:
                frame = Frame()
                frame.x[1] = u64(one.vcpu)
                assert vcpu_run.adjust_only(frame, one.world.layout, one.places) == 0
            one.run()
            assert seat.mmio_page == DEVICE + 1


def test_another_exit_completes_nothing() -> None:
    with runs() as one:
        seat = _show_a_fault(one)
        one.stays = [lambda: Left(SYNC, HVC)]
        assert one.run() == exit_codes.EXIT_TRAP
        one.put("iflags", int(controls.INCREMENT_PC))
        one.run()
        assert seat.mmio_page == 0


def _show_a_fault(one: Runs) -> seats.Seat:
    """The host has heard of the guest's access to a page that its table does not have."""

    def stay() -> Left:
        with pytest.raises(GuestFault) as caught:
            one.machine.stage2_translate(DEVICE, READ)
        return Left(SYNC, int(one.world.syndrome(caught.value, DEVICE, READ).raw))

    one.stays = [stay]
    assert one.run() == exit_codes.EXIT_TRAP
    return seats.SEATS.mine()


@given(pstate=WORDS, aarch32=st.booleans())
@settings(max_examples=60, deadline=None)
def test_nothing_is_loaded_for_a_state_that_is_none(pstate: int, aarch32: bool) -> None:
    with runs() as one:
        one.put("hcr", 0 if aarch32 else 1 << 31)
        one.put("pstate", pstate)
        mode = pstate & 0x1F
        legal = mode in ((0x10, 0x11, 0x12, 0x13, 0x17, 0x1B, 0x1F) if aarch32 else (0b0000, 0b0100, 0b0101, 0x10))
        host = one.host_registers()
        before = dict(one.machine.cpu.registers)
        code = one.run()
        assert one.entries == legal
        assert code == (exit_codes.EXIT_IRQ if legal else exit_codes.EXIT_ILLEGAL)
        assert one.registers(list(host)) == host
        if not legal:
            assert one.machine.cpu.registers == before
        assert one.run() == code, "the vCPU is free again"


# --- SIMD and SVE ------------------------------------------------------------------------------------------------------------------------

VECTORS = [f"Z{number}" for number in range(32)]


def _fill_simd(one: Runs) -> dict[str, int]:
    """A guest's SIMD registers in the structure; FPSR and FPCR last."""
    at = one.at("fp")
    wanted = {name: one.machine.el2_read(at + 16 * number, 16) for number, name in enumerate(VECTORS)}
    return wanted | {"FPSR": one.machine.el2_read(at + 512, 4), "FPCR": one.machine.el2_read(at + 516, 4)}


@given(seed=SEEDS)
@settings(max_examples=10, deadline=None)
def test_simd_registers_are_loaded_at_their_first_use(seed: int) -> None:
    with runs(seed) as one:
        wanted = _fill_simd(one)
        host = one.scramble(list(wanted))
        left: dict[str, int] = {}

        def first() -> Left:
            assert one.registers(list(host)) == host
            assert one.machine.read_register("CPTR_EL2") == int(controls.cptr(False, False).raw)
            return Left(SYNC, FP_ACCESS)

        def second() -> Left:
            assert one.registers(list(wanted)) == wanted
            assert one.machine.read_register("CPTR_EL2") == int(controls.cptr(True, False).raw)
            left.update(one.scramble(list(wanted)))
            return Left(IRQ)

        one.stays = [first, second]
        assert one.run() == exit_codes.EXIT_IRQ
        assert one.entries == 2
        masks = dict.fromkeys(("FPSR", "FPCR"), 0xFFFF_FFFF)
        assert _fill_simd(one) == {name: value & masks.get(name, (1 << 128) - 1) for name, value in left.items()}
        assert one.registers(list(HOST_CONTROLS)) == HOST_CONTROLS


def test_simd_registers_are_loaded_ahead_for_some_runs() -> None:
    with runs() as one:
        one.stays = [lambda: Left(SYNC, FP_ACCESS)]
        one.run()
        live: list[bool] = []

        def stay() -> Left:
            live.append(one.machine.read_register("CPTR_EL2") & switch.TRAP_FP == 0)
            return Left(IRQ)

        for _ in range(int(fp.RUNS_AHEAD) + 1):
            one.stays = [stay]
            one.run()
        assert live == [True] * int(fp.RUNS_AHEAD) + [False]


def test_registers_that_nobody_used_stay_where_they_are() -> None:
    with runs() as one:
        wanted = _fill_simd(one)
        host = one.scramble(list(wanted))
        one.run()
        assert _fill_simd(one) == wanted
        assert one.registers(list(host)) == host


@given(seed=SEEDS, length=st.sampled_from([16, 32, 64, 256]), promised=st.booleans())
@settings(max_examples=20, deadline=None)
def test_sve_registers_are_loaded_where_the_guest_has_them(seed: int, length: int, promised: bool) -> None:
    with runs(seed, {"ID_AA64PFR0_EL1": PLAIN_CPU["ID_AA64PFR0_EL1"] | SVE, "ZCR_EL2": 0x1FF, "ZCR_EL1": 0x3}) as one:
        state = one.world.allocate(4)
        one.machine.memory.write(state, one.numbers.randbytes(4 * 4096))
        one.world.write(one.world.at(one.vcpu, Field.VCPU_SVE_STATE), state)
        one.world.write(one.world.at(one.vcpu, Field.VCPU_SVE_MAX_VL), length)
        one.put("cflags", int(controls.HAS_SVE) if promised else 0)
        one.put("zcr", 0x1)
        offsets = switch.predicates(length)
        wanted = {name: one.machine.el2_read(state + length * number, length) for number, name in enumerate(VECTORS)}
        wanted |= {name: one.machine.el2_read(state + offset, length // 8) for name, offset in offsets}
        left: dict[str, int] = {}

        def second() -> Left:
            assert one.registers(list(wanted)) == wanted
            assert one.registers(["ZCR_EL1", "ZCR_EL2"]) == {"ZCR_EL1": 1, "ZCR_EL2": length // 16 - 1}
            left.update({name: one.numbers.getrandbits(length) for name in wanted})
            for name, value in {**left, "ZCR_EL1": 0x2}.items():
                one.machine.write_register(name, value)
            return Left(IRQ)

        one.stays = [lambda: Left(SYNC, SVE_ACCESS), *([second] if promised else [])]
        assert one.run() == (exit_codes.EXIT_IRQ if promised else exit_codes.EXIT_TRAP)
        assert one.registers(["ZCR_EL1", "ZCR_EL2"]) == {"ZCR_EL1": 0x3, "ZCR_EL2": 0x1FF}
        assert one.get("zcr") == (2 if promised else 1)
        if promised:
            kept = {name: one.machine.el2_read(state + length * number, length) for number, name in enumerate(VECTORS)}
            kept |= {name: one.machine.el2_read(state + offset, length // 8) for name, offset in offsets}
            assert kept == {name: value & (1 << 8 * (length if name in VECTORS else length // 8)) - 1 for name, value in left.items()}


# --- debug registers ---------------------------------------------------------------------------------------------------------------------

DEBUG = switch.debug_registers(BREAKPOINTS, WATCHPOINTS)


@given(seed=SEEDS, mdcr=st.sampled_from([0, 1 << 8, 1 << 9, WORD]))
@settings(max_examples=20, deadline=None)
def test_debug_registers_change_hands_where_the_host_says_so(seed: int, mdcr: int) -> None:
    with runs(seed) as one:
        at = one.debug
        one.put("debug_ptr", at)
        one.put("iflags", int(controls.DEBUG_DIRTY))
        one.put("mdcr", mdcr)
        names = [name for _, name in DEBUG]
        host = one.scramble([*names, "MDCCINT_EL1"])
        wanted = {name: one.world.read(at + 8 * word) for word, name in DEBUG} | {"MDCCINT_EL1": one.get("mdccint")}
        left: dict[str, int] = {}

        def stay() -> Left:
            assert one.registers(list(wanted)) == wanted
            assert one.machine.read_register("MDCR_EL2") >> 8 & 3 == mdcr >> 8 & 3
            left.update(one.scramble(list(wanted)))
            return Left(IRQ)

        one.stays = [stay]
        assert one.run() == exit_codes.EXIT_IRQ
        assert {name: one.world.read(at + 8 * word) for word, name in DEBUG} | {"MDCCINT_EL1": one.get("mdccint")} == left
        assert one.registers(list(host)) == host
        assert one.get("iflags") == 0


@pytest.mark.parametrize("offset", [-8, VCPU_BYTES - DEBUG_BYTES + 8, 4, 1 << 40])
def test_debug_registers_outside_of_the_structure_are_not_the_guests(offset: int) -> None:
    with runs() as one:
        one.put("debug_ptr", one.vcpu + offset)
        one.put("iflags", int(controls.DEBUG_DIRTY))
        host = one.scramble([name for _, name in DEBUG])

        def stay() -> Left:
            assert one.registers(list(host)) == host
            assert one.machine.read_register("MDCR_EL2") & 1 << 9, "TDA"
            return Left(IRQ)

        one.stays = [stay]
        assert one.run() == exit_codes.EXIT_IRQ
        assert one.get("iflags") == int(controls.DEBUG_DIRTY)


# --- errors ------------------------------------------------------------------------------------------------------------------------------


def test_an_serror_without_ras_belongs_to_the_exit() -> None:
    """An HVC that it came with is done again, anything else stays where it is."""
    for syndrome, back in ((HVC, 4), (fault(0x18), 0)):
        with runs() as one:
            one.put("pc", 0x1000)

            def stay(one: Runs = one, syndrome: int = syndrome) -> Left:
                one.machine.write_register("ISR_EL1", switch.PENDING_SERROR)
                return Left(SYNC, syndrome)

            one.stays = [stay]
            assert one.run() == exit_codes.EXIT_TRAP | exit_codes.WITH_SERROR
            assert one.get("pc") == 0x1000 - back
            assert one.get("fault_esr") == syndrome
            assert one.machine.read_register("ISR_EL1") == 0


@pytest.mark.parametrize(("vector", "code"), [(IRQ, 0), (SERROR, 1)])
def test_an_serror_with_ras_is_handed_on_by_its_syndrome(vector: int, code: int) -> None:
    with runs(cpu={"ID_AA64PFR0_EL1": PLAIN_CPU["ID_AA64PFR0_EL1"] | RAS}) as one:
        disr = one.get("disr")

        def stay() -> Left:
            assert one.machine.read_register("VDISR_EL2") == disr
            one.machine.write_register("DISR_EL1", 1 << 31 | 0x11)
            one.machine.write_register("VDISR_EL2", 0x77)
            return Left(vector)

        one.stays = [stay]
        assert one.run() == code | int(exit_codes.WITH_SERROR)
        assert one.get("fault_disr") == 1 << 31 | 0x11
        assert one.machine.read_register("DISR_EL1") == 0
        assert one.get("disr") == 0x77


@pytest.mark.parametrize("taken", [False, True])
def test_a_virtual_serror_is_asked_for_until_it_is_taken(taken: bool) -> None:
    with runs(cpu={"ID_AA64PFR0_EL1": PLAIN_CPU["ID_AA64PFR0_EL1"] | RAS}) as one:
        one.put("hcr", 1 << 31 | 1 << 8)
        vsesr = one.get("vsesr")

        def stay() -> Left:
            assert one.machine.read_register("VSESR_EL2") == vsesr
            hcr = one.machine.read_register("HCR_EL2")
            assert hcr & 1 << 8
            if taken:
                one.machine.write_register("HCR_EL2", hcr & ~(1 << 8))
            return Left(IRQ)

        one.stays = [stay]
        one.run()
        assert one.get("hcr") == 1 << 31 | (0 if taken else 1 << 8)


# --- whose the vCPU is -------------------------------------------------------------------------------------------------------------------


def test_a_vcpu_runs_on_one_cpu_at_a_time() -> None:
    with runs(cpus=2) as one:
        answers: list[int | Err] = []
        for name, value in one.registers(list(PLAIN_CPU)).items():
            one.machine.cpus[1].registers[name] = value

        def stay() -> Left:
            with one.machine.on(1):
                before = dict(one.machine.cpu.registers)
                answers.append(one.run())
                after = dict(one.machine.cpu.registers)
                assert {name: after.get(name) for name in before} == before
            return Left(IRQ)

        one.stays = [stay]
        assert one.run() == exit_codes.EXIT_IRQ
        assert answers == [Err.STATE]
        assert one.entries == 1
        with one.machine.on(1):
            one.machine.write_register("HCR_EL2", HOST_HCR)
            assert one.run() == exit_codes.EXIT_IRQ
        assert one.run() == exit_codes.EXIT_IRQ


def test_a_vcpu_is_free_after_every_end() -> None:
    with runs() as one:
        for pstate, stay in ((EL1H, Left(IRQ)), (0b1001, Left(IRQ)), (EL1H, Left(SYNC, HVC)), (EL1H, Left(SERROR))):
            one.put("pstate", pstate)
            one.stays = [lambda stay=stay: stay]
            one.run()
            seat = seats.SEATS.mine()
            assert vcpus.claim_word(seat.index) == seat.word
            assert vcpus.claim(seat.index, seat.word, u64(0))
            vcpus.release(seat.index, seat.word)
            one.stays = []


def test_a_vcpu_whose_vm_has_become_another_runs_on_the_others_shadow() -> None:
    with runs() as one:
        one.world.put(one.vm, 0x8000_0000, 3, GUEST_MEMORY | attributes())
        vttbrs: list[int] = []
        faults: list[bool] = []

        def stay() -> Left:
            vttbrs.append(one.machine.read_register("VTTBR_EL2"))
            try:
                one.machine.stage2_translate(0x8000_0000, READ)
            except GuestFault as problem:
                faults.append(True)
                return Left(SYNC, int(one.world.syndrome(problem, 0x8000_0000, READ).raw))
            return Left(IRQ)

        one.stays = [stay, stay]
        assert one.run() == exit_codes.EXIT_IRQ
        one.world.end_vm(one.vm)
        one.world.begin_again(one.vm)
        one.stays = [stay]
        assert one.run() == exit_codes.EXIT_TRAP, "the new VM has nothing there"
        other = one.world.new_vm()
        one.put("hw_mmu", other.mmu)
        one.stays = [stay]
        assert one.run() == exit_codes.EXIT_TRAP
        assert vttbrs[-1] != vttbrs[0]
        assert one.machine.read_register("VTTBR_EL2") == 0x4700_0000
        one.world.check()


def test_a_run_of_what_is_no_vcpu_loads_nothing() -> None:
    with runs() as one:
        for address in (0, 0x10, WORD, 0x4000_0000, one.vcpu + 8, DEVICE):
            one.vcpu = address
            before = one.machine.read_register("VTTBR_EL2")
            assert isinstance(one.run(), Err), hex(address)
            assert one.entries == 0
            assert one.machine.read_register("VTTBR_EL2") == before


ASSEMBLY = Path(world.__file__).parents[1] / "entry" / "el2.S"


@pytest.mark.parametrize(("macro", "table"), [("shared_registers", switch.SHARED), ("shared_registers32", switch.ONLY32), ("each_key", switch.KEYS)])
def test_the_simulated_switch_moves_what_the_assembly_file_moves(macro: str, table: tuple[tuple[str, str], ...]) -> None:
    found = re.search(rf"^\.macro {macro} do\n(.*?)^\.endm", ASSEMBLY.read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None
    rows = re.findall(r"\\do\s+(\w+), (\w+), (\w+), (\w+)$", found[1], re.MULTILINE)
    assert tuple(pair for a, b, first, second in rows for pair in ((a, first.upper()), (b, second.upper()))) == table


def test_nobody_plays_a_guest_unasked() -> None:
    with Machine() as machine, pytest.raises(MachineError, match="plays the guest"):
        machine.guest(0)


