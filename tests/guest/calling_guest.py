# SPDX-License-Identifier: Apache-2.0
"""A protected guest that calls EL2 by HVC, in the simulated machine of `private_world`, with a page in each state that a page can have.

`picture` is everything that a call could change: all memory that was ever written, and EL2's tables that do not lie there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from unittest import mock

from private_world import FIRST, HOST_AT, IPA, PAGE, World, a_world

from delphyne.board.protected_image import EXECUTE, MMIO, RAM, READ, WRITE, Manifest, Window
from delphyne.el2.arch.err import Err
from delphyne.el2.arch.exception import AbortIss, Esr
from delphyne.el2.guest import guards, private, processors, registers, steps, vcpus, vms
from delphyne.el2.guest.guards import GUARDS
from delphyne.el2.guest.vms import HostTable
from delphyne.el2.kvm import protected_calls, protected_faults
from delphyne.el2.kvm.exit_codes import GUEST_GOES_ON
from delphyne.el2.kvm.seats import Seat
from delphyne.el2.memory import graveyard, pages
from delphyne.el2.memory.graveyard import GUESTS_LOCK
from delphyne.el2.memory.host_map import HOST_SPACE
from delphyne.el2.memory.stage2 import Rights
from delphyne.el2.sealing import entropy, generator, records
from delphyne.lang import Ipa, Order, Pa, Slice, u8, u32, u64, wipe
from delphyne.lang.arrays import ArrayOf, LazyCells
from delphyne.lang.atomics import Atomic
from delphyne.lang.ints import Integer
from delphyne.lang.meta import Kind, class_meta
from delphyne.lang.records import fields_of
from delphyne.lang.secret import Secret

TABLES_AT, STAGE_AT, REGISTERS_AT = HOST_AT + 0x20_0000, HOST_AT + 0x30_0000, HOST_AT + 0x40_0000
"""The host's stage-2 table of the guest, its `kvm_vcpu`, and EL2's registers of the guest's CPU."""
DEVICE, HOLE, ROOMY = 0x0900_0000, 0x5000_0000, 0x10_0000_0000
PAGES = 64
"""Of the window at IPA. Another device's window follows it at once; the window at ROOMY has 64 GiB."""
BEYOND = IPA + PAGES * PAGE
ROOM = 64 << 30
MANIFEST = Manifest(
    entry=IPA, tree=IPA, tree_size=8, rng_seed=0, kaslr_seed=0,
    windows=(
        Window(DEVICE, 2 * PAGE, MMIO), Window(IPA, PAGES * PAGE, RAM), Window(BEYOND, 2 * PAGE, MMIO), Window(ROOMY, ROOM, RAM),
    ),
    segments=((IPA, 1, READ | WRITE | EXECUTE, hashlib.sha256(b"").digest()),),
)  # fmt: skip
ELR = 0x1234_5678
WORD = (1 << 64) - 1
DRAWN = bytes(range(0x81, 0x81 + 24))
"""What EL2's generator gives here."""
STATES = (
    "untouched", "private", "shared", "exported", "exported, and back with the host", "clean", "held", "held, clean", "lent", "clean, exported",
    "clean, exported, and back with the host",
)  # fmt: skip
"""The guest's first pages, in this order, each in the frame of the same number from HOST_AT on where it has one."""


def page_of(state: str) -> int:
    return IPA + STATES.index(state) * PAGE


@dataclass(frozen=True)
class Answered:
    """An exit's code, and x0 to x4; `again` where the guest makes its call once more."""

    code: int
    x: tuple[int, ...]
    again: bool


class HostTables:
    """The host's stage-2 table of one guest, in four frames: with nothing in it, and room for the 2 MiB from IPA on."""

    def __init__(self, world: World, vm: int, at: int = TABLES_AT) -> None:
        self._memory = world.machine.memory
        self._last = at + 3 * PAGE
        vms.VMS.slots[vm].table = HostTable(Pa(u64(at)), u64(40), u64(1), u64(2), False, False)
        self._put(at + 8 * (IPA >> 30), at + 2 * PAGE | 3)
        self._put(at + 2 * PAGE, self._last | 3)

    def _put(self, at: int, word: int) -> None:
        self._memory.write(at, word.to_bytes(8, "little"))

    def lead(self, ipa: int, pa: int, rights: int = 0b11 << 6) -> None:
        """A page leads there from now on, with these rights (S2AP)."""
        self._put(self._last + 8 * ((ipa - IPA) // PAGE), pa | 1 << 10 | 0b1111 << 2 | 3 << 8 | rights | 3)

    def lead_nowhere(self, ipa: int) -> None:
        self._put(self._last + 8 * ((ipa - IPA) // PAGE), 0)


class Caller:
    """The first guest's one CPU. `host` are the host's tables of the guest."""

    def __init__(self, world: World) -> None:
        self.world = world
        registers.MEMORY.base = Pa(u64(REGISTERS_AT))
        with GUESTS_LOCK:
            made = processors.create(u64(FIRST), u64(0))
        assert not isinstance(made, Err)
        registers.reset(made, u64(0), u64(IPA), u64(0), False)
        processors.PROCESSORS[made].power = processors.Power.ON
        raw = MANIFEST.pack()
        for at, byte in enumerate(raw):
            GUARDS.slots[FIRST].manifest[at] = u8(byte)
        for at in range(32):
            GUARDS.slots[FIRST].measurement[at] = u8(at + 1)
        self.host = HostTables(world, FIRST)
        self.seat = Seat()
        self.seat.guard, self.seat.vm, self.seat.processor = u64(FIRST + 1), u64(FIRST), made
        self.seat.own, self.seat.at = registers.base_of(made), Pa(u64(STAGE_AT))

    def make_pages(self) -> None:
        """Each page of STATES in its state, with content of its own where it has a frame."""
        world = self.world
        for number, state in enumerate(STATES):
            ipa, pa, content = IPA + number * PAGE, HOST_AT + number * PAGE, state.encode()
            if state.startswith(("private", "shared", "exported")):
                assert world.admit(FIRST, ipa, pa) is None
                world.put(FIRST, ipa, content)
            elif state.startswith(("clean", "held")):
                world.put(None, pa, content)
                rights = Rights(True, "clean" not in state, True)
                assert world.do(private.hold, u64(FIRST), Ipa(u64(ipa)), Pa(u64(pa)), rights) is None
                if state.startswith("clean"):
                    world.page(private.reveal, FIRST, ipa)
            if state in ("shared", "lent"):
                assert world.page(private.share, FIRST, ipa) is None
            if "exported" in state:
                assert world.touch(pa) is not None
            if "back" in state:
                self.host.lead(ipa, pa)
        world.check()

    def call(self, function: int, *arguments: int, others: int = 0) -> Answered:
        """HVC #0. `others`: what x1 to x3 hold where no argument says it. Registers that the answer does not name are as they were."""
        own, machine = self.seat.own, self.world.machine
        given = [function, *arguments, *[others] * (3 - len(arguments))]
        given += [0xC0DE_0000 + number for number in range(len(given), 31)]
        for number, x in enumerate(given):
            registers.put_general(own, u64(number), u64(x))
        machine.write_register("ELR_EL2", ELR)
        code = int(protected_calls.serve(self.seat, registers.OWN))
        after = [int(registers.general(own, u64(number))) for number in range(31)]
        assert after[5:] == given[5:]
        again = machine.read_register("ELR_EL2") != ELR
        assert machine.read_register("ELR_EL2") == (ELR - 4 if again else ELR)
        assert not again or after == given, "a call that is made again has its arguments"
        return Answered(code, tuple(after[:5]), again)

    def result(self, function: int, *arguments: int, others: int = 0) -> int:
        """x0 of a call that EL2 answers by itself."""
        answered = self.call(function, *arguments, others=others)
        assert (answered.code, answered.again) == (GUEST_GOES_ON, False)
        return answered.x[0]

    def fate(self, ipa: int) -> str:
        """What stands in the guest's slot of a page."""
        with GUESTS_LOCK:
            found = steps.find(u64(FIRST), Ipa(u64(ipa)))
            leaf = steps.leaf_of(found)
        if leaf is None:
            return steps.absent_of(found).fate.name
        return {8: "PRIVATE", 9: "SHARED", 10: "CLEAN"}[int(leaf.software)]


@contextmanager
def drawing() -> Iterator[None]:
    """EL2's generator gives DRAWN, again and again."""

    def fill(area: object, out: Slice[u8]) -> None:
        for at in range(len(out)):
            out[at] = u8(DRAWN[at % len(DRAWN)])

    with mock.patch.object(generator, "fill", fill):
        yield


@contextmanager
def a_caller() -> Iterator[Caller]:
    """With STATES made. The machine is no development one."""
    with a_world() as world, drawing():
        try:
            caller = Caller(world)
            caller.make_pages()
            yield caller
        finally:
            wipe(processors.PROCESSORS)
            wipe(registers.MEMORY)
            wipe(entropy.SOURCES)


def abort(caller: Caller, ipa: int, store: bool = True, *, offset: int = 8) -> int:
    """The exit code of a guest's access of 8 bytes by x3, at `offset` of a page, that found nothing at its last level."""
    iss = AbortIss(fsc=u8(7), wnr=store, isv=True, sas=u8(3), srt=u8(3))
    caller.world.machine.write_register("HPFAR_EL2", ipa >> 8)
    caller.world.machine.write_register("FAR_EL2", ipa + offset)
    return int(protected_faults.serve(caller.seat, registers.OWN, Esr(ec=u8(0x24), il=True, iss=u32(int(iss.raw))), False))


# --- everything -------------------------------------------------------------------------------------------------------------------------------


def _shown(value: object) -> object:
    """A value as something that compares; None for what is zero, so that it does not matter whether an element was made."""
    shown: object
    if isinstance(value, Atomic):
        shown = int(value._get())
    elif isinstance(value, Secret):
        shown = int(value._hidden)
    elif isinstance(value, ArrayOf):
        cells = value._cells._made if isinstance(value._cells, LazyCells) else dict(enumerate(value._cells))
        shown = {number: kept for number, cell in cells.items() if (kept := _shown(cell)) is not None}
    elif (meta := class_meta(type(value))) is not None and meta.kind is Kind.STRUCT:
        shown = {name: kept for name in fields_of(type(value)) if (kept := _shown(getattr(value, name))) is not None}
    else:
        raw = getattr(value, "raw", value)
        shown = int(raw) if isinstance(raw, int | Integer) else repr(value)
    return shown or None


def picture(world: World, but: tuple[int, ...] = (REGISTERS_AT,)) -> dict[object, object]:
    """All of it, but the frames at `but`."""
    memory = world.machine.memory
    statics = (
        pages.POOLS, HOST_SPACE, records.LEDGER, graveyard.GRAVEYARD, vms.VMS, vcpus.VCPUS, GUARDS, processors.PROCESSORS,
    )  # fmt: skip
    seen: dict[object, object] = {number: _shown(static) for number, static in enumerate(statics)}
    seen["alive"] = [int(guards.ALIVE[number].load(Order.ACQUIRE)) for number in range(32)]
    for number in list(memory._frames):
        at = number * PAGE
        content = memory.read(at, PAGE)
        if at not in but and any(content):
            seen[at] = content
    return seen


def differences(before: dict[object, object], after: dict[object, object]) -> list[str]:
    """Which parts differ: addresses of frames, or the tables' numbers."""
    return [f"{key:#x}" if isinstance(key, int) else str(key) for key in {**before, **after} if before.get(key) != after.get(key)]

