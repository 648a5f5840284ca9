# SPDX-License-Identifier: Apache-2.0
"""What a processor's errata make EL2 do while a guest runs, and that no other processor does it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from guest_runs import EL1H, IRQ, SYNC, Left, Runs
from guests_world import GUEST_MEMORY, a_machine, a_world

from delphyne.el2.arch.hypervisor import Hcr
from delphyne.el2.arch.world import Places
from delphyne.el2.guest import registers
from delphyne.el2.kvm import exit_codes, protected_exits
from delphyne.el2.kvm.abilities import Abilities
from delphyne.el2.kvm.controls import PROTECTED_FROM_HOST, protected_hcr
from delphyne.el2.kvm.seats import Seat
from delphyne.lang import Pa, u64

CORTEX_A57, CORTEX_A510, THUNDERX2 = 0x411F_D073, 0x410F_D462, 0x431F_0AF1
"""MIDR_EL1; the second in a release that has the erratum."""
TVM, TDE, SS = 1 << 26, 1 << 8, 1 << 21
PC, RT, WRITTEN = 0x1000, 3, 0x1234_5678_9ABC_DEF0
VECTORS = 0x8_0000
SYSTEM, PAUTH, HVC = 0x18, 0x09, 0x16
REGISTERS = {
    "SCTLR_EL1": (1, 0, 0), "TTBR0_EL1": (2, 0, 0), "TTBR1_EL1": (2, 0, 1), "TCR_EL1": (2, 0, 2), "AFSR0_EL1": (5, 1, 0), "AFSR1_EL1": (5, 1, 1),
    "ESR_EL1": (5, 2, 0), "FAR_EL1": (6, 0, 0), "MAIR_EL1": (10, 2, 0), "AMAIR_EL1": (10, 3, 0), "CONTEXTIDR_EL1": (13, 0, 1),
}  # fmt: skip
"""CRn, CRm and op2 of what HCR_EL2.TVM traps (Arm ARM D24.2.48); op0 is 3, op1 is 0."""


def access(crn: int, crm: int, op2: int, *, read: bool) -> int:
    """The syndrome of an access of RT."""
    return SYSTEM << 26 | 1 << 25 | 3 << 20 | op2 << 17 | crn << 10 | RT << 5 | crm << 1 | read


@contextmanager
def runs(midr: int) -> Iterator[Runs]:
    with a_world() as made:
        one = Runs(made, made.new_vm(), cpu={"MIDR_EL1": midr})
        one.put("pc", PC)
        one.word("regs", RT, WRITTEN)
        yield one


@pytest.mark.parametrize("name", REGISTERS)
def test_a_guests_write_that_the_erratum_traps_is_done_for_it(name: str) -> None:
    with runs(THUNDERX2) as one:
        seen: list[int] = []

        def write() -> Left:
            seen.append(one.machine.read_register("HCR_EL2") & TVM)
            one.machine.write_register(name, 0)
            return Left(SYNC, access(*REGISTERS[name], read=False))

        def look() -> Left:
            seen.append(one.machine.read_register(name))
            return Left(IRQ)

        one.stays = [write, look]
        assert one.run() == exit_codes.EXIT_IRQ
        assert seen == [TVM, WRITTEN]
        assert one.get("pc") == PC + 4


@pytest.mark.parametrize(("midr", "asked", "read"), [(THUNDERX2, TVM, False), (THUNDERX2, 0, True), (CORTEX_A57, TVM, False), (CORTEX_A57, 0, False)])
def test_any_other_trap_of_a_translation_register_is_the_hosts(midr: int, asked: int, read: bool) -> None:
    """The host's own trap by TVM, which it has to hear of, and by TRVM; and every trap elsewhere."""
    with runs(midr) as one:
        one.put("hcr", 1 << 31 | asked)
        seen: list[int] = []

        def stay() -> Left:
            seen.append(one.machine.read_register("HCR_EL2") & TVM)
            return Left(SYNC, access(*REGISTERS["TTBR0_EL1"], read=read))

        one.stays = [stay]
        assert one.run() == exit_codes.EXIT_TRAP
        assert one.get("fault_esr") == access(*REGISTERS["TTBR0_EL1"], read=read)
        assert one.get("pc") == PC
        assert seen == [TVM if midr == THUNDERX2 else asked]


def test_a_protected_guests_writes_are_trapped_there_too() -> None:
    for trapped in (False, True):
        assert Hcr.of(protected_hcr(Abilities(trap_translation_writes=trapped))).tvm is trapped
    assert not Hcr.of(PROTECTED_FROM_HOST).tvm, "whatever its host says"


@pytest.mark.parametrize("name", REGISTERS)
def test_a_protected_guests_write_is_done_for_it(name: str) -> None:
    """And where nothing of EL2's can have trapped it, there is no such register."""
    for trapped in (True, False):
        with a_machine() as machine:
            registers.MEMORY.base = Pa(u64(GUEST_MEMORY))
            seat = Seat()
            seat.own, seat.at = registers.base_of(u64(0)), Pa(u64(GUEST_MEMORY + 0x1_0000))
            seat.abilities = Abilities(trap_translation_writes=trapped)
            registers.put_general(seat.own, u64(RT), u64(WRITTEN))
            state = {name: 0, "ESR_EL2": access(*REGISTERS[name], read=False), "ELR_EL2": PC, "SPSR_EL2": EL1H, "VBAR_EL1": VECTORS}
            for register, value in state.items():
                machine.write_register(register, value)
            assert protected_exits.serve(seat, Places(), u64(SYNC)) == exit_codes.GUEST_GOES_ON
            if trapped:
                assert (machine.read_register(name), machine.read_register("ELR_EL2")) == (WRITTEN, PC + 4)
            else:
                assert machine.read_register("ELR_EL2") == VECTORS + 0x200, "an exception of its own level"


STEPPED = {"midr": CORTEX_A510, "mdcr": TDE, "mdscr": 1, "pstate": EL1H | SS, "syndrome": PAUTH << 26}
SPOILED = 0b1001


@pytest.mark.parametrize(
    "unlike", [{}, {"midr": CORTEX_A57}, {"mdcr": 0}, {"mdscr": 0}, {"pstate": EL1H}, {"syndrome": HVC << 26}, {"vector": IRQ}], ids=str
)
def test_a_state_that_a_step_spoiled_is_the_one_before(unlike: dict[str, int]) -> None:
    """And a state of any other exit is the guest's own."""
    case = STEPPED | unlike
    with runs(case["midr"]) as one:
        one.put("mdcr", case["mdcr"])
        one.put("mdscr", case["mdscr"])
        one.put("pstate", case["pstate"])

        def stay() -> Left:
            one.machine.write_register("SPSR_EL2", SPOILED)
            return Left(case.get("vector", SYNC), case["syndrome"])

        one.stays = [stay]
        one.run()
        assert one.get("pstate") == (SPOILED if unlike else EL1H | SS)
