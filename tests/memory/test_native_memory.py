# SPDX-License-Identifier: Apache-2.0
"""The memory room compiled for this machine and in CPython: the same random calls give the same results and the same bytes in memory.

The compiled code has real memory at some address; the simulated machine is given RAM at that address, so that even the descriptors are equal.
What flushes TLBs cannot run on this machine and is left to the system tests.
"""

from __future__ import annotations

import ctypes
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from memory_world import forget_statics

from delphyne.compiler import tree
from delphyne.compiler.back.native import Buffer, NativeModule, load
from delphyne.compiler.front import compile_modules
from delphyne.el2.arch.err import Err
from delphyne.el2.arch.pagetable import Stage2Memory
from delphyne.el2.memory import frames, pages, stage1, stage2
from delphyne.el2.memory.frames import State
from delphyne.el2.memory.pages import PoolName
from delphyne.el2.memory.stage1 import Use
from delphyne.el2.memory.stage2 import Rights
from delphyne.el2.memory.tables import Space
from delphyne.lang import Ipa, Pa, Va, u16, u64
from delphyne.lang.machine import Machine

ROOM = "delphyne.el2.memory"
SIZE = 1 << 20
BOOKKEEPING = SIZE // 2
TABLE = SIZE // 2 + 65536
PAGE, MEGA2, GIGA = 1 << 12, 1 << 21, 1 << 30
FRAMES_BASE, FRAMES_COUNT = 0x4000_0000, 16
PAGES_FREE = pages.free
"""Without the checks of conftest, since pages that were never taken are freed here."""


@dataclass
class Native:
    module: NativeModule
    memory: Any
    address: int

    def call(self, name: str, *args: object) -> object:
        return self.module.call(f"{ROOM}.{name}", *args)

    def space(self) -> Buffer:
        kind = self.module.program.functions[f"{ROOM}.stage2.create"].params[0][1]
        assert isinstance(kind, tree.RefT)
        return Buffer(kind.target)

    def bytes(self) -> bytes:
        return ctypes.string_at(self.address, SIZE)


@pytest.fixture(scope="module")
def native() -> Native:
    forget_statics()  # what is in them now is what the compiled ones begin with
    module = load(compile_modules([f"{ROOM}.frames", f"{ROOM}.pages", f"{ROOM}.stage1", f"{ROOM}.stage2"]))
    memory = ctypes.create_string_buffer(SIZE + 65536)
    return Native(module, memory, (ctypes.addressof(memory) + 65535) & ~65535)


def plain(result: object) -> object:
    """A result of CPython in the form that a compiled call gives."""
    if isinstance(result, Err):
        return ("err", result.value)
    return ("ok", None if result is None else int(result))  # type: ignore[call-overload]


def boot(native: Native) -> None:
    """The same boot on both sides, which must end in the same memory."""
    native.module.reset()
    forget_statics()
    at = native.address
    calls: list[tuple[object, object]] = [
        (pages.attach(Pa(u64(at)), Pa(u64(at + BOOKKEEPING)), u64(64)), native.call("pages.attach", (at,), (at + BOOKKEEPING,), 64)),
        (pages.assign(PoolName.STARTS, u64(16), u64(2)), native.call("pages.assign", PoolName.STARTS.value, 16, 2)),
        (pages.assign(PoolName.HOST, u64(1), u64(20)), native.call("pages.assign", PoolName.HOST.value, 1, 20)),
        (pages.assign(PoolName.EL2, u64(1), u64(9)), native.call("pages.assign", PoolName.EL2.value, 1, 9)),
        (frames.add_bank(Pa(u64(FRAMES_BASE)), u64(16 * PAGE)), native.call("frames.add_bank", (FRAMES_BASE,), 16 * PAGE)),
        (frames.attach(Pa(u64(at + TABLE))), native.call("frames.attach", (at + TABLE,))),
        (frames.admit(Pa(u64(FRAMES_BASE)), u64(8 * PAGE)), native.call("frames.admit", (FRAMES_BASE,), 8 * PAGE)),
    ]
    for here, there in calls:
        assert plain(here) == there


def step_maps(source: random.Random, native: Native, here: tuple[Space, Space], there: tuple[Buffer, Buffer]) -> tuple[object, object]:
    at = source.choice([0, GIGA, 511 * GIGA, 1 << 39]) + source.choice([0, PAGE, MEGA2, MEGA2 - PAGE, 5])
    to = source.choice([at, at + GIGA, PAGE])
    size = source.choice([0, PAGE, 3 * PAGE, MEGA2, MEGA2 + PAGE, GIGA, GIGA + MEGA2 + PAGE, 7])
    match source.randrange(4):
        case 0:
            rights = [source.random() < 0.5 for _ in range(3)]
            got: object = stage2.map_range(here[0], Ipa(u64(at)), Pa(u64(to)), u64(size), Stage2Memory.NORMAL, Rights(*rights))
            return plain(got), native.call("stage2.map_range", there[0], (at,), (to,), size, Stage2Memory.NORMAL.value, tuple(rights))
        case 1:
            use = source.choice(list(Use))
            got = stage1.map_range(here[1], Va(u64(at)), Pa(u64(to)), u64(size), use)
            return plain(got), native.call("stage1.map_range", there[1], (at,), (to,), size, use.value)
        case 2:
            found = stage2.translate(here[0], Ipa(u64(at)))
            rest = None if found is None else ((int(found.pa.raw),), int(found.size), (found.rights.read, found.rights.write, found.rights.execute))
            return rest, native.call("stage2.translate", there[0], (at,))
        case _:
            name, count = source.choice([PoolName.GUESTS, PoolName.HOST]), source.choice([0, 1, 30])
            if source.random() < 0.5:
                return plain(pages.reserve(name, u64(count))), native.call("pages.reserve", name.value, count)
            page = source.choice([0, 51, 55, 63, 2**64 - 1])
            return plain(PAGES_FREE(name, u64(page))), native.call("pages.free", name.value, page)


def test_maps_and_pools_agree(native: Native) -> None:
    for seed in range(4):
        source = random.Random(seed)
        with Machine(native.address, SIZE) as machine:
            boot(native)
            here, there = (Space(), Space()), (native.space(), native.space())
            bits = source.choice([39, 40, 43, 44, 48])
            created = plain(stage2.create(here[0], u64(bits), PoolName.STARTS, PoolName.HOST, u16(3)))
            assert created == native.call("stage2.create", there[0], bits, PoolName.STARTS.value, PoolName.HOST.value, 3) == ("ok", None)
            assert plain(stage1.create(here[1])) == native.call("stage1.create", there[1]) == ("ok", None)
            seen = set()
            for _ in range(50):
                one, other = step_maps(source, native, here, there)
                assert one == other
                seen.add(str(one)[:12])
            assert len(seen) > 4
            assert machine.memory.read(native.address, SIZE, True) == native.bytes()


MOVES: list[tuple[str, Callable[[Pa, u16, Ipa], Err | None]]] = [
    ("take", frames.take),
    ("settle", frames.settle),
    ("give", frames.give),
    ("release", frames.release),
    ("share", frames.share),
    ("unshare", frames.unshare),
]


def test_frames_agree(native: Native) -> None:
    source = random.Random(7)
    succeeded = set()
    with Machine(native.address, SIZE) as machine:
        boot(native)
        for _ in range(2000):
            at = FRAMES_BASE + source.choice([-1, 0, 0, 0, 1, 1, 2, 9]) * PAGE + source.choice([0, 8])
            if source.random() < 0.2:
                name = source.choice(["pin", "unpin"])
                with frames.LOCK:
                    here = plain(getattr(frames, name)(Pa(u64(at))))
                there = native.call(f"frames.{name}", (at,))
            else:
                name, operation = source.choice(MOVES)
                owner, page = source.choice([0, *[1] * 9, 2, 4096]), source.choice([*[0] * 9, PAGE, 1 << 48])
                with frames.LOCK:
                    here = plain(operation(Pa(u64(at)), u16(owner), Ipa(u64(page))))
                there = native.call(f"frames.{name}", (at,), owner, (page,))
            assert here == there
            if here == ("ok", None):
                succeeded.add(name)
        assert succeeded == {"pin", "unpin", *(name for name, _ in MOVES)}
        assert machine.memory.read(native.address, SIZE, True) == native.bytes()
        assert {frames.entry_at(u64(i)).state for i in range(FRAMES_COUNT)} >= {State.EL2, State.HOST}
