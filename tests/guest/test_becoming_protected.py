# SPDX-License-Identifier: Apache-2.0
"""BEGIN, MEASURE and COMMIT with wrong arguments, at wrong times, and with each step failing (catalogue lines G4, H16, H17): the VM stays an ordinary
one, nothing of it has changed, and the same calls succeed when nothing is wrong."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from unittest import mock

import pytest
from calling_guest import DEVICE, MANIFEST, REGISTERS_AT, STAGE_AT, WORD, HostTables, differences, drawing, picture
from private_world import FIRST, HOST_AT, IPA, ORDINARY, PAGE, World, a_world

from delphyne.board.protected_image import EXECUTE, READ, WRITE
from delphyne.el2.arch.err import Err
from delphyne.el2.arch.world import answer_word, asked_word
from delphyne.el2.guest import guards, manifest, private, processors, registers, vcpus, vms
from delphyne.el2.guest.guards import GUARDS, Phase
from delphyne.el2.kvm import protect
from delphyne.el2.kvm.exit_codes import COMMITTED, EXIT_TRAP, GUEST_GOES_ON
from delphyne.el2.kvm.seats import Seat
from delphyne.el2.memory import shadow
from delphyne.el2.memory.frames import State
from delphyne.el2.memory.graveyard import GUESTS_LOCK
from delphyne.el2.sealing import entropy, generator
from delphyne.lang import Pa, u64, wipe

BEGIN, MEASURE, COMMIT = 0xC600_DE01, 0xC600_DE02, 0xC600_DE03
INVALID, DENIED, NO_MEMORY = WORD - 2, WORD - 3, WORD - 4
AGAIN = 1
CONTENT = (b"code".ljust(PAGE, b"\x1f"), b"more code".ljust(PAGE, b"\x2f"))
DIGEST = hashlib.sha256(b"".join(CONTENT)).digest()
SOUND = replace(MANIFEST, segments=((IPA, 2, READ | WRITE | EXECUTE, DIGEST),))
IMAGE, PAPER = HOST_AT, HOST_AT + 8 * PAGE
"""The host's frames of the two pages at IPA, and of the manifest, which the guest has at PAPER_AT."""
PAPER_AT = IPA + 8 * PAGE


class Stub:
    """The stub at the start of an ordinary guest's image, on its one vCPU."""

    def __init__(self, world: World) -> None:
        self.world = world
        registers.MEMORY.base = Pa(u64(REGISTERS_AT))
        entropy.SOURCES.development = True
        self.host = HostTables(world, ORDINARY)
        for number, content in enumerate(CONTENT):
            world.put(None, IMAGE + number * PAGE, content)
            self.host.lead(IPA + number * PAGE, IMAGE + number * PAGE)
        world.put(None, PAPER, SOUND.pack())
        self.host.lead(PAPER_AT, PAPER)
        self.seat = Seat()
        self.seat.vm, self.seat.at = u64(ORDINARY), Pa(u64(STAGE_AT))

    def call(self, function: int, x1: int = 0) -> tuple[int, int]:
        """Exit code and x0."""
        for number, x in enumerate((function, x1)):
            answer_word(self.seat.at, registers.OWN.regs + u64(number * 8), u64(x))
        self.world.machine.write_register("ELR_EL2", 0x1000)
        code = int(protect.serve(self.seat, registers.OWN))
        return code, int(asked_word(self.seat.at, registers.OWN.regs))

    def answer(self, function: int, x1: int = 0) -> int:
        """x0 of a call that the host does not hear of."""
        code, x0 = self.call(function, x1)
        assert code == int(GUEST_GOES_ON)
        return x0

    def measure(self) -> int:
        """MEASURE until it is done or refused; BUSY is made again."""
        for _ in range(10000):
            code, x0 = self.call(MEASURE)
            if code == int(GUEST_GOES_ON) and x0 != AGAIN:
                return x0
        raise AssertionError("it measures for ever")

    def become_protected(self) -> None:
        assert self.answer(BEGIN, PAPER_AT) == 0
        assert self.measure() == 0
        assert self.call(COMMIT)[0] == int(COMMITTED)
        guard = GUARDS.slots[self.seat.guard - 1]
        assert (guard.phase, guard.committed) == (Phase.PROTECTED, True)
        assert {self.world.entry(IMAGE + number * PAGE).state for number in range(2)} == {State.PRIVATE}

    def seen(self) -> dict[object, object]:
        """Everything but the stage and what counts for nothing: how many guests there ever were, how often the VM's shadow was emptied, and what is
        left of a place for a processor that is not in use."""
        shadow_of = vms.VMS.slots[ORDINARY].shadow
        counts = int(GUARDS.identities), int(shadow_of.epoch)
        GUARDS.identities = shadow_of.epoch = u64(0)
        for number in range(4):
            if not processors.PROCESSORS[number].used:
                wipe(processors.PROCESSORS[number])
        made = picture(self.world, (REGISTERS_AT, STAGE_AT))
        GUARDS.identities, shadow_of.epoch = u64(counts[0]), u64(counts[1])
        made["seat"] = (int(self.seat.guard), int(self.seat.processor))
        return made


@pytest.fixture
def stub() -> Iterator[Stub]:
    with a_world() as world, drawing():
        try:
            yield Stub(world)
        finally:
            wipe(processors.PROCESSORS)
            wipe(registers.MEMORY)
            wipe(entropy.SOURCES)
            GUARDS.closed = False


def refused(stub: Stub, wanted: int, function: int = BEGIN, x1: int = PAPER_AT) -> None:
    """The call's answer, after which nothing has changed, and the guest is an ordinary one."""
    before = stub.seen()
    assert stub.answer(function, x1) == wanted
    assert differences(before, stub.seen()) == []
    assert vms.VMS.slots[ORDINARY].guard == 0


def test_the_address_of_a_manifest(stub: Stub) -> None:
    """G4: unaligned, beyond all addresses, in a frame that is a guest's or EL2's, or nobody's; and where the host has none, it is asked for one."""
    for wrong in (1, PAPER_AT + 8, PAPER_AT + PAGE - 1, 1 << 40, PAPER_AT | 1 << 63, WORD, WORD - PAGE + 1):
        refused(stub, INVALID, x1=wrong)
    assert stub.world.admit(FIRST, IPA, HOST_AT + 9 * PAGE) is None
    for frame in (HOST_AT + 9 * PAGE, HOST_AT - PAGE, DEVICE):
        stub.host.lead(PAPER_AT, frame)
        refused(stub, DENIED)
    before = stub.seen()
    assert stub.call(BEGIN, PAPER_AT + PAGE)[0] == int(EXIT_TRAP)
    assert stub.call(BEGIN, 0)[0] == int(EXIT_TRAP)
    assert differences(before, stub.seen()) == []
    stub.host.lead(PAPER_AT, PAPER)
    stub.become_protected()


def test_a_manifest_that_breaks_a_rule(stub: Stub) -> None:
    """G4: each rule by itself is in test_manifest.py."""
    raw = SOUND.pack()
    for at in (0, 8, 16, 36, 64, 448, 2000, 3071, 4095):
        stub.world.put(None, PAPER, raw[:at] + bytes([raw[at] ^ 0x81]) + raw[at + 1 :])
        refused(stub, INVALID)
    stub.world.put(None, PAPER, raw)
    stub.become_protected()


def test_calls_at_wrong_times(stub: Stub) -> None:
    """G4: MEASURE and COMMIT before BEGIN, COMMIT before all is measured, BEGIN twice, on a machine where guests may not begin, without a key."""
    refused(stub, DENIED, MEASURE)
    refused(stub, DENIED, COMMIT)
    entropy.SOURCES.development = False
    refused(stub, DENIED)
    entropy.SOURCES.development = True
    GUARDS.closed = True
    refused(stub, DENIED)
    GUARDS.closed = False
    with mock.patch.object(generator, "fill", return_value=Err.STATE):
        refused(stub, DENIED)
    with mock.patch.object(vcpus, "forget_others", return_value=False):
        refused(stub, DENIED)
    assert stub.answer(BEGIN, PAPER_AT) == 0
    before = stub.seen()
    for function in (BEGIN, COMMIT):
        assert stub.answer(function, PAPER_AT) == DENIED
    assert differences(before, stub.seen()) == []
    assert stub.measure() == 0
    assert stub.call(COMMIT)[0] == int(COMMITTED)


@pytest.mark.parametrize(
    ("module", "step", "why", "wanted"),
    [
        (guards, "create", Err.NO_MEMORY, NO_MEMORY), (processors, "create", Err.NO_MEMORY, NO_MEMORY), (manifest, "check", Err.MALFORMED, INVALID),
        (generator, "fill", Err.STATE, DENIED),
    ],
)  # fmt: skip
def test_a_step_of_begin_that_fails(stub: Stub, module: object, step: str, why: Err, wanted: int) -> None:
    """H16, H17."""
    with mock.patch.object(module, step, return_value=why) as failed:
        refused(stub, wanted)
    assert failed.call_count == 1
    stub.become_protected()


@pytest.mark.parametrize(("module", "step"), [(private, "hold"), (shadow, "deepen")])
def test_a_page_that_cannot_be_taken_is_measured_when_it_can(stub: Stub, module: object, step: str) -> None:
    """H16, H17: MEASURE says so and goes on where it was."""
    assert stub.answer(BEGIN, PAPER_AT) == 0
    with mock.patch.object(module, step, return_value=Err.NO_MEMORY):
        before = stub.seen()
        assert stub.answer(MEASURE) == NO_MEMORY
        assert differences(before, stub.seen()) == []
    assert stub.measure() == 0
    assert stub.call(COMMIT)[0] == int(COMMITTED)


def test_an_image_that_is_not_the_manifests_goes_back_as_it_came(stub: Stub) -> None:
    """G4: no page of it ever ran; the VM is an ordinary one, and begins anew with what is right."""
    changed = CONTENT[1][:-1] + b"\0"
    stub.world.put(None, IMAGE + PAGE, changed)
    before = stub.seen()
    assert stub.answer(BEGIN, PAPER_AT) == 0
    assert stub.measure() == DENIED
    assert stub.world.content(None, IMAGE) == CONTENT[0]
    assert stub.world.content(None, IMAGE + PAGE) == changed
    assert vms.VMS.slots[ORDINARY].guard == 0
    left = [one for one in differences(before, stub.seen()) if one != "seat" and int(one, 16) >= HOST_AT]
    assert left == [], "the host's memory is what it was"
    stub.world.check()
    stub.world.put(None, IMAGE + PAGE, CONTENT[1])
    stub.become_protected()


def test_nobody_commits_before_anything_was_measured(stub: Stub) -> None:
    """G4: and a page that the host may not write, or took away, is asked for, not skipped."""
    assert stub.answer(BEGIN, PAPER_AT) == 0
    assert stub.answer(COMMIT) == DENIED
    stub.host.lead(IPA + PAGE, IMAGE + PAGE, 0b01 << 6)
    codes = {stub.call(MEASURE)[0] for _ in range(3)}
    assert codes == {int(EXIT_TRAP)}
    assert stub.answer(COMMIT) == DENIED
    with GUESTS_LOCK:
        assert guards.of_vm(u64(ORDINARY)) is not None
    stub.host.lead(IPA + PAGE, IMAGE + PAGE)
    assert stub.measure() == 0
    assert stub.call(COMMIT)[0] == int(COMMITTED)
