# SPDX-License-Identifier: Apache-2.0
"""A simulated machine with a host map, records, two protected guests and an ordinary one, and what a host and a guest see of its RAM.

`quick` sealing keeps the shape of the real one (who, where, terms, content; verified before decrypted) and is made of hashlib, since the real one
takes a second for a page here. What the pages' own tests need of the real one they take.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from delphyne.el2.arch.cpu import CPUS
from delphyne.el2.arch.err import Err
from delphyne.el2.arch.pagetable import Stage2Leaf
from delphyne.el2.guest import guards, lent, moving, private, steps, touch, turns, vcpus, vms, whole
from delphyne.el2.guest.guards import GUARDS, Phase
from delphyne.el2.memory import blocks, frames, graveyard, host_map, invariants, pages, shadow, stage2, tables
from delphyne.el2.memory.frames import FrameEntry, State
from delphyne.el2.memory.graveyard import GUESTS_LOCK
from delphyne.el2.memory.host_map import HOST_LOCK, HOST_SPACE
from delphyne.el2.memory.pages import PoolName
from delphyne.el2.sealing import engine, records
from delphyne.el2.sealing import page as sealed
from delphyne.lang import Array, Ipa, Pa, Slice, secret, u8, u16, u64, wipe
from delphyne.lang.locks import forget_held_locks
from delphyne.lang.machine import Access, GuestFault, Machine

PAGE, BLOCK = 4096, 0x20_0000
RAM, RAM_SIZE = 0x4000_0000, 0x0180_0000
TABLE_PAGES = 16 + 6 + 48
PAGES_AT, BOOKKEEPING_AT, FRAMES_AT, RECORDS_AT = RAM, RAM + 0x40_0000, RAM + 0x50_0000, RAM + 0x60_0000
HOST_AT = RAM + 0x80_0000
LOOKED_AT = 48
"""Frames from HOST_AT on that tests use, and `World.check` looks at unless it is told others."""
IPA = 0x8000_0000
"""Where the guests' memory begins, to them."""
FIRST, SECOND, ORDINARY = 0, 1, 2
"""The VMs; the first two have the guards of the same numbers when a world begins."""
VMS = (FIRST, SECOND, ORDINARY)
EYES = ("VTTBR_EL2", "VTCR_EL2", "HCR_EL2")
"""The registers that say by which tables a CPU looks at memory."""
ADDRESS = 0x0000_FFFF_FFFF_F000
MAX_CPUS = 4
READ, WRITE, EXECUTE = Access.READ, Access.WRITE, Access.EXECUTE


class World:
    """Lives inside `a_world`."""

    def __init__(self, machine: Machine, count: int, quick: bool) -> None:
        self.machine = machine
        self.refusals = 0
        """How often `do` found that an operation asked whether a piece was its CPU's turn, and was refused at first."""
        self._quick = quick
        for name, unit, units in ((PoolName.STARTS, 16, 1), (PoolName.GUEST_STARTS, 2, 3), (PoolName.HOST, 1, 24), (PoolName.GUESTS, 1, 24)):
            assert pages.assign(name, u64(unit), u64(units)) is None
        assert frames.add_bank(Pa(u64(RAM)), u64(RAM_SIZE)) is None
        assert frames.attach(Pa(u64(FRAMES_AT))) is None
        assert frames.admit(Pa(u64(HOST_AT)), u64(RAM + RAM_SIZE - HOST_AT)) is None
        records.attach(Pa(u64(RECORDS_AT)), u64(count))
        with frames.LOCK, HOST_LOCK, GUESTS_LOCK:
            assert host_map.create(u64(40)) is None
            assert host_map.add(u64(HOST_AT), u64(RAM + RAM_SIZE - HOST_AT)) is None
            for number in VMS:
                vm = vms.VMS.slots[number]
                vm.used = True
                vms.guard(u64(number), u64(0))
                assert shadow.create(vm.shadow, u64(40), u16(number + 1)) is None
            spaces: dict[int | None, tables.Space] = {number: vms.VMS.slots[number].shadow.space for number in VMS}
            spaces[None] = HOST_SPACE
            self._eyes = {who: self._eyes_of(space) for who, space in spaces.items()}
        for number in (FIRST, SECOND):
            self.begin(number)
            self.commit(number)
        self.looked_at = range(HOST_AT, HOST_AT + LOOKED_AT * PAGE, PAGE)
        self.use_host()

    # --- who looks -------------------------------------------------------------------------------------------------------------------------

    @staticmethod
    def _eyes_of(space: tables.Space) -> tuple[int, ...]:
        return int(tables.vttbr_of(space).raw), int(stage2.vtcr(space, u8(5)).raw), 1 << 31 | 1

    def use_host(self) -> None:
        self._use(None)

    def use_guest(self, number: int) -> None:
        self._use(number)

    def _use(self, who: int | None) -> None:
        for name, x in zip(EYES, self._eyes[who], strict=True):
            self.machine.write_register(name, x)

    def reach(self, number: int | None, at: int, access: Access = READ, *, both_stages: bool = False) -> int | None:
        """Where a guest, or the host (None), gets by an address; None for a fault. The host's map is current afterwards. `both_stages`: as a load or
        store does, which a processor may remember as one translation."""
        self._use(number)
        try:
            if both_stages:
                return self.machine.walker().el1(at, access).at(at)
            return self.machine.stage2_translate(at, access)
        except GuestFault:
            return None
        finally:
            self.use_host()

    def content(self, number: int | None, at: int) -> bytes | None:
        """A page as a guest, or the host, reads it; None for a fault."""
        pa = self.reach(number, at)
        return None if pa is None else self.machine.memory.read(pa, PAGE)

    def put(self, number: int | None, at: int, data: bytes) -> None:
        """They write it."""
        pa = self.reach(number, at, WRITE)
        assert pa is not None, f"{number} cannot write {at:#x}"
        self.machine.memory.write(pa, data.ljust(PAGE, b"\0"))

    # --- operations ------------------------------------------------------------------------------------------------------------------------

    def do(self, operation: object, *arguments: object) -> object:
        """An operation of `private` with its locks; where pieces are done, out of its CPU's turn first, which does none of them."""
        if not engine.is_quick():
            before = self.progress()
            with mock.patch.object(turns, "is_mine", return_value=False) as asked, frames.LOCK, HOST_LOCK, GUESTS_LOCK:
                done = operation(*arguments)  # type: ignore[operator]
            if not asked.called:
                return done
            assert done is not None, "it says that it is to be asked again"
            assert self.progress() == before, "a piece out of turn"
            self.refusals += 1
        with frames.LOCK, HOST_LOCK, GUESTS_LOCK:
            return operation(*arguments)  # type: ignore[operator]

    def progress(self) -> list[tuple[object, ...]]:
        """How far each move is."""
        return [(bool(m.used), bool(m.importing), int(m.record), m.job.phase, int(m.job.position)) for m in self.moves()]

    def guard(self, number: int) -> int:
        """The guard of a VM that is protected, or becoming so."""
        with GUESTS_LOCK:
            found = guards.of_vm(u64(number))
        assert found is not None
        return int(found)

    def begin(self, number: int) -> None:
        """An ordinary VM becomes one that is being measured, with a key that no other ever has."""
        with frames.LOCK, HOST_LOCK, GUESTS_LOCK:
            assert shadow.drop_all(vms.VMS.slots[number].shadow) is None
            made = guards.create(u64(number))
            assert not isinstance(made, Err)
            guard = GUARDS.slots[made]
            if self._quick:
                guard.key.words[0] = secret(u64(guard.identity))
            else:
                engine.expand(guard.key, Array[u8, 32].of([int(guard.identity) % 256] * 32)[:])  # type: ignore[attr-defined]

    def commit(self, number: int) -> None:
        guard = GUARDS.slots[self.guard(number)]
        self.do(lent.drop_all, u64(self.guard(number)))
        guard.phase, guard.committed = Phase.PROTECTED, True

    def admit(self, number: int, ipa: int, pa: int) -> object:
        """To its end, however many pieces that takes; so do the next ones."""
        index = u64(self.guard(number))
        found = self.do(steps.find, index, Ipa(u64(ipa)))
        done = self.do(private.admit, index, Ipa(u64(ipa)), Pa(u64(pa)), found)
        while done is Err.BUSY and (move := self.move_of(number, ipa)) is not None:
            self.look_between(number, ipa, pa)
            done = self.do(moving.go_on, u64(move))
        return done

    def page(self, operation: object, number: int, ipa: int) -> object:
        while True:
            done = self.do(operation, u64(self.guard(number)), Ipa(u64(ipa)))
            move = self.move_of(number, ipa)
            if done is not Err.BUSY or move is None:
                return done
            self.look_between(number, ipa, int(moving.MOVES.slots[move].frame.raw))

    def serve_touch(self, pa: int) -> object:
        """What EL2 makes of the host's touch of a page of RAM that is not in its map."""
        served = self.do(touch.serve, Pa(u64(pa)))
        while served and self.entry(pa).state is State.BUSY:
            assert self.reach(None, pa) is None
            served = self.do(touch.serve, Pa(u64(pa)))
        return served

    def touch(self, pa: int) -> bytes | None:
        """The host reads a page of RAM, whosever it is; None where it never gets there."""
        if self.reach(None, pa) is None and not self.serve_touch(pa):
            return None
        return self.content(None, pa)

    def move_of(self, number: int, ipa: int) -> int | None:
        """The move of a page that is MOVING."""
        absent = steps.absent_of(self.do(steps.look, u64(self.guard(number)), Ipa(u64(ipa))))  # type: ignore[arg-type]
        return int(absent.content) if absent.fate is steps.Fate.MOVING else None

    def look_between(self, number: int, ipa: int, pa: int) -> None:
        """While a page is MOVING neither its guest nor the host reaches it."""
        assert self.is_moving(self.guard(number), ipa, pa)
        assert self.reach(number, ipa) is None
        assert self.reach(None, pa) is None

    def lend_to_ordinary(self, ipa: int, pa: int) -> None:
        """An ordinary guest's leaf for a page of the host's."""
        assert self.fill(ORDINARY, ipa, pa) is None

    def fill(self, number: int, ipa: int, pa: int) -> object:
        """The same for any VM that is an ordinary one, or an error."""
        with frames.LOCK, GUESTS_LOCK:
            return shadow.fill(vms.VMS.slots[number].shadow, Ipa(u64(ipa)), host_leaf(pa))

    def lend_to_stub(self, number: int, ipa: int, pa: int) -> object:
        """The same for one that is becoming protected."""
        return self.do(lent.fill, u64(self.guard(number)), Ipa(u64(ipa)), host_leaf(pa))

    # --- what must hold --------------------------------------------------------------------------------------------------------------------

    def entry(self, pa: int) -> FrameEntry:
        found = frames.entry_of(Pa(u64(pa)))
        assert found is not None
        return found

    def leaves(self, number: int) -> dict[int, int]:
        """Address -> output of each leaf in a guest's tables, and nothing of what stands in other slots."""
        return {at: raw & ADDRESS for at, raw in self.descriptors(number).items()}

    def descriptors(self, number: int) -> dict[int, int]:
        """The same with all that stands in each leaf; a block is as many."""
        found: dict[int, int] = {}

        def visit(page: int, level: int, base: int, count: int) -> None:
            words = struct.unpack(f"<{512 * count}Q", self.machine.memory.read(PAGES_AT + PAGE * page, PAGE * count))
            for slot, raw in enumerate(words):
                if raw & 1:
                    at = base + (slot << 39 - 9 * level)
                    if level < 3 and raw & 2:
                        visit(((raw & ADDRESS) - PAGES_AT) // PAGE, level + 1, at, 1)
                    elif level < 3:
                        found.update({at + page * PAGE: raw + page * PAGE | 2 for page in range(1 << 9 * (3 - level))})
                    else:
                        found[at] = raw

        space = vms.VMS.slots[number].shadow.space
        visit(int(space.root), int(space.start), 0, int(space.roots))
        return found

    def check(self) -> None:
        """The invariants of `frames`, `private`, `records` and `host_map`, while no lock is held."""
        owners: dict[int, tuple[int, int]] = {}
        hosts: set[int] = set()
        for number in VMS:
            owner = int(vms.VMS.slots[number].guard)
            for ipa, raw in self.descriptors(number).items():
                pa = raw & ADDRESS
                if owner == 0 or raw >> 55 & 15 < whole.PRIVATE_MARK:
                    hosts.add(pa)
                    continue
                assert pa not in owners, "two leaves lead to one frame"
                owners[pa] = (owner, ipa)
        promised = 0
        for pa in self.looked_at:
            entry = self.entry(pa)
            assert invariants.entry_is_sound(entry)
            if entry.state is State.BUSY:
                assert self.is_moving(int(entry.owner) - 1, int(entry.page) * PAGE, pa), "nobody is at work"
                assert pa not in owners
                assert pa not in hosts
            with HOST_LOCK:
                mapped = bool(host_map.is_mapped(u64(pa)))
            assert mapped == (entry.state is not State.PRIVATE and entry.state is not State.BUSY), f"{pa:#x} is {entry.state}"
            if entry.state is State.HOST:
                assert pa not in owners
            else:
                assert pa not in hosts
                if pa in owners:
                    assert owners[pa] == (int(entry.owner), int(entry.page) * PAGE)
                promised += entry.state is State.PRIVATE
        self._check_blocks()
        assert sum(bool(move.used) for move in self.moves()) == sum(self.entry(pa).state is State.BUSY for pa in self.looked_at)
        promised += int(records.LEDGER.taken)
        assert int(records.LEDGER.promised) == promised
        assert sum(int(GUARDS.slots[number].private) for number in range(len(VMS))) == promised
        if host_map.LAST.block != 0:
            found = tables.walk(HOST_SPACE, (host_map.LAST.block - 1) << host_map.BLOCK_SHIFT)
            assert (found.level, found.table) == (3, host_map.LAST.table), "the host's last table is another"

    def _check_blocks(self) -> None:
        """The host's blocks of 2 MiB are whole where all frames are the host's or shared, and tables of pages elsewhere, of which so many are out."""
        out: dict[int, int] = {}
        for pa in self.looked_at:
            gone = self.entry(pa).state in (State.PRIVATE, State.BUSY)
            out[pa // BLOCK] = out.get(pa // BLOCK, 0) + gone
        with HOST_LOCK:
            for block, count in out.items():
                found = tables.walk(HOST_SPACE, u64(block * BLOCK))
                assert found.level == (3 if count else 2), f"{count} pages are out of {block * BLOCK:#x}"
                assert not count or host_map.OUT[found.table] == count

    @staticmethod
    def moves() -> list[moving.Move]:
        return [moving.MOVES.slots[place] for place in range(int(moving.LIMIT))]

    def is_moving(self, index: int, ipa: int, pa: int) -> bool:
        """Whether a move brings this page to this frame or takes it out of it, and the guest's table says so."""
        absent = steps.absent_of(self.do(steps.look, u64(index), Ipa(u64(ipa))))  # type: ignore[arg-type]
        if absent.fate is not steps.Fate.MOVING:
            return False
        move = moving.MOVES.slots[absent.content]
        return bool(move.used) and (int(move.index), int(move.page.raw), int(move.frame.raw)) == (index, ipa, pa)


def host_leaf(pa: int) -> shadow.HostLeaf:
    """What a host's table says that leads to a page, with all rights."""
    leaf = stage2.attributes(stage2.Stage2Memory.NORMAL, steps.FULL)
    return shadow.HostLeaf(u64(3), u64(pa), Stage2Leaf.of(leaf | 0b11))


def quick_step(job: sealed.Job, area: object, key: object, window: Slice[u8], limit: u64) -> bool | Err:
    """In place of `page.step`, by hashlib: an export or an import, in pieces of `limit` bytes."""
    terms = job.record.terms
    phase, start = job.phase, int(job.position)
    end = min(start + int(limit), PAGE)
    cells = window._cells
    if phase is not sealed.Phase.VERIFY and not terms.clean:
        stream = hashlib.shake_256(repr((int(key.words[0]._hidden), int(terms.version))).encode()).digest(PAGE)  # type: ignore[attr-defined]
        raw = bytes(window)
        cells[window._start + start : window._start + end] = bytes(a ^ b for a, b in zip(raw[start:end], stream[start:end], strict=True))
    job.position = u64(end % PAGE)
    if end < PAGE:
        return False
    job.phase = sealed.Phase.NOTHING
    digest = hashlib.sha256(repr((JOBS[id(job)], int(terms.raw))).encode() + bytes(window)).digest()
    if phase is sealed.Phase.EXPORT:
        for i, byte in enumerate(digest):
            job.record.digest[i] = u8(byte)
    elif phase is sealed.Phase.VERIFY:
        if digest != bytes(int(job.record.digest[i]) for i in range(32)):
            return Err.INTEGRITY
        if not terms.clean:
            job.phase = sealed.Phase.DECRYPT
            return False
    return True


JOBS: dict[int, tuple[int, int]] = {}


def quick_begin(job: sealed.Job, area: object, identity: u64, ipa: Ipa, phase: sealed.Phase) -> None:
    JOBS[id(job)] = (int(identity), int(ipa.raw))
    job.phase = phase
    job.position = u64(0)


def forget_statics() -> None:
    """What a reset of the machine does."""
    forget_held_locks()
    for static in (pages.POOLS, pages.REGION, frames.LAYOUT, HOST_SPACE, records.LEDGER, turns.TURNS):
        wipe(static)
    vms.VMS.ordinary = u64(0)
    moved = moving.MOVES.slots
    for array in (graveyard.GRAVEYARD.graves, vms.VMS.slots, vcpus.VCPUS.slots, vcpus.CLAIMS, GUARDS.slots, guards.ALIVE, guards.OFFSETS, moved):
        array._cells._made.clear()
    graveyard.GRAVEYARD.count = vms.VMS.clock = vcpus.VCPUS.clock = GUARDS.identities = u64(0)
    for number in range(MAX_CPUS):
        wipe(CPUS.of(number))


@contextmanager
def a_world(count: int = 64, *, quick: bool = True, cpus: int = 1, pieces: bool = False) -> Iterator[World]:
    """A machine and its world, with `count` records; `pieces`: its pages move in pieces, as without the crypto extensions. A frame that changes hands
    is known to no TLB by then, and memory has what it holds."""
    take, take_filled, hand_over = steps.take, steps.take_filled, steps._hand_over
    give_back, restore = steps.give_back, host_map.restore

    def taken(index: u64, ipa: Ipa, pa: Pa) -> Err | None:
        done = take(index, ipa, pa)
        if done is None:
            machine.hand_over(int(pa.raw), overwritten=True)
        return done

    def taken_filled(index: u64, ipa: Ipa, pa: Pa) -> Err | None:
        done = take_filled(index, ipa, pa)
        if done is None:
            machine.hand_over(int(pa.raw))
        return done

    def handed_over(index: u64, ipa: Ipa, pa: Pa, *others: object) -> None:
        machine.hand_over(int(pa.raw))
        hand_over(index, ipa, pa, *others)  # type: ignore[arg-type]

    def returned(index: u64, ipa: Ipa, pa: Pa) -> None:
        def restored(at: Pa) -> None:
            machine.hand_over(int(at.raw))
            restore(at)

        with mock.patch.object(host_map, "restore", restored):
            give_back(index, ipa, pa)

    with Machine(RAM, RAM_SIZE, cpus, registers={"ID_AA64MMFR0_EL1": 5}) as machine:
        forget_statics()
        assert pages.attach(Pa(u64(PAGES_AT)), Pa(u64(BOOKKEEPING_AT)), u64(TABLE_PAGES)) is None
        host_map.attach(Pa(u64(BOOKKEEPING_AT)) + TABLE_PAGES * int(pages.BOOKKEEPING_BYTES), u64(TABLE_PAGES))
        try:
            with (
                mock.patch.object(steps, "take", taken),
                mock.patch.object(steps, "take_filled", taken_filled),
                mock.patch.object(steps, "_hand_over", handed_over),
                mock.patch.object(steps, "give_back", returned),
                mock.patch.object(engine, "is_quick", return_value=not pieces),
            ):
                if quick:
                    with mock.patch.object(sealed, "step", quick_step), mock.patch.object(sealed, "_begin", quick_begin):
                        yield World(machine, count, quick)
                else:
                    yield World(machine, count, quick)
        finally:
            forget_statics()
        host_map.OUT.detach()
        blocks.HOSTS.detach()
        blocks.LEAVES.detach()
        blocks.BEHIND.detach()
        records.RECORDS.detach()
