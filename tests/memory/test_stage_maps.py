# SPDX-License-Identifier: Apache-2.0
"""Stage-2 maps against a dictionary of extents: what EL2's walk says, what stands in memory and what the machine's own walker does agree."""

from __future__ import annotations

from dataclasses import dataclass

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from memory_world import machine_with_pools, new_space, raw_leaves, region_bytes, use, used

from delphyne.el2.arch.err import Err
from delphyne.el2.arch.pagetable import Stage2Memory
from delphyne.el2.memory import pages, stage2, tables
from delphyne.el2.memory.pages import PoolName
from delphyne.el2.memory.stage2 import Rights
from delphyne.lang import Ipa, Pa, u64
from delphyne.lang.machine import Access, GuestFault

PAGE, MEGA2, GIGA = 1 << 12, 1 << 21, 1 << 30


@dataclass(frozen=True)
class Extent:
    """A run of addresses that lead to a run of outputs with the same rights."""

    size: int
    output: int
    rights: tuple[bool, bool, bool]


class Model:
    """What should be mapped: start -> Extent, without overlaps."""

    def __init__(self) -> None:
        self.extents: dict[int, Extent] = {}

    def overlaps(self, start: int, size: int) -> bool:
        return any(at < start + size and start < at + extent.size for at, extent in self.extents.items())

    def add(self, start: int, extent: Extent) -> None:
        self.extents[start] = extent

    def remove(self, start: int, size: int) -> None:
        end = start + size
        for at, extent in list(self.extents.items()):
            stop = at + extent.size
            if at < end and start < stop:
                del self.extents[at]
                if at < start:
                    self.extents[at] = Extent(start - at, extent.output, extent.rights)
                if end < stop:
                    self.extents[end] = Extent(stop - end, extent.output + end - at, extent.rights)

    def find(self, address: int) -> tuple[int, tuple[bool, bool, bool]] | None:
        for at, extent in self.extents.items():
            if at <= address < at + extent.size:
                return extent.output + address - at, extent.rights
        return None

    def joined(self) -> list[tuple[int, Extent]]:
        return join(sorted(self.extents.items()))


def join(pieces: list[tuple[int, Extent]]) -> list[tuple[int, Extent]]:
    """Neighbours that continue each other made one."""
    made: list[tuple[int, Extent]] = []
    for at, extent in pieces:
        if made:
            before, last = made[-1]
            if before + last.size == at and last.output + last.size == extent.output and last.rights == extent.rights:
                made[-1] = (before, Extent(last.size + extent.size, last.output, last.rights))
                continue
        made.append((at, extent))
    return made


def rights_of(raw: int) -> tuple[bool, bool, bool]:
    """Read, write and execute of a stage-2 leaf: S2AP in bits 7:6, XN in bit 54."""
    return bool(raw >> 6 & 1), bool(raw >> 7 & 1), not raw >> 54 & 1


BITS = st.sampled_from([39, 40, 42, 43, 44, 48])
RIGHTS = st.sampled_from([(True, True, True), (True, True, False), (True, False, False), (True, False, True)])


@st.composite
def runs(draw: st.DrawFn) -> tuple[int, int, int]:
    """Start, size and shift of a run: whole units near a boundary where others are too, with a few pages before and after.

    The shift is how far an output lies from its address; it is a multiple of the unit, so that large leaves are possible.
    """
    unit = draw(st.sampled_from([PAGE, MEGA2, PAGE, MEGA2, GIGA]))
    centre = draw(st.sampled_from([0, GIGA, 511 * GIGA]))
    before, after = draw(st.integers(0, 2)), draw(st.integers(0, 2))
    start = max(0, centre + draw(st.integers(-2, 3)) * unit - before * PAGE)
    size = before * PAGE + draw(st.integers(1, 2)) * unit + after * PAGE
    return start, size, draw(st.sampled_from([0, 0, GIGA, unit]))


class Maps(RuleBasedStateMachine):
    """Random operations on one space of random size, some of them wrong, some with few tables left."""

    def __init__(self) -> None:
        super().__init__()
        self.reserved = 0
        self.context = machine_with_pools(cpus=2, el2=0, host=24, guests=0, starts=1)
        self.machine = self.context.__enter__()
        self.model = Model()

    @initialize(bits=BITS)
    def create(self, bits: int) -> None:
        self.space = new_space(bits)
        self.limit = 1 << bits
        use(self.machine, self.space)

    def teardown(self) -> None:
        try:
            if hasattr(self, "space") and len(raw_leaves(self.machine, self.space)[0]) < 64:
                for start, extent in self.model.joined():
                    self.unmap_all(start, extent.size)
                assert used(PoolName.HOST) == 0
                assert stage2.destroy(self.space) is None
                assert used(PoolName.STARTS) == 0
        finally:
            self.context.__exit__(None, None, None)

    def unmap_all(self, start: int, size: int) -> None:
        """Unmap whole extents, which needs no table."""
        done = 0
        while done < size:
            got = stage2.unmap_range(self.space, Ipa(u64(start + done)), u64(size - done))
            assert not isinstance(got, Err)
            done += int(got)

    def unchanged_on_error(self, got: object, before: bytes) -> None:
        assert isinstance(got, Err)
        assert region_bytes(self.machine) == before

    @rule(run=runs(), rights=RIGHTS)
    def map(self, run: tuple[int, int, int], rights: tuple[bool, bool, bool]) -> None:
        place, size, shift = run
        before = region_bytes(self.machine)
        got = stage2.map_range(self.space, Ipa(u64(place)), Pa(u64(place + shift)), u64(size), Stage2Memory.NORMAL, Rights(*rights))
        if place + size > self.limit:
            assert got == Err.RANGE
        elif self.model.overlaps(place, size):
            assert got == Err.EXISTS
        else:
            assert got in (None, Err.NO_MEMORY)
        if got is None:
            self.model.add(place, Extent(size, place + shift, rights))
        else:
            self.unchanged_on_error(got, before)

    @rule(run=runs())
    def unmap(self, run: tuple[int, int, int]) -> None:
        place, size, _ = run
        before = region_bytes(self.machine)
        got = stage2.unmap_range(self.space, Ipa(u64(place)), u64(size))
        if isinstance(got, Err):
            assert got == (Err.RANGE if place + size > self.limit else Err.NO_MEMORY)
            self.unchanged_on_error(got, before)
        else:
            assert 0 < got <= size
            self.model.remove(place, int(got))

    @precondition(lambda self: self.model.extents)
    @rule(data=st.data(), size=st.sampled_from([PAGE, MEGA2, GIGA]), rights=RIGHTS)
    def protect(self, data: st.DataObject, size: int, rights: tuple[bool, bool, bool]) -> None:
        start, extent = data.draw(st.sampled_from(sorted(self.model.extents.items(), key=lambda item: item[0])))
        place = start + data.draw(st.integers(0, min(extent.size // PAGE - 1, 600))) * PAGE
        place &= ~(size - 1)
        before = region_bytes(self.machine)
        got = stage2.protect(self.space, Ipa(u64(place)), u64(size), Rights(*rights))
        if got is None:
            found = self.model.find(place)
            assert found is not None
            self.model.remove(place, size)
            self.model.add(place, Extent(size, found[0], rights))
        else:
            assert got in (Err.NOT_FOUND, Err.NO_MEMORY, Err.RANGE)
            self.unchanged_on_error(got, before)

    @rule(kept=st.integers(0, 5))
    def leave_few_tables(self, kept: int) -> None:
        """Somebody else reserves all tables but a few, or gives them back."""
        if self.reserved:
            pages.unreserve(PoolName.HOST, u64(self.reserved))
        self.reserved = 0 if self.reserved else max(0, int(pages.available(PoolName.HOST)) - kept)
        assert pages.reserve(PoolName.HOST, u64(self.reserved)) is None

    @rule(run=runs(), cpu=st.integers(0, 1))
    def access(self, run: tuple[int, int, int], cpu: int) -> None:
        """A CPU translates, and remembers."""
        place = run[0]
        expected = self.model.find(place)
        with self.machine.on(cpu):
            for access, right in ((Access.READ, 0), (Access.WRITE, 1), (Access.EXECUTE, 2)):
                try:
                    got = self.machine.stage2_translate(place, access)
                except GuestFault:
                    assert expected is None or not expected[1][right]
                else:
                    assert expected is not None
                    assert expected[1][right]
                    assert got == expected[0]

    @invariant()
    def memory_agrees(self) -> None:
        if not hasattr(self, "space"):
            return
        leaves, found = raw_leaves(self.machine, self.space)
        pieces = [(leaf.address, Extent(leaf.size, leaf.output, rights_of(leaf.raw))) for leaf in leaves]
        assert join(pieces) == self.model.joined()
        assert len(found) == used(PoolName.HOST)
        assert int(pages.POOLS[u64(PoolName.HOST.raw)].reserved) == self.reserved
        assert all(leaf.raw & 0x0000_FFFF_FFFF_F000 == leaf.output for leaf in leaves)

    @invariant()
    def edges_agree(self) -> None:
        if not hasattr(self, "space"):
            return
        for start, extent in list(self.model.extents.items())[:6]:
            for place in (start, start + extent.size - 1, start + extent.size, start - 1):
                if 0 <= place < self.limit:
                    got = stage2.translate(self.space, Ipa(u64(place)))
                    expected = self.model.find(place)
                    if expected is None:
                        assert got is None
                    else:
                        assert got is not None
                        assert (int(got.pa.raw), (got.rights.read, got.rights.write, got.rights.execute)) == expected
        assert tables.walk(self.space, u64(0)).level <= 3


TestMaps = Maps.TestCase
TestMaps.settings = settings(max_examples=40, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck))
