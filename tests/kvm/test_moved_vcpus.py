# SPDX-License-Identifier: Apache-2.0
"""A vCPU that becomes one of a protected guest on one CPU, and what other CPUs remember of it from before."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from unittest import mock

import pytest
from guest_runs import HOST_HCR, IRQ, PLAIN_CPU, SYNC, Left, Runs
from guests_world import GUEST_MEMORY, a_world, attributes

from delphyne.board.protected_image import EXECUTE, MMIO, RAM, READ, WRITE, Manifest, Window
from delphyne.el2.guest import abi, guards, measuring, private, registers, vcpus
from delphyne.el2.guest.processors import PROCESSORS
from delphyne.el2.guest.registers import OWN
from delphyne.el2.guest.steps import Absent, Fate
from delphyne.el2.kvm import exit_codes
from delphyne.el2.kvm.seats import SEATS
from delphyne.el2.sealing import entropy, generator
from delphyne.lang import Pa, u64, wipe

PAGE = 4096
IPA = 0x8000_0000
"""Of the manifest's page in the guest; its one page of content follows."""
FRAMES = GUEST_MEMORY
OWN_AT = GUEST_MEMORY + 0x8_0000
CONTENT = b"the guest's first page".ljust(PAGE, b"\0")
HVC = 0x16 << 26 | 1 << 25
SYSTEM_OFF = 0x8400_0008
ENTRY = IPA + PAGE + 8


def manifest(content: bytes) -> bytes:
    windows = (Window(IPA, 0x10_0000, RAM), Window(0x9000_0000, 0x1_0000, MMIO))
    segments = ((IPA + PAGE, 1, READ | WRITE | EXECUTE, hashlib.sha256(content).digest()),)
    return Manifest(ENTRY, IPA + PAGE, 0x800, IPA + PAGE + 0x100, IPA + PAGE + 0x200, windows, segments).pack()


@contextmanager
def becoming(content: bytes = CONTENT) -> Iterator[Runs]:
    """A vCPU of an ordinary guest that could become protected, on a machine of two CPUs. The pages that it has measured are not taken from the host's
    map, since this host has none: that is `private`'s own business."""
    held = Absent(fate=Fate.HELD, content=u64((FRAMES + PAGE) // PAGE))
    not_taken = SimpleNamespace(find=lambda index, page: None, absent_of=lambda found: held)
    try:
        with (
            a_world(2) as world, mock.patch.object(private, "hold", return_value=None), mock.patch.object(measuring, "steps", not_taken),
            mock.patch.object(generator, "fill", return_value=None),
        ):  # fmt: skip
            one = Runs(world, world.new_vm())
            for name, value in one.registers(list(PLAIN_CPU)).items():
                one.machine.cpus[1].registers[name] = value
            for number, data in enumerate((manifest(CONTENT), content)):
                world.put(one.vm, IPA + number * PAGE, 3, FRAMES + number * PAGE | attributes())
                one.machine.memory.write(FRAMES + number * PAGE, data)
            registers.MEMORY.base = Pa(u64(OWN_AT))
            entropy.SOURCES.development = True
            yield one
    finally:
        entropy.SOURCES.development = False
        for static in (guards.GUARDS, guards.ALIVE, guards.OFFSETS, guards.SEEN, guards.RUNS):
            wipe(static)
        for number in range(4):
            wipe(PROCESSORS[number])


def call(one: Runs, function: int, argument: int = 0) -> int:
    """A call of the guest's, on this CPU, made again as long as it is told to wait; its x0."""
    for _ in range(9):
        def stay() -> Left:
            one.word("regs", 0, function)
            one.word("regs", 1, argument)
            return Left(SYNC, HVC)

        one.stays = [stay]
        assert one.run() == exit_codes.EXIT_IRQ
        if one.word("regs", 0) != function or SEATS.mine().own.raw != 0:
            return one.word("regs", 0)
    raise AssertionError(f"{function:#x} does not end")


def elsewhere(one: Runs) -> None:
    """The host runs the vCPU on its other CPU for a moment."""
    with one.machine.on(1):
        one.machine.write_register("HCR_EL2", HOST_HCR)
        one.stays = [lambda: Left(IRQ)]
        assert one.run() == exit_codes.EXIT_IRQ


def measure(one: Runs) -> int:
    """MEASURE until it is done or refused; its x0."""
    while (x0 := call(one, int(abi.PROTECT_MEASURE))) == 1:
        pass
    return x0


def commit(one: Runs) -> None:
    assert measure(one) == 0
    call(one, int(abi.PROTECT_COMMIT))
    assert SEATS.mine().own.raw != 0


def begins(one: Runs) -> None:
    """On the other CPU the guest begins with its own registers, where its manifest says, whatever the host has in its structure."""
    seen: list[int] = []

    def enter(general: int) -> int:
        seen.append(general)
        assert one.machine.read_register("ELR_EL2") == ENTRY
        assert one.machine.read_register("TTBR0_EL1") != one.get("ttbr0")
        return IRQ

    one.put("pc", 0xBAD)
    one.put("ttbr0", 0xBAD)
    with one.machine.on(1):
        one.machine.write_register("HCR_EL2", HOST_HCR)
        one.machine.guest = enter
        assert one.run() == exit_codes.EXIT_IRQ
    assert seen == [OWN_AT + int(OWN.regs)]


@pytest.mark.parametrize("when", ["before", "between", "never"])
def test_a_cpu_that_knew_the_vcpu_before_runs_it_protected(when: str) -> None:
    with becoming() as one:
        if when == "before":
            elsewhere(one)
        assert call(one, int(abi.PROTECT_BEGIN), IPA) == 0
        if when == "between":
            elsewhere(one)
            assert call(one, int(abi.PROTECT_MEASURE)) == 1, "a piece, and the vCPU moves before the next"
            elsewhere(one)
        commit(one)
        begins(one)


def test_a_cpu_that_knew_the_vcpu_while_it_was_measured_forgets_a_guard_that_ended() -> None:
    with becoming(b"something else".ljust(PAGE, b"\0")) as one:
        assert call(one, int(abi.PROTECT_BEGIN), IPA) == 0
        elsewhere(one)
        assert measure(one) == int(abi.DENIED)
        elsewhere(one)
        with one.machine.on(1):
            assert SEATS.mine().guard == 0
        assert call(one, int(abi.PROTECT_COMMIT)) == int(abi.DENIED)


def test_another_vcpu_that_was_kept_waiting_runs_when_the_guest_stays_an_ordinary_one() -> None:
    with becoming(b"something else".ljust(PAGE, b"\0")) as one:
        other = Runs(one.world, one.vm, number=1)
        one.machine.guest = one._enter
        assert call(one, int(abi.PROTECT_BEGIN), IPA) == 0
        with one.machine.on(1):
            one.machine.write_register("HCR_EL2", HOST_HCR)
            assert other.run() == exit_codes.EXIT_ILLEGAL, "nobody else runs while a guest is measured"
        assert measure(one) == int(abi.DENIED)
        one.machine.guest = other._enter
        with one.machine.on(1):
            assert other.run() == exit_codes.EXIT_IRQ
        assert other.entries == 1


def test_a_cpu_that_knew_the_vcpu_as_protected_forgets_its_registers_when_it_ended() -> None:
    with becoming() as one:
        assert call(one, int(abi.PROTECT_BEGIN), IPA) == 0
        commit(one)
        begins(one)
        registers.expect(Pa(u64(OWN_AT)), registers.Expects.ENDING, u64(0))
        with mock.patch.object(private, "give_up"):
            while one.run() == exit_codes.EXIT_IRQ:
                pass
        seat = SEATS.mine()
        assert seat.guard == 0
        with one.machine.on(1):
            other = SEATS.mine()
            assert other.address == seat.address
            assert not vcpus.claim(other.index, other.word, u64(1))
        assert vcpus.claim(seat.index, seat.word, u64(0))


def test_another_cpu_of_a_guest_that_turns_itself_off_is_told_to_come_again_until_the_call_is_shown() -> None:
    """An error would reach the VMM first, which then stops the machine in place of turning it off."""
    with becoming() as one:
        other = Runs(one.world, one.vm, number=1)
        one.machine.guest = one._enter
        assert call(one, int(abi.PROTECT_BEGIN), IPA) == 0
        commit(one)

        def run_other() -> object:
            with one.machine.on(1):
                one.machine.write_register("HCR_EL2", HOST_HCR)
                return other.run()

        assert run_other() == exit_codes.EXIT_ILLEGAL, "the guest did not turn it on"

        def turn_off(general: int) -> int:
            one.world.write(general, SYSTEM_OFF)
            one.machine.write_register("ESR_EL2", HVC)
            return SYNC

        one.machine.guest = turn_off
        assert one.run() == exit_codes.EXIT_IRQ
        with mock.patch.object(private, "give_up"):
            codes = [run_other()]
            while (code := one.run()) == exit_codes.EXIT_IRQ:
                codes.append(run_other())
        assert (code, one.word("regs", 0)) == (exit_codes.EXIT_TRAP, SYSTEM_OFF)
        assert set(codes) == {int(exit_codes.EXIT_IRQ)}, "and it did not run: there was no entry"
        assert other.entries == 0


def test_a_cpu_of_a_guest_that_was_stopped_otherwise_hears_that_it_never_runs_again() -> None:
    with becoming() as one:
        assert call(one, int(abi.PROTECT_BEGIN), IPA) == 0
        commit(one)
        begins(one)
        guards.stop(u64(0))
        assert one.run() == exit_codes.EXIT_ILLEGAL
