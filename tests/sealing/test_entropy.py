# SPDX-License-Identifier: Apache-2.0
"""Where EL2's randomness comes from: firmware, processor, device tree, and what happens without."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from bytes_of_the_language import array, piece

from delphyne.el2.arch import entropy as sources
from delphyne.el2.arch import psci
from delphyne.el2.arch.err import Err
from delphyne.el2.arch.frame import Frame
from delphyne.el2.arch.machine import MACHINE
from delphyne.el2.arch.psci import Conduit
from delphyne.el2.sealing import drbg, engine, entropy, generator
from delphyne.lang import SimdArea, u64, wipe
from delphyne.lang.machine import Machine

ISAR0 = "ID_AA64ISAR0_EL1"
RNDR = 1 << 60
NOT_SUPPORTED = 2**64 - 1
NO_ENTROPY = 2**64 - 3
GIVEN = bytes(range(1, 33))


class Firmware:
    """SMCCC 1.1 with a TRNG that has `versions` for an answer; each call for bits takes the next of `answers`, and success after them."""

    def __init__(self) -> None:
        self.versions = {0x8400_0000: 0x1_0001, 0x8400_000A: 0, 0x8000_0000: 0x1_0001, 0x8400_0050: 0x1_0000}
        self.answers: list[int] = []
        self.asked: list[tuple[int, int]] = []

    def call(self, function: u64, x1: u64, x2: u64, x3: u64) -> u64:
        return u64(self.versions.get(int(function), NOT_SUPPORTED))

    def relay(self, frame: Frame) -> None:
        self.asked.append((int(frame.x[0]), int(frame.x[1])))
        answer = self.answers.pop(0) if self.answers else 0
        frame.x[0] = u64(answer)
        for n in (1, 2, 3):
            frame.x[n] = u64(len(self.asked) << 8 | n) if answer == 0 else u64(0)


@pytest.fixture
def machine() -> Iterator[Machine]:
    statics = (entropy.SOURCES, generator.GENERATOR, MACHINE)
    with Machine(registers={ISAR0: 0, "ID_AA64PFR0_EL1": 0, "CNTPCT_EL0": 77}) as made:
        yield made
    for static in statics:
        wipe(static)


@pytest.fixture
def firmware(monkeypatch: pytest.MonkeyPatch) -> Firmware:
    made = Firmware()
    monkeypatch.setattr(psci, "smc_call", made.call)
    monkeypatch.setattr(psci, "smc_relay", made.relay)
    return made


def words(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(8, "little") for number in numbers)


def test_the_firmware_is_asked_for_192_bits_at_a_time(firmware: Firmware) -> None:
    out = array(bytes(48))
    assert sources.of_firmware(out[:])
    assert bytes(out) == words(0x101, 0x102, 0x103, 0x201, 0x202, 0x203)
    assert firmware.asked == [(0xC400_0053, 192)] * 2


@pytest.mark.parametrize("number", [0x8400_0000, 0x8400_000A, 0x8000_0000, 0x8400_0050])
def test_firmware_that_does_not_know_the_call_is_not_asked(firmware: Firmware, number: int) -> None:
    del firmware.versions[number]
    assert not sources.of_firmware(array(bytes(48))[:])
    assert firmware.asked == []


def test_firmware_without_entropy_is_asked_again_but_not_for_ever(firmware: Firmware) -> None:
    firmware.answers = [NO_ENTROPY] * 5
    out = array(bytes(24))
    assert sources.of_firmware(out[:])
    assert bytes(out) == words(0x601, 0x602, 0x603)
    firmware.answers = [NO_ENTROPY] * 1000
    assert not sources.of_firmware(out[:])
    assert len(firmware.asked) == 6 + 64


@pytest.mark.parametrize("answer", [NOT_SUPPORTED, 2**64 - 2])
def test_firmware_that_fails_is_believed(firmware: Firmware, answer: int) -> None:
    firmware.answers = [0, answer]
    assert not sources.of_firmware(array(bytes(48))[:])
    assert len(firmware.asked) == 2


def test_the_processor_is_asked_where_it_has_numbers(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = iter([5, 0, 0, 7])
    monkeypatch.setattr(sources, "random_number", lambda: u64(next(numbers)))
    out = array(bytes(16))
    assert not sources.of_processor(out[:])
    machine.write_register(ISAR0, RNDR)
    assert sources.of_processor(out[:])
    assert bytes(out) == words(5, 7)


def test_a_processor_without_numbers_is_not_asked_for_ever(machine: Machine) -> None:
    machine.write_register(ISAR0, RNDR)
    assert not sources.of_processor(array(bytes(16))[:])


def seeded(given: bytes, development: bool = False) -> tuple[bool, bool, bool, bool]:
    """The sources, after `seed`."""
    held = array(given)
    entropy.seed(SimdArea(), held[: len(given)], piece(b"a tree"), development)
    assert bytes(held) == bytes(max(1, len(given))), "the seed is wiped"
    found = entropy.SOURCES
    return found.firmware, found.processor, found.tree, found.weak


def is_seeded_with(material: bytes, given: bytes) -> bool:
    expected = drbg.Drbg()
    drbg.instantiate(expected, SimdArea(), piece(material.ljust(136, b"\0")), piece(given), piece(b"Delphyne"))
    return bytes(generator.GENERATOR.key) == bytes(expected.key) and bytes(generator.GENERATOR.value) == bytes(expected.value)


def test_all_sources_there_are_count(machine: Machine, firmware: Firmware, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "random_number", lambda: u64(9))
    MACHINE.conduit = Conduit.SMC
    machine.write_register(ISAR0, RNDR)
    assert seeded(GIVEN) == (True, True, True, False)
    assert is_seeded_with(words(0x101, 0x102, 0x103, 0x201, 0x202, 0x203, *[9] * 6), GIVEN)
    assert [text for _, text in machine.messages] == ["randomness: firmware True, processor True, device tree True"]


def test_firmware_that_is_not_called_by_smc_is_not_asked(machine: Machine, firmware: Firmware) -> None:
    MACHINE.conduit = Conduit.HVC
    assert seeded(GIVEN) == (False, False, True, False)
    assert firmware.asked == []


def test_a_seed_of_the_tree_is_enough(machine: Machine) -> None:
    assert seeded(GIVEN, development=True) == (False, False, True, False)
    assert is_seeded_with(b"", GIVEN)
    assert [text for _, text in machine.messages] == ["randomness: firmware False, processor False, device tree True"]


@pytest.mark.parametrize("given", [b"", GIVEN[:31], bytes(32)])
def test_without_a_source_nothing_is_generated(machine: Machine, given: bytes) -> None:
    assert seeded(given) == (False, False, False, False)
    assert generator.fill(SimdArea(), piece(bytes(8))) is Err.STATE
    assert [text for _, text in machine.messages] == ["randomness: none: no guest can be protected on this machine"]


def test_a_machine_for_development_makes_do(machine: Machine) -> None:
    assert seeded(GIVEN[:31], development=True) == (False, False, False, True)
    tree = array(bytes(32))
    engine.digest(SimdArea(), piece(b"a tree"), tree[:])
    assert is_seeded_with(bytes(96) + bytes(tree) + words(77), GIVEN[:31])
    assert [text for _, text in machine.messages] == ["randomness: none, but the machine is marked as development: keys can be guessed"]
