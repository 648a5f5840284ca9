# SPDX-License-Identifier: Apache-2.0
"""What each processor needs against mistrained prediction, and which errata it has, by its identification registers and its firmware."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from delphyne.el2.arch import cores, errata, mitigation, psci
from delphyne.el2.arch.identification import MIDR_EL1
from delphyne.lang import AtomicU32, Order, u32, u64
from delphyne.lang.machine import Machine

EL2_S = Path(__file__).resolve().parents[2] / "delphyne" / "el2" / "entry" / "el2.S"
ARM, CAVIUM, BROADCOM, QUALCOMM, HISILICON, AMPERE, NVIDIA, MICROSOFT = 0x41, 0x43, 0x42, 0x51, 0x48, 0xC0, 0x4E, 0x6D
ABSENT = 2**64 - 1
NEEDED, NOT_NEEDED = 0, 1
WORKAROUND_1, WORKAROUND_3 = 0x8000_8000, 0x8000_3FFF
BY_1, BY_3, CLEAR = 1 << 20 | 0x8000, 1 << 20 | 0x3FFF, 1 << 21


def midr(implementer: int, part: int, release: int = 0) -> int:
    return implementer << 24 | (release >> 4) << 20 | 0xF << 16 | part << 4 | release & 0xF


class Firmware:
    """Firmware of some PSCI and SMCCC version with some workarounds. A call that it need not know is an undefined instruction."""

    def __init__(self, workarounds: dict[int, int], version: int = 0x1_0001, smccc: int | None = 0x1_0001) -> None:
        self.workarounds, self.version, self.smccc = workarounds, version, smccc

    def call(self, function: u64, x1: u64, x2: u64, x3: u64) -> u64:
        number = int(function)
        if number == 0x8400_0000:
            return u64(self.version)
        if number == 0x8400_000A:
            assert self.version >= 0x1_0000, "PSCI_FEATURES came with PSCI 1.0"
            return u64(ABSENT if self.smccc is None else 0) if int(x1) == 0x8000_0000 else u64(ABSENT)
        assert self.smccc is not None, f"undefined: {number:#x}"
        if number == 0x8000_0000:
            return u64(self.smccc)
        assert number == 0x8000_0001, f"{number:#x} is not called to find out"
        assert self.smccc >= 0x1_0001
        return u64(self.workarounds.get(int(x1), ABSENT))


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Firmware], None]]:
    def put(firmware: Firmware) -> None:
        monkeypatch.setattr(psci, "smc_call", firmware.call)

    return put


def chosen(core: int, csv2: int = 1, clrbhb: int = 0, ecbhb: int = 0) -> tuple[int, bool]:
    """The word, and whether the processor is left helpless."""
    registers = {"MIDR_EL1": core, "ID_AA64PFR0_EL1": csv2 << 56, "ID_AA64ISAR2_EL1": clrbhb << 28, "ID_AA64MMFR1_EL1": ecbhb << 60}
    with Machine(0x4000_0000, 0x10_0000, registers=registers):
        return int(mitigation.choose()), mitigation.is_helpless()


LOOPS = {
    (ARM, 0xD08): 8, (ARM, 0xD07): 8, (ARM, 0xD0B): 24, (ARM, 0xD0C): 24, (ARM, 0xD0D): 24, (ARM, 0xD0E): 24, (ARM, 0xD41): 32, (ARM, 0xD42): 32,
    (ARM, 0xD44): 32, (ARM, 0xD40): 32, (ARM, 0xD47): 32, (ARM, 0xD48): 32, (ARM, 0xD49): 32, (ARM, 0xD4B): 32, (ARM, 0xD4C): 32, (ARM, 0xD4D): 38,
    (ARM, 0xD81): 38, (ARM, 0xD4E): 132, (ARM, 0xD4F): 132, (AMPERE, 0xAC3): 11, (HISILICON, 0xD01): 32, (HISILICON, 0xD02): 24,
    (QUALCOMM, 0x804): 24, (MICROSOFT, 0xD49): 32,
}  # fmt: skip


@pytest.mark.parametrize(("core", "rounds"), LOOPS.items())
def test_cores_of_the_advisory_take_their_branches(core: tuple[int, int], rounds: int, install: Callable[[Firmware], None]) -> None:
    install(Firmware({}))
    assert chosen(midr(*core)) == (rounds, False)
    assert chosen(midr(*core), clrbhb=1) == (CLEAR, False)
    assert chosen(midr(*core), ecbhb=1) == (0, False)
    assert chosen(midr(*core), csv2=3) == (0, False)


@pytest.mark.parametrize("part", [0xD03, 0xD04, 0xD05])
def test_cores_that_do_not_predict_need_nothing(part: int, install: Callable[[Firmware], None]) -> None:
    install(Firmware({WORKAROUND_1: NEEDED, WORKAROUND_3: NEEDED}))
    assert chosen(midr(ARM, part), csv2=0) == (0, False)


@pytest.mark.parametrize(
    ("workarounds", "csv2", "word", "helpless"),
    [
        ({WORKAROUND_1: NEEDED}, 0, BY_1, False),
        ({WORKAROUND_1: NEEDED, WORKAROUND_3: NEEDED}, 0, BY_3, False),
        ({WORKAROUND_1: NEEDED, WORKAROUND_3: NOT_NEEDED}, 0, BY_1, False),
        ({WORKAROUND_1: NOT_NEEDED, WORKAROUND_3: NEEDED}, 0, BY_3, False),
        ({WORKAROUND_1: NOT_NEEDED, WORKAROUND_3: NOT_NEEDED}, 0, 0, False),
        ({}, 0, 0, True),
        ({WORKAROUND_1: NOT_NEEDED}, 0, 0, True),
        ({WORKAROUND_1: NEEDED}, 1, 0, True),
        ({WORKAROUND_1: NEEDED, WORKAROUND_3: NEEDED}, 1, BY_3, False),
        ({WORKAROUND_3: NOT_NEEDED}, 2, 0, False),
    ],
)
def test_a_core_without_a_remedy_of_its_own_asks_the_firmware(
    workarounds: dict[int, int], csv2: int, word: int, helpless: bool, install: Callable[[Firmware], None]
) -> None:
    install(Firmware(workarounds))
    assert chosen(midr(ARM, 0xD09), csv2=csv2) == (word, helpless)  # Cortex-A73


def test_a_core_with_a_loop_and_foreign_targets_prefers_the_firmware(install: Callable[[Firmware], None]) -> None:
    install(Firmware({WORKAROUND_1: NEEDED}))
    assert chosen(midr(ARM, 0xD08), csv2=0) == (BY_1, False)
    install(Firmware({}))
    assert chosen(midr(ARM, 0xD08), csv2=0) == (8, True), "the loop does what it can"


SAFE, MENDED, OPEN = mitigation.Standing
A57_V1, A76_V1, A55_V1 = midr(ARM, 0xD07), midr(ARM, 0xD0B), midr(ARM, 0xD05)


@pytest.mark.parametrize(
    ("workarounds", "some", "targets", "history"),
    [
        ({}, [(A55_V1, 0)], SAFE, SAFE),
        ({}, [(A76_V1, 1)], SAFE, MENDED),
        ({}, [(A57_V1, 0)], OPEN, MENDED),
        ({WORKAROUND_1: NEEDED}, [(A57_V1, 0)], MENDED, MENDED),
        ({WORKAROUND_1: NOT_NEEDED}, [(A57_V1, 0)], SAFE, MENDED),
        ({}, [(A55_V1, 0), (A76_V1, 1)], SAFE, MENDED),
        ({}, [(A76_V1, 1), (A55_V1, 0)], SAFE, MENDED),
        ({}, [(A55_V1, 0), (A57_V1, 0), (A76_V1, 1)], OPEN, MENDED),
        ({WORKAROUND_1: NEEDED, WORKAROUND_3: NOT_NEEDED}, [(midr(ARM, 0xD09), 1)], SAFE, SAFE),
        ({WORKAROUND_1: NEEDED}, [(midr(ARM, 0xD09), 1), (A55_V1, 0)], SAFE, OPEN),
    ],
)
def test_guests_hear_of_the_worst_cpu(
    workarounds: dict[int, int], some: list[tuple[int, int]], targets: mitigation.Standing, history: mitigation.Standing,
    install: Callable[[Firmware], None], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    install(Firmware(workarounds))
    monkeypatch.setattr(mitigation, "TARGETS", AtomicU32())
    monkeypatch.setattr(mitigation, "HISTORY", AtomicU32())
    for core, csv2 in some:
        with Machine(0x4000_0000, 0x10_0000, registers={"MIDR_EL1": core, "ID_AA64PFR0_EL1": csv2 << 56}):
            mitigation.note()
    assert mitigation.worst(mitigation.TARGETS.load(Order.RELAXED)) is targets
    assert mitigation.worst(mitigation.HISTORY.load(Order.RELAXED)) is history


@pytest.mark.parametrize(
    "firmware",
    [
        Firmware({WORKAROUND_1: NEEDED}, version=2),
        Firmware({WORKAROUND_1: NEEDED}, version=2**64 - 1),
        Firmware({WORKAROUND_1: NEEDED}, smccc=None),
        Firmware({WORKAROUND_1: NEEDED}, smccc=0x1_0000),
        Firmware({WORKAROUND_1: 2**32 - 1}),
    ],
)
def test_old_firmware_is_not_asked_what_it_may_not_know(firmware: Firmware, monkeypatch: pytest.MonkeyPatch) -> None:
    """`Firmware` fails the test where a call would be undefined. Negative numbers may come as 32 bits or as 64."""
    monkeypatch.setattr(psci, "smc_call", firmware.call)
    assert psci.architecture_feature(psci.SMCCC_ARCH_WORKAROUND_1) == psci.ABSENT
    assert chosen(midr(ARM, 0xD09), csv2=0) == (0, True)


def test_the_bits_of_a_word_are_those_of_the_assembly_file() -> None:
    found = {name: int(x, 0) for name, x in re.findall(r"\.equ\s+(MITIGATE_\w+|WORKAROUND_\d), (\w+)", EL2_S.read_text())}
    assert found == {
        "MITIGATE_FIRMWARE": mitigation.MITIGATE_FIRMWARE,
        "MITIGATE_CLEAR": mitigation.MITIGATE_CLEAR,
        "WORKAROUND_1": int(psci.SMCCC_ARCH_WORKAROUND_1),
        "WORKAROUND_2": int(psci.SMCCC_ARCH_WORKAROUND_2),
        "WORKAROUND_3": int(psci.SMCCC_ARCH_WORKAROUND_3),
    }
    for word in (BY_1, BY_3):
        assert word & ~(1 << mitigation.MITIGATE_FIRMWARE) | 1 << 31 in (WORKAROUND_1, WORKAROUND_3), "what mitigate makes of it"


A57, A77, A510, TX2 = "hpfar_unsure", "barrier_before_entry", "step_spoils_spsr", "trap_translation_writes"
TWICE = "repeat_invalidation"


@pytest.mark.parametrize(
    ("implementer", "part", "release", "flags"),
    [
        (ARM, 0xD07, 0x00, {A57}),
        (ARM, 0xD07, 0x12, {A57}),
        (ARM, 0xD07, 0x13, set()),
        (ARM, 0xD08, 0x00, set()),
        (ARM, 0xD03, 0x04, set()),
        (ARM, 0xD0D, 0x00, {A77, TWICE}),
        (ARM, 0xD0D, 0x10, {A77, TWICE}),
        (ARM, 0xD0D, 0x11, {TWICE}),
        (ARM, 0xD46, 0x02, {A510, TWICE}),
        (ARM, 0xD46, 0x03, {TWICE}),
        (ARM, 0xD46, 0x11, {TWICE}),
        (ARM, 0xD46, 0x12, set()),
        (ARM, 0xD05, 0x20, {TWICE}),
        (ARM, 0xD0B, 0x30, {TWICE}),
        (ARM, 0xD0C, 0x41, {TWICE}),
        (ARM, 0xD8E, 0x00, set()),
        (QUALCOMM, 0x804, 0xCD, set()),
        (QUALCOMM, 0x804, 0xCE, {TWICE}),
        (QUALCOMM, 0x804, 0xFE, {TWICE}),
        (QUALCOMM, 0x804, 0xFF, set()),
        (QUALCOMM, 0x800, 0x00, {TWICE}),
        (QUALCOMM, 0x800, 0x01, set()),
        (QUALCOMM, 0x205, 0x21, {TWICE}),
        (CAVIUM, 0x0AF, 0x12, {TX2}),
        (BROADCOM, 0x516, 0x00, {TX2}),
        (BROADCOM, 0xD07, 0x00, set()),
        (NVIDIA, 0x010, 0x00, {TWICE}),
        (MICROSOFT, 0xD49, 0x00, {TWICE}),
    ],
)
def test_errata_are_those_of_the_core_and_its_release(implementer: int, part: int, release: int, flags: set[str]) -> None:
    with Machine(0x4000_0000, 0x10_0000, registers={"MIDR_EL1": midr(implementer, part, release)}):
        found = errata.find()
    assert {name for name in (A57, A77, A510, TWICE, TX2) if getattr(found, name)} == flags
    assert errata.Errata.of(found.raw) == found


def test_a_core_is_its_implementer_and_part() -> None:
    with Machine(0x4000_0000, 0x10_0000, registers={"MIDR_EL1": midr(ARM, 0xD0C, 0x31)}):
        assert cores.core_of(MIDR_EL1.read()) == cores.NEOVERSE_N1 == u32(0x4_1D0C)
