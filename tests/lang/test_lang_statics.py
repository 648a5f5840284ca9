# SPDX-License-Identifier: Apache-2.0
"""Atomics, locks, statics, pools, and the decorators of functions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from delphyne.lang import (
    Array,
    AtomicU32,
    AtomicU64,
    BootArray,
    Handle,
    Level,
    Lock,
    Order,
    Pool,
    Trap,
    TrapKind,
    assembly,
    boot,
    cold,
    constant,
    entry,
    frozen,
    guarded,
    holds,
    log,
    per_cpu,
    placed,
    struct,
    twin,
    u8,
    u16,
    u32,
    u64,
    unreachable,
)
from delphyne.lang.locks import LockError, forget_held_locks, held_locks
from delphyne.lang.messages import MESSAGES
from delphyne.lang.meta import Kind, StaticKind, class_meta, field_annotations, function_meta, static_meta

FIRST: Final = Lock("first", rank=1)
SECOND: Final = Lock("second", rank=2)


@struct
class Vm:
    number: u64
    bytes: Array[u8, 4]


@struct
class Cpu:
    number: u64


@pytest.fixture(autouse=True)
def no_lock_is_left() -> Iterator[None]:
    yield
    forget_held_locks()


@pytest.mark.parametrize(("cls", "kind"), [(AtomicU32, u32), (AtomicU64, u64)])
def test_atomics(cls: Any, kind: Any) -> None:
    a = cls()
    assert a.load(Order.ACQUIRE) == kind(0)
    a.store(kind(12), Order.RELEASE)
    assert a.swap(kind(10), Order.ACQ_REL) == 12
    assert a.add(kind.MAX, Order.RELAXED) == 10
    assert a.sub(kind(10), Order.RELAXED) == 9
    assert a.and_(kind(0xF0), Order.RELAXED) == kind.MAX
    assert a.or_(kind(0x0F), Order.ACQUIRE) == 0xF0
    assert a.xor(kind(0x03), Order.RELEASE) == 0xFF
    assert a.compare_exchange(kind(1), kind(2), Order.ACQ_REL) == 0xFC
    assert a.compare_exchange(kind(0xFC), kind(2), Order.ACQ_REL) == 0xFC
    assert a.load(Order.RELAXED) == 2
    assert repr(a) == f"{cls.__name__}(0x2)"
    other = u32 if kind is u64 else u64
    for bad in (
        lambda: a.store(5, Order.RELAXED),
        lambda: a.add(other(1), Order.RELAXED),
        lambda: a.load(Order.RELEASE),
        lambda: a.store(kind(1), Order.ACQUIRE),
        lambda: a.swap(kind(1), "relaxed"),
        lambda: a.compare_exchange(kind(1), 2, Order.RELAXED),
        lambda: a.load(),
    ):
        with pytest.raises(TypeError):
            bad()


def test_locks_are_taken_in_rising_rank_and_left_on_every_way_out() -> None:
    with FIRST, SECOND:
        assert held_locks(0) == (FIRST, SECOND)
        assert (FIRST.held, FIRST.held_by(0), FIRST.held_by(1)) == (True, True, False)
    assert held_locks(0) == ()
    with pytest.raises(ZeroDivisionError), FIRST:
        raise ZeroDivisionError
    assert not FIRST.held
    with SECOND, pytest.raises(LockError, match=r"first \(rank 1\) is taken while second"), FIRST:
        pass
    with FIRST, pytest.raises(LockError, match="twice"), FIRST:
        pass
    assert held_locks(0) == ()
    with pytest.raises(LockError, match="does not hold"):
        FIRST.__exit__(None, None, None)
    assert repr(FIRST) == "Lock('first', rank=1)"
    with pytest.raises(TypeError):
        Lock("x", rank="1")


def test_marks_of_statics() -> None:
    table = constant(Array[u32, 2].of([1, 2]))
    settings_ = frozen(Vm())
    vms = placed(".vms", guarded(FIRST, Array[Vm, 2]()), align=4096)
    assert static_meta(table).kind is StaticKind.CONSTANT
    assert static_meta(settings_).kind is StaticKind.FROZEN
    meta = static_meta(vms)
    assert (meta.kind, meta.lock, meta.section, meta.align) == (StaticKind.GUARDED, FIRST, ".vms", 4096)
    assert static_meta(AtomicU32()).kind is StaticKind.BARE
    with pytest.raises(TypeError):
        frozen(table)
    with pytest.raises(TypeError):
        guarded(table, Vm())


def test_per_cpu() -> None:
    cpus = per_cpu(Cpu, 2)
    assert static_meta(cpus).kind is StaticKind.PER_CPU
    cpus.mine().number = u64(4)
    assert (cpus.of(0).number, cpus.of(u64(1)).number, cpus.length) == (u64(4), u64(0), u64(2))
    with pytest.raises(Trap) as trap:
        cpus.of(u64(2))
    assert (trap.value.kind, trap.value.a, trap.value.b) == (TrapKind.INDEX, 2, 2)


def test_boot_arrays_without_a_machine() -> None:
    frames = BootArray[AtomicU64]()
    assert BootArray[AtomicU64] is type(frames)
    assert frames.length == 0
    with pytest.raises(Trap) as before:
        _ = frames[u64(0)]
    assert (before.value.kind, before.value.a, before.value.b) == (TrapKind.INDEX, 0, 0)
    frames.attach(u64(0x1000), u64(1 << 40))
    frames[u64(5)].store(u64(7), Order.RELAXED)
    assert (frames[5].load(Order.RELAXED), frames.length) == (u64(7), u64(1 << 40))
    with pytest.raises(Trap) as twice:
        frames.attach(u64(0x1000), u64(1))
    assert twice.value.kind is TrapKind.ASSERT
    frames.detach()
    assert frames.length == 0
    numbers = BootArray[u16]()
    numbers.attach(u64(0), u64(4))
    numbers[u64(3)] = u16(9)
    assert (numbers[3], numbers[2]) == (u16(9), u16(0))
    for bad in (lambda: numbers.__setitem__(0, u8(1)), lambda: BootArray(), lambda: numbers[u32(1)]):
        with pytest.raises(TypeError):
            bad()


class PoolAgainstDict(RuleBasedStateMachine):
    """A pool of three against a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = Pool[Vm, 3]()
        self.live: dict[Any, int] = {}
        self.dead: list[Any] = []
        self.counter = 0

    @rule()
    def allocate(self) -> None:
        handle = self.pool.allocate()
        assert (handle is None) == (len(self.live) == 3)
        if handle is not None:
            assert handle not in self.live
            assert handle not in self.dead
            vm = self.pool.get(handle)
            assert vm is not None
            assert (vm.number, bytes(vm.bytes)) == (u64(0), bytes(4))
            self.counter += 1
            vm.number = u64(self.counter)
            vm.bytes[3] = u8(1)
            self.live[handle] = self.counter

    @rule(data=st.data())
    def free(self, data: st.DataObject) -> None:
        if self.live:
            handle = data.draw(st.sampled_from(list(self.live)))
            assert self.pool.free(handle)
            del self.live[handle]
            self.dead.append(handle)

    @invariant()
    def handles_name_what_they_named(self) -> None:
        for handle, number in self.live.items():
            vm = self.pool.get(handle)
            assert vm is not None
            assert vm.number == number
        for handle in [*self.dead, Handle[Vm](u32(0), u32(0)), Handle[Vm](u32(9), u32(1)), Handle[Vm](u32(2), u32(2))]:
            assert self.pool.get(handle) is None
            assert not self.pool.free(handle)


TestPool = PoolAgainstDict.TestCase
TestPool.settings = settings(max_examples=40, stateful_step_count=30)


def test_a_used_up_slot_is_retired() -> None:
    pool = Pool[Vm, 1]()
    pool.generations[0] = u32(0xFFFF_FFFE)
    last = pool.allocate()
    assert last == Handle[Vm](u32(0), u32(0xFFFF_FFFF))
    assert pool.free(last)
    assert pool.get(last) is None
    assert pool.allocate() is None


def test_an_instance_of_a_generic_is_an_ordinary_class() -> None:
    cls: Any = Pool[Vm, 2]
    assert cls is Pool[Vm, u64(2)]
    assert Handle[Vm] is not Handle[Cpu]
    meta = class_meta(cls)
    assert meta is not None
    assert meta.kind is Kind.STRUCT
    assert cls.__type_parameters__ == {"T": Vm, "N": 2}
    assert dict(field_annotations(cls))["items"] is Array[Vm, 2]
    assert cls.__dict__["allocate"].__globals__["T"] is Vm
    other: Any = Pool[Cpu, 2]()
    with pytest.raises(TypeError):
        Pool[Vm]
    assert other.get(Handle[Cpu](u32(0), u32(1))) is None


@given(st.integers(0, 2**64 - 1))
def test_log_renders(x: int) -> None:
    MESSAGES.clear()
    log(Level.INFO, f"ram {u64(x):x} {u64(x):#x} {u64(x):016x} {u64(x)} {True}")
    assert [(Level.INFO, f"ram {x:x} {x:#x} {x:016x} {x} True")] == MESSAGES
    with pytest.raises(TypeError):
        log("info", "x")
    with pytest.raises(TypeError):
        log(Level.INFO, u64(1))


def test_decorators_leave_marks() -> None:
    @boot
    @cold
    def one() -> u64:
        return u64(1)

    @holds(FIRST)
    @entry("el2_two")
    @assembly
    def two() -> None: ...

    assert one() == 1
    assert (function_meta(one).boot, function_meta(one).cold, function_meta(one).holds) == (True, True, ())
    assert (function_meta(two).holds, function_meta(two).entry, function_meta(two).assembly) == ((FIRST,), "el2_two", True)
    with pytest.raises(TypeError):
        holds()
    with pytest.raises(TypeError):
        entry(two)


def test_a_twin_runs_instead() -> None:
    def quick(x: u64) -> u64:
        return x + 2

    @twin(fast=quick)
    def slow(x: u64) -> u64:
        return x + 1 + 1

    assert slow(u64(1)) == 3
    assert slow.__wrapped__ is not quick
    assert slow.__wrapped__(u64(1)) == quick(u64(1))


def test_unreachable() -> None:
    with pytest.raises(Trap, match=r"UNREACHABLE \(0x0, 0x0\)"):
        unreachable()
