# SPDX-License-Identifier: Apache-2.0
"""Which calls of the firmware a host can make, and what becomes of those that name an entry point."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delphyne.el2.arch import image
from delphyne.el2.arch.cpu import CPUS
from delphyne.el2.arch.frame import Frame
from delphyne.el2.entry import firmware
from delphyne.lang import Order, address_of, u64, wipe
from delphyne.lang.machine import Machine

ENTRY = int(image.secondary_entry_address().raw)
NOT_SUPPORTED = 2**64 - 1
CODE_AT = 0xFFFF_8000_0800_0000


class Relay:
    """EL3: every call that reaches it, as it reaches it."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.answer = 0

    def __call__(self, frame: Frame) -> None:
        self.calls.append([int(frame.x[i]) for i in range(5)])
        frame.x[0] = u64(self.answer)


@pytest.fixture
def relay(monkeypatch: pytest.MonkeyPatch) -> Iterator[Relay]:
    made = Relay()
    monkeypatch.setattr(firmware, "smc_relay", made)
    with Machine(0x4000_0000, 0x0400_0000, cpus=3) as machine:
        for number in range(3):
            wipe(CPUS.of(number))
            CPUS.of(number).stack_top = u64(0x1000)
            CPUS.of(number).index = u64(number)
            CPUS.of(number).mpidr = u64(number << 8)
        for number in range(3):
            machine.cpus[number].registers["TPIDR_EL2"] = int(address_of(CPUS.of(number)).raw)
        CPUS.of(0).power.store(firmware.POWER_ON, Order.RELEASE)
        yield made
        for number in range(3):
            wipe(CPUS.of(number))


def call(*x: int) -> Frame:
    frame = Frame()
    for i, number in enumerate(x):
        frame.x[i] = u64(number)
    frame.elr = u64(CODE_AT)
    firmware.serve(frame)
    assert int(frame.elr) == CODE_AT + 4
    return frame


PASSING = [
    0x8400_0000, 0x8400_0004, 0xC400_0004, 0x8400_0006, 0x8400_0008, 0x8400_0009, 0x8400_000A, 0x8400_000F, 0x8400_0012, 0xC400_0012,
    0x8400_0050, 0x8400_0051, 0x8400_0052, 0x8400_0053, 0xC400_0053, 0x8000_0000, 0x8000_0001, 0x8000_0002, 0x8000_8000, 0x8000_7FFF, 0x8000_3FFF,
]
STARTING = [0x8400_0001, 0xC400_0001, 0x8400_0002, 0x8400_0003, 0xC400_0003, 0x8400_000E, 0xC400_000E]


@pytest.mark.parametrize("number", PASSING)
def test_calls_that_name_no_address_pass_as_they_are(relay: Relay, number: int) -> None:
    relay.answer = 5
    asked = 0x8400_0000 if number == 0x8400_000A else 1
    assert int(call(number, asked, 2, 3, 4).x[0]) == 5
    assert relay.calls == [[number, asked, 2, 3, 4]]


@pytest.mark.parametrize(
    "number",
    [0xC400_0000, 0xC400_0008, 0xC400_000A, 0xC400_0050, 0x8400_0005, 0x8400_000C, 0x8400_0013, 0x8400_0060, 0x8400_0063, 0xC400_0066,
     0xB200_0000, 0xF200_FF01, 0x8200_0000, 0xC300_0001, 0x0, 0x3200_0000, 0xC600_0001, 0xC000_8000],
)
def test_everything_else_is_not_supported_and_never_reaches_the_firmware(relay: Relay, number: int) -> None:
    assert int(call(number, 1, 2, 3).x[0]) == NOT_SUPPORTED
    assert relay.calls == []


def test_the_upper_half_of_the_number_does_not_count(relay: Relay) -> None:
    call(0xDEAD_0000_8400_0000)
    assert relay.calls == [[0x8400_0000, 0, 0, 0, 0]]
    assert int(call(0xFFFF_FFFF_0000_0000).x[0]) == NOT_SUPPORTED


@pytest.mark.parametrize("number", PASSING)
def test_a_caller_without_live_vectors_makes_the_same_call(relay: Relay, number: int) -> None:
    """Linux sets bit 16 in every call where the processor has SVE and the firmware SMCCC 1.3."""
    call(number | 1 << 16, 0x8400_0000)
    assert relay.calls == [[number, 0x8400_0000, 0, 0, 0]]


def test_a_start_without_live_vectors_is_caught_as_well(relay: Relay) -> None:
    call(0xC401_0003, 0x100, 0x4040_0000, 77)
    assert relay.calls[0][:3] == [0xC400_0003, 0x100, ENTRY]
    call(0xC401_000E, 0x4140_0000, 78)
    assert relay.calls[1][:2] == [0xC400_000E, ENTRY]


@pytest.mark.parametrize("number", [*PASSING, *STARTING])
def test_features_tells_of_calls_that_can_be_made(relay: Relay, number: int) -> None:
    call(0x8400_000A, number)
    assert relay.calls == [[0x8400_000A, number, 0, 0, 0]]


@pytest.mark.parametrize("number", [0x8400_000C, 0xC400_000C, 0x8400_0013, 0xC400_0014, 0x8400_0005, 0xC400_0002, 0])
def test_features_hides_calls_that_are_refused(relay: Relay, number: int) -> None:
    assert int(call(0x8400_000A, number).x[0]) == NOT_SUPPORTED
    assert relay.calls == []


def test_the_last_instruction_of_the_address_space_may_be_a_call(relay: Relay) -> None:
    frame = Frame()
    frame.elr = u64(2**64 - 4)
    firmware.serve(frame)
    assert int(frame.elr) == 0


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 2**64 - 1), min_size=3, max_size=3))
@settings(max_examples=300, deadline=None)
def test_no_number_outside_the_list_passes(number: int, arguments: list[int]) -> None:
    if number not in STARTING:
        assert firmware._passes(u64(number), u64(number & ~0x4000_0000), number & 0x4000_0000 != 0) is (number in PASSING)


def test_a_cpu_starts_at_el2_and_its_entry_waits(relay: Relay) -> None:
    assert int(call(0xC400_0003, 0x100, 0x4040_0000, 77).x[0]) == 0
    assert relay.calls[0][:4] == [0xC400_0003, 0x100, ENTRY, int(address_of(CPUS.of(1)).raw)]
    started = CPUS.of(1)
    assert (int(started.host_entry), int(started.host_context)) == (0x4040_0000, 77)
    assert started.power.load(Order.RELAXED) == firmware.POWER_ON


def test_the_32_bit_form_takes_32_bits(relay: Relay) -> None:
    call(0x8400_0003, 0xF_0000_0100, 0xF_4040_0000, 0xF_0000_0007)
    assert relay.calls[0][:2] == [0xC400_0003, 0x100]
    assert (int(CPUS.of(1).host_entry), int(CPUS.of(1).host_context)) == (0x4040_0000, 7)


def test_a_cpu_that_is_on_keeps_its_entry(relay: Relay) -> None:
    call(0xC400_0003, 0x100, 0x4040_0000, 77)
    assert int(call(0xC400_0003, 0x100, 0x5050_0000, 88).x[0]) == 2**64 - 4
    assert int(CPUS.of(1).host_entry) == 0x4040_0000
    assert int(call(0xC400_0003, 0, 0x5050_0000, 88).x[0]) == 2**64 - 4
    assert len(relay.calls) == 1


def test_a_start_that_the_firmware_refuses_can_be_tried_again(relay: Relay) -> None:
    relay.answer = 2**64 - 2
    assert int(call(0xC400_0003, 0x100, 0x4040_0000, 77).x[0]) == 2**64 - 2
    assert CPUS.of(1).power.load(Order.RELAXED) == firmware.POWER_OFF
    relay.answer = 0
    assert int(call(0xC400_0003, 0x100, 0x4040_0000, 77).x[0]) == 0


@pytest.mark.parametrize("target", [0x300, 1, 0x8000_0100, 2**64 - 1, 1 << 40, 0x100_0100])
def test_a_cpu_that_nobody_knows_is_an_invalid_parameter(relay: Relay, target: int) -> None:
    assert int(call(0xC400_0003, target, 0x4040_0000, 0).x[0]) == 2**64 - 2
    assert relay.calls == []


def test_a_cpu_that_left_can_come_back(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    """The firmware of the test returns from CPU_OFF, as it does only where it refuses: until then the CPU counts as off."""
    seen: list[bool] = []

    def off(frame: Frame) -> None:
        seen.append(CPUS.of(0).power.load(Order.RELAXED) == firmware.POWER_OFF)
        relay(frame)

    monkeypatch.setattr(firmware, "smc_relay", off)
    call(0x8400_0002)
    assert seen == [True]
    assert CPUS.of(0).power.load(Order.RELAXED) == firmware.POWER_ON


@pytest.mark.parametrize(
    ("given_call", "passed"),
    [
        ((0xC400_0001, 0x1_0000, 0x4040_0000, 9), (0xC400_0001, 0x1_0000, ENTRY, -1)),
        ((0x8400_0001, 0x1_0000, 0xF_4040_0000, 9), (0xC400_0001, 0x1_0000, ENTRY, -1)),
        ((0xC400_000E, 0x4040_0000, 9, 0), (0xC400_000E, ENTRY, -1, 0)),
        ((0x8400_000E, 0xF_4040_0000, 9, 0), (0xC400_000E, ENTRY, -1, 0)),
    ],
)
def test_a_suspend_comes_back_through_el2(relay: Relay, given_call: tuple[int, ...], passed: tuple[int, ...]) -> None:
    call(*given_call)
    mine = int(address_of(CPUS.of(0)).raw)
    assert relay.calls[0][:4] == [mine if x == -1 else x for x in passed]
    assert (int(CPUS.of(0).host_entry), int(CPUS.of(0).host_context)) == (0x4040_0000, 9)
