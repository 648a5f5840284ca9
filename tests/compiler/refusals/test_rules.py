# SPDX-License-Identifier: Apache-2.0
"""The rules one by one, in the shapes in which they could be got round: each program with the refusals it must get, or none."""

from __future__ import annotations

from pathlib import Path

import pytest

from delphyne.compiler import front

HEAD = """from __future__ import annotations

from typing import Final, NoReturn

from delphyne.lang import (
    Array, AtomicU32, AtomicU64, Bits32, Bits64, BootArray, Domain, Enum8, ErrorEnum, Handle, Hostile, Ipa, Level, Lock, Order, Pa, Pool, Secret,
    SimdArea, Slice, SysReg, Tainted, V128, Va, View, address_of, bits, boot, byte_swap, checked_add, cold, constant, declassify, dsb, entry,
    frozen, guarded, holds, isb, load_be32, log, mmio_read32, nospec, owned, per_cpu, place_at, rotate_left, secret, secret_equal, sign_extend,
    simd, slice_at, store_be32, struct, text, u8, u16, u32, u64, unreachable, v128_from_u64, v128_load, v128_low, v128_store, value, vxor, wipe,
    wrap_add, wrap_mul,
)


class Err(ErrorEnum):
    ABSENT = 1
    FULL = 2


class Other(ErrorEnum):
    ODD = 1


class State(Enum8):
    FREE = 0
    USED = 1
    DEAD = 5


class Entry(Bits64):
    valid: bool = bits(0)
    state: State = bits(3, 1)
    frame: u64 = bits(47, 12)


@value
class Range:
    start: u64
    size: u64

    def end(self) -> u64:
        return self.start + self.size

    @property
    def empty(self) -> bool:
        return self.size == 0


@struct
class Vm:
    number: u64
    state: State
    entries: Array[u64, 8]
    pending: AtomicU32


@struct
class Cpu:
    current: u64
    area: SimdArea


LOCK: Final = Lock("low", rank=10)
HIGH: Final = Lock("high", rank=20)
VM: Final = guarded(LOCK, Vm())
HIGHER: Final = guarded(HIGH, Vm())
HOST: Final = frozen(Vm())
TABLE: Final = constant(Array[u64, 4].of([1, 2, 3, 4]))
VMS: Final = guarded(LOCK, Pool[Vm, 4]())
CPUS: Final = per_cpu(Cpu, 4)
TICKS: Final = AtomicU64()
FRAMES: Final = guarded(LOCK, BootArray[u64]())
COUNTS: Final = BootArray[AtomicU32]()
LIMIT: Final = u64(100)
PLAIN = 7


def find(x: u64) -> u64 | Err:
    return Err.ABSENT if x == 0 else x


def maybe(x: u64) -> u64 | None:
    return None if x == 0 else x


def touch(vm: Vm) -> None:
    vm.number += 1


def peek(vm: Vm) -> u64:
    return vm.number


def same(vm: Vm) -> Vm:
    return vm


@holds(LOCK)
def inside() -> Vm:
    return VM


@boot
def begin() -> None:
    HOST.number = u64(1)


"""

ACCEPTED = {
    "narrowing by early return": """
def f(x: u64) -> u64:
    y = maybe(x)
    if y is None:
        return x
    return y + 1
""",
    "narrowing by and": """
def f(x: u64) -> bool:
    y = maybe(x)
    return y is not None and y > 1
""",
    "narrowing by or": """
def f(x: u64) -> bool:
    y = maybe(x)
    return y is None or y > 1
""",
    "narrowing by not": """
def f(x: u64) -> u64:
    y = maybe(x)
    if not (y is not None):
        return x
    return y
""",
    "narrowing by while": """
def f(x: u64) -> u64:
    y = maybe(x)
    while y is None:
        y = maybe(x + 1)
    return y
""",
    "narrowing by assert": """
def f(x: u64) -> u64:
    y = maybe(x)
    assert y is not None, "there"
    return y
""",
    "narrowing of a result": """
def f(x: u64) -> u64 | Err:
    y = find(x)
    if isinstance(y, Err):
        return y
    return y + 1
""",
    "errors of a result": """
def f(x: u64) -> bool:
    y = find(x)
    if isinstance(y, Err):
        match y:
            case Err.ABSENT:
                return True
            case Err.FULL:
                return False
    return y > 1
""",
    "checked result kept in a loop": """
def f(x: u64) -> u64 | Err:
    y = find(x)
    if isinstance(y, Err):
        return y
    for i in u64.range(4):
        z = find(y + i)
        if isinstance(z, Err):
            return z
        y = z
    return y
""",
    "option of an enum asked for a member": """
def f(x: u8) -> bool:
    y = State.of(x)
    return y is State.USED
""",
    "exhaustive match returns": """
def f(x: State) -> u64:
    match x:
        case State.FREE | State.USED:
            return u64(1)
        case State.DEAD:
            return u64(2)
""",
    "declared first, assigned later": """
def f(x: u64) -> u64:
    y: u64
    if x > 1:
        y = x
    else:
        y = u64(1)
    return y
""",
    "no return": """
def f() -> NoReturn:
    unreachable()

def g(x: u64) -> u64:
    if x == 0:
        f()
    return x
""",
    "endless loop does not return": """
def f() -> NoReturn:
    while True:
        isb()
""",
    "reference to a parameter comes back": """
def f(vm: Vm) -> u64:
    return same(vm).number
""",
    "element of a parameter comes back": """
def f(vm: Vm) -> Slice[u64]:
    return vm.entries[1:3]
""",
    "guarded reference returned by a holder": """
def f() -> u64:
    with LOCK:
        return inside().number
""",
    "locks in order": """
def f() -> u64:
    with LOCK:
        with HIGH:
            return VM.number + HIGHER.number
""",
    "two locks in one with": """
def f() -> u64:
    with LOCK, HIGH:
        return VM.number + HIGHER.number
""",
    "a constant read through a function": """
def first(table: Array[u64, 4]) -> u64:
    return table[0]

def f() -> u64:
    return first(TABLE)
""",
    "a frozen static read through a function": """
def f() -> u64:
    return peek(HOST)
""",
    "a frozen static written by a boot function it is passed to": """
@boot
def fill(vm: Vm) -> None:
    vm.number = u64(1)

@entry("start")
def start() -> None:
    fill(HOST)
""",
    "keywords in another order": """
def f(x: u64) -> Range:
    return Range(size=x, start=x + 1)
""",
    "values": """
def f(x: Range) -> bool:
    return x == Range(x.start, u64(0)) or x.empty or x.end() > 3
""",
    "literals beside": """
def f(x: u8, s: View[u8]) -> bool:
    return 1 < x <= 3 and s[2] == 0 and s[1:].length > 2 and wrap_add(x, 1) == min(x, 3) and x << 1 == 2
""",
    "module-level int is a literal": """
def f(x: u64) -> u64:
    return x + PLAIN
""",
    "secrets": """
def f(key: Secret[u32], mask: u32) -> Secret[u32]:
    return rotate_left(wrap_add(key ^ mask, key) & ~key | 1, 7) >> 3
""",
    "secrets in arrays": """
def f(state: Array[Secret[u32], 4], n: u64) -> None:
    state[n] ^= state[0]
    state[1] = secret(u32(1))
    wipe(state)
""",
    "bit fields": """
def f(e: Entry, n: u64) -> Entry:
    if e.valid and e.state == State.USED:
        return e.replace(valid=False, frame=n)
    return Entry(valid=True, state=State.DEAD, frame=1)
""",
    "system registers": """
HCR: Final = SysReg(Entry, "HCR_EL2", 3, 4, 1, 1, 0)

def f() -> None:
    HCR.write(HCR.read().replace(valid=True))
    dsb(Domain.ISH)
    isb()
""",
    "pools": """
def f() -> u64:
    with LOCK:
        h = VMS.allocate()
        if h is None:
            return u64(0)
        vm = VMS.get(h)
        if vm is None:
            return u64(1)
        vm.number = u64(3)
        return u64(VMS.free(h))
""",
    "handles are values": """
@struct
class Slot:
    vm: Handle[Vm]

def f(slot: Slot, h: Handle[Vm]) -> bool:
    slot.vm = h
    return slot.vm == h
""",
    "hostile memory": """
def f(m: Hostile, bytes: Slice[u8]) -> u64:
    if not m.copy_in(bytes, u64(0)):
        return u64(0)
    raw = m.read_once_u64(u64(8))
    if raw is None:
        return u64(1)
    n = raw.below(LIMIT)
    return u64(2) if n is None else TABLE[n & 3]
""",
    "owned memory": """
def f(pa: Pa) -> u32:
    with owned(pa, u64(4096)) as window:
        window.fill(u8(0))
        return load_be32(window, 8)
""",
    "addresses": """
def f(pa: Pa, ipa: Ipa) -> bool:
    return (pa + u64(4096)).is_aligned(u64(16)) and pa - pa.align_down(u64(64)) < 64 and ipa >= ipa
""",
    "boot arrays": """
@boot
def attach(address: u64) -> None:
    with LOCK:
        FRAMES.attach(address, u64(4))
    COUNTS.attach(address, u64(4))

def f(i: u64) -> u32:
    with LOCK:
        FRAMES[i] = FRAMES.length
    return COUNTS[i].add(u32(1), Order.ACQ_REL)
""",
    "SIMD": """
@simd
def mix(a: Slice[u8]) -> None:
    v128_store(a, 0, vxor(v128_load(a, 0), v128_from_u64(u64(1), u64(2))))

def f(a: Slice[u8]) -> None:
    with simd(CPUS.mine().area):
        mix(a)
""",
    "log": """
def f(x: u8, pa: Pa, s: State) -> None:
    log(Level.INFO, f"{x:02x} at {pa:#x} is {s} {{}} {x > 1}")
""",
    "tuples": """
def two(x: u64) -> tuple[u64, bool]:
    return x, x > 1

def f(x: u64) -> u64:
    a, b = two(x)
    a, c = a + 1, a
    return a if b else c
""",
    "swap of elements": """
def f(a: Array[u64, 4]) -> None:
    a[0], a[1] = a[1], a[0]
""",
    "cold and unreachable after match": """
@cold
def f(x: State) -> u64:
    match x:
        case State.FREE | State.USED | State.DEAD:
            return u64(1)
    unreachable()
""",
    "place rebuilt in a loop while nobody refers to it": """
def f(n: u64) -> u64:
    total = u64(0)
    for i in u64.range(n):
        vm = Vm()
        other = vm
        other.number = i
        total += vm.number
    return total
""",
    "nullable references": """
def f(vm: Vm, flag: bool) -> u64:
    chosen: Vm | None = None
    if flag:
        chosen = vm
    return u64(0) if chosen is None else chosen.number
""",
    "break out of a lock": """
def f(n: u64) -> u64:
    last = u64(0)
    for i in u64.range(n):
        with LOCK:
            if VM.number == i:
                break
            last = VM.number
            continue
    return last
""",
    "augmented assignment of a value": """
def f(pa: Pa) -> Pa:
    pa += u64(8)
    return pa
""",
    "a result with an option in it": """
def g(x: u64) -> u64 | None | Err:
    if x == 0:
        return None
    return Err.FULL if x == 1 else x

def f(x: u64) -> u64:
    y = g(x)
    if isinstance(y, Err):
        return u64(0)
    if y is None:
        return u64(1)
    return y
""",
    "places in a view are read": """
def f(s: View[Vm], t: View[AtomicU32]) -> u64:
    return peek(s[0]) + u64(t[1].load(Order.RELAXED))
""",
    "byte strings": """
def f() -> u8:
    return text(b"abc")[1]
""",
}

REFUSED = {
    "option not narrowed after a loop": (["E0501"], """
def f(x: u64) -> u64:
    y = maybe(x)
    while x > 1:
        if y is not None:
            break
        x = x - 1
    return y
"""),
    "narrowing lost in a loop": (["E0501"], """
def f(x: u64) -> u64:
    y = maybe(x)
    if y is None:
        return x
    for i in u64.range(3):
        x = y + i
        y = maybe(x)
    return x
"""),
    "narrowing lost by assignment": (["E0501"], """
def f(x: u64) -> u64:
    y = maybe(x)
    if y is None:
        return x
    y = maybe(y)
    return y
"""),
    "the wrong half": (["E0501"], """
def f(x: u64) -> bool:
    y = maybe(x)
    return y is None and y > 1
"""),
    "the wrong error class": (["E0505"], """
def f(x: u64) -> bool:
    y = find(x)
    return isinstance(y, Other)
"""),
    "an error of another class is returned": (["E0201"], """
def f(x: u64) -> u64 | Err:
    return Other.ODD
"""),
    "unused option": (["E0503"], """
def f(x: u64) -> None:
    maybe(x)
"""),
    "a result as a condition": (["E0204"], """
def f(x: u64) -> u64:
    if find(x):
        return x
    return x
"""),
    "unassigned after a loop": (["E0212"], """
def f(x: u64) -> u64:
    for i in u64.range(x):
        y = i
    return y
"""),
    "the counter after a loop": (["E0212"], """
def f(x: u64) -> u64:
    for i in u64.range(x):
        pass
    return i
"""),
    "unassigned by continue": (["E0212"], """
def f(x: u64) -> u64:
    while True:
        if x > 3:
            break
        y = x
        x += 1
    return y
"""),
    "used before assignment in augmented": (["E0212"], """
def f(x: u64) -> u64:
    y += x
    return y
"""),
    "several errors in one run": (["E0202", "E0203", "E0204"], """
def f(x: u64, y: u32) -> u64:
    a = x + y
    b = 5
    if x:
        pass
    return a + b
"""),
    "local returned by way of a call": (["E0301"], """
def f() -> Vm:
    vm = Vm()
    return same(vm)
"""),
    "slice of a local returned": (["E0301"], """
def f() -> Slice[u64]:
    vm = Vm()
    return vm.entries[:]
"""),
    "option of a local returned": (["E0301"], """
def f(flag: bool) -> Vm | None:
    vm = Vm()
    return vm if flag else None
"""),
    "tuple with a local returned": (["E0301"], """
def f() -> tuple[Vm, u64]:
    vm = Vm()
    return vm, u64(1)
"""),
    "guarded returned past its lock": (["E0301"], """
def f() -> Vm:
    with LOCK:
        return VM
"""),
    "guarded returned by a holder of another lock": (["E0301"], """
@holds(HIGH)
def f() -> Vm:
    return HIGHER

def g() -> Vm:
    with HIGH:
        return f()
"""),
    "window returned": (["E0301"], """
def f(pa: Pa) -> Slice[u8]:
    with owned(pa, u64(64)) as window:
        return window
"""),
    "window carried out": (["E0306"], """
def f(pa: Pa) -> u64:
    with owned(pa, u64(64)) as window:
        part = window[1:]
    return part.length
"""),
    "window carried out by break": (["E0306"], """
def f(pa: Pa, s: Slice[u8]) -> u64:
    while True:
        with owned(pa, u64(64)) as window:
            part = window[1:]
            break
    return part.length
"""),
    "guarded reference carried out through a call": (["E0306"], """
def f() -> u64:
    with LOCK:
        vm = same(inside())
    with LOCK:
        return vm.number
"""),
    "element of a guarded array carried out": (["E0306"], """
def f() -> u64:
    with LOCK:
        part = VM.entries[1:]
    return part[0]
"""),
    "a reference in a value": (["E0302"], """
@value
class Pair:
    vm: Vm

def f(p: Pair) -> u64:
    return u64(1)
"""),
    "a slice in a struct": (["E0302"], """
@struct
class Holder:
    bytes: Slice[u8]

def f(h: Holder) -> u64:
    return u64(1)
"""),
    "a struct element assigned": (["E0302"], """
def f(a: Array[Vm, 4], vm: Vm) -> None:
    a[0] = vm
"""),
    "constant element assigned": (["E0303"], """
def f() -> None:
    TABLE[0] = u64(1)
"""),
    "constant written through a function": (["E0303"], """
def clear(table: Array[u64, 4]) -> None:
    table.fill(u64(0))

def f() -> None:
    clear(TABLE)
"""),
    "constant written through an alias": (["E0303"], """
def f() -> None:
    table = TABLE
    table[0] = u64(1)
"""),
    "constant written through a slice": (["E0303"], """
def f() -> None:
    part = TABLE[1:]
    part[0] = u64(1)
"""),
    "constant sliced by a callee and written by the caller": (["E0303"], """
def cut(table: Array[u64, 4]) -> Slice[u64]:
    return table[1:]

def f() -> None:
    cut(TABLE)[0] = u64(1)
"""),
    "view stored to": (["E0303"], """
def f(s: View[u8]) -> None:
    store_be32(s, 0, u32(1))
"""),
    "a place in a view written": (["E0303"], """
def f(s: View[Vm]) -> None:
    s[0].number = u64(1)
"""),
    "a place in a view written by a callee": (["E0303"], """
def first(s: View[Vm]) -> Vm:
    return s[0]

def f(s: View[Vm]) -> None:
    touch(first(s))
"""),
    "an atomic in a view written": (["E0303"], """
def f(s: View[AtomicU32]) -> u32:
    return s[0].add(u32(1), Order.RELAXED)
"""),
    "view passed where a slice is wanted": (["E0303"], """
def g(s: Slice[u8]) -> None:
    s[0] = u8(1)

def f(s: View[u8]) -> None:
    g(s)
"""),
    "frozen written through a function": (["E0405"], """
def f() -> None:
    touch(HOST)
"""),
    "frozen written through two functions": (["E0405"], """
def deeper(vm: Vm) -> None:
    touch(same(vm))

def f() -> None:
    deeper(HOST)
"""),
    "frozen wiped": (["E0405"], """
def f() -> None:
    wipe(HOST)
"""),
    "boot array attached after boot": (["E0405"], """
def f() -> None:
    COUNTS.attach(u64(0), u64(1))
"""),
    "boot called": (["E0406"], """
def f() -> None:
    begin()
"""),
    "guarded outside": (["E0401"], """
def f() -> None:
    touch(VM)
"""),
    "guarded by another lock": (["E0401"], """
def f() -> u64:
    with LOCK:
        return HIGHER.number
"""),
    "guarded after the with": (["E0401"], """
def f() -> u64:
    with LOCK:
        x = VM.number
    return x + VM.number
"""),
    "pool outside its lock": (["E0401"], """
def f(h: Handle[Vm]) -> bool:
    return VMS.free(h)
"""),
    "holder called without": (["E0402"], """
def f() -> u64:
    return inside().number
"""),
    "order turned round": (["E0403"], """
def f() -> None:
    with HIGH:
        with LOCK:
            pass
"""),
    "order turned round in one with": (["E0403"], """
def f() -> None:
    with HIGH, LOCK:
        pass
"""),
    "order turned round by a holder": (["E0403"], """
@holds(HIGH)
def f() -> None:
    with LOCK:
        pass
"""),
    "order turned round two calls down": (["E0403"], """
def inner() -> None:
    with LOCK:
        pass

def middle() -> None:
    inner()

def f() -> None:
    with HIGH:
        middle()
"""),
    "lock taken again by a callee": (["E0411"], """
def inner() -> None:
    with LOCK:
        pass

def f() -> None:
    with LOCK:
        inner()
"""),
    "mutual recursion": (["E0404"], """
def even(n: u64) -> bool:
    return True if n == 0 else odd(n - 1)

def odd(n: u64) -> bool:
    return False if n == 0 else even(n - 1)
"""),
    "place rebuilt while another name refers to it": (["E0305"], """
def f(flag: bool) -> u64:
    vm = Vm()
    kept: Vm = vm
    while flag:
        vm = Vm()
        vm.number += 1
        if kept.number > vm.number:
            kept = vm
    return kept.number
"""),
    "place rebuilt while a slice refers to it": (["E0305"], """
def f(n: u64) -> u64:
    total = u64(0)
    first = Array[u64, 4]()
    part = first[:]
    for i in u64.range(n):
        a = Array[u64, 4]()
        total += part[0]
        part = a[:]
    return total
"""),
    "built place assigned": (["E0211"], """
def f(vm: Vm) -> u64:
    a = vm
    a = u64(1)
    return a.number
"""),
    "secret as index": (["E0601"], """
def f(key: Secret[u64]) -> u64:
    return TABLE[key]
"""),
    "secret in a condition": (["E0601"], """
def f(key: Secret[u64]) -> u64:
    if key:
        return u64(1)
    return u64(0)
"""),
    "secret divides": (["E0601"], """
def f(key: Secret[u64]) -> Secret[u64]:
    return key // 2
"""),
    "secret shift amount": (["E0601"], """
def f(key: Secret[u64]) -> Secret[u64]:
    return key << key
"""),
    "secret subtracted": (["E0602"], """
def f(key: Secret[u64]) -> Secret[u64]:
    return key - 1
"""),
    "secret added in place": (["E0602"], """
def f(key: Array[Secret[u64], 2]) -> None:
    key[0] += 1
"""),
    "secret converted": (["E0602"], """
def f(key: Secret[u64]) -> u32:
    return u32(key)
"""),
    "secret returned as public": (["E0601"], """
def f(key: Secret[u64]) -> u64:
    return key
"""),
    "secret logged": (["E0601"], """
def f(key: Secret[u64]) -> None:
    log(Level.INFO, f"{key}")
"""),
    "secrets compared in a value": (["E0601"], """
@value
class Key:
    low: Secret[u64]

def f(a: Key, b: Key) -> bool:
    return a == b
"""),
    "secret as the end of a range": (["E0601"], """
def f(key: Secret[u64]) -> None:
    for i in u64.range(key):
        pass
"""),
    "secret counted": (["E0601"], """
def f(key: Secret[u64]) -> Secret[u64]:
    return min(key, 3)
"""),
    "secret widths mixed": (["E0202"], """
def f(a: Secret[u64], b: Secret[u32]) -> Secret[u64]:
    return a ^ b
"""),
    "public stored as secret without a word": (["E0201"], """
def f(keys: Array[Secret[u64], 2], x: u64) -> None:
    keys[0] = x
"""),
    "tainted used": (["E0207"], """
def f(t: Tainted[u64]) -> u64:
    return t._raw
"""),
    "tainted made": (["E0214"], """
def f(x: u64) -> Tainted[u64]:
    return Tainted[u64](x)
"""),
    "tainted compared": (["E0209"], """
def f(t: Tainted[u64]) -> bool:
    return t < t
"""),
    "secret bytes in a SIMD register": (["E0201"], """
@simd
def f(key: Slice[Secret[u8]]) -> u64:
    return v128_low(v128_load(key, 0))
"""),
    "SIMD called outside": (["E0603"], """
@simd
def g(a: u64) -> u64:
    return v128_low(v128_from_u64(a, a))

def f(a: u64) -> u64:
    with simd(CPUS.mine().area):
        b = g(a)
    return b + g(a)
"""),
    "V128 as a parameter": (["E0605"], """
def f(a: V128) -> u64:
    return u64(1)
"""),
    "address of a static": (["E0604"], """
def f() -> Va:
    return address_of(TICKS)
"""),
    "place at an address": (["E0604"], """
def f(x: u64) -> u64:
    return place_at(Vm, x).number
"""),
    "slice at an address": (["E0604"], """
def f(x: u64) -> u64:
    return slice_at(x, x).length
"""),
    "mmio": (["E0604"], """
def f(pa: Pa) -> u32:
    return mmio_read32(pa)
"""),
    "address kinds mixed": (["E0201"], """
def f(pa: Pa, ipa: Ipa) -> u64:
    return pa - ipa
"""),
    "address kinds compared": (["E0209"], """
def f(pa: Pa, va: Va) -> bool:
    return pa == va
"""),
    "address and literal": (["E0203"], """
def f(pa: Pa) -> Pa:
    return pa + 8
"""),
    "literal argument": (["E0203"], """
def f(x: u64) -> u64:
    y = maybe(5)
    return x
"""),
    "literal returned": (["E0203"], """
def f() -> u64:
    return 5
"""),
    "literal compared to a literal": (["E0203"], """
def f() -> bool:
    return 1 < 2
"""),
    "negative literal": (["E0210"], """
def f(x: u64) -> u64:
    return x + -1
"""),
    "bit field that cannot fit": (["E0210"], """
def f() -> Entry:
    return Entry(frame=1 << 40)
"""),
    "no such bit field": (["E0208"], """
def f() -> Entry:
    return Entry(frme=1)
"""),
    "enum made from a number": (["E0214"], """
def f(x: u8) -> State:
    return State(x)
"""),
    "integer matched": (["E0108"], """
def f(x: u8) -> u8:
    match x:
        case 1:
            return x
    return x
"""),
    "pattern that binds": (["E0108"], """
def f(x: State) -> u8:
    match x:
        case other:
            return other.raw
"""),
    "member of another enum": (["E0108"], """
def f(x: State) -> u8:
    match x:
        case Err.FULL:
            return x.raw
    return x.raw
"""),
    "order that an operation cannot have": (["E0208"], """
def f() -> u64:
    return TICKS.load(Order.RELEASE)
"""),
    "atomic without order": (["E0208"], """
def f() -> None:
    TICKS.store(u64(1))
"""),
    "field of an option": (["E0501"], """
def f(h: Handle[Vm]) -> u64:
    with LOCK:
        return VMS.get(h).number
"""),
    "wrong width in a call": (["E0202"], """
def f(x: u32) -> u64 | None:
    return maybe(x)
"""),
    "private field of a value": (["E0207"], """
def f(m: Hostile) -> bool:
    return m._holds(u64(1), u64(1))
"""),
    "too many log arguments": (["E0220"], """
def f(x: u64) -> None:
    log(Level.INFO, f"{x}{x}{x}{x}{x}{x}{x}")
"""),
    "a struct in a log": (["E0220"], """
def f(vm: Vm) -> None:
    log(Level.INFO, f"{vm}")
"""),
    "log of something that is no text": (["E0220"], """
def f(x: u64) -> None:
    log(Level.INFO, x)
"""),
    "unknown lock in a with": (["E0112"], """
def f(x: u64) -> None:
    with x:
        pass
"""),
    "owned without a name": (["E0112"], """
def f(pa: Pa) -> None:
    with owned(pa, u64(1)):
        pass
"""),
    "simd inside simd": (["E0112"], """
@simd
def f() -> None:
    with simd(CPUS.mine().area):
        pass
"""),
    "another CPU": (["E0409"], """
def f(i: u64) -> u64:
    return CPUS.of(i).current
"""),
    "a classmethod": (["E0111"], """
@value
class Odd:
    x: u64

    @classmethod
    def make(cls) -> u64:
        return u64(1)
"""),
    "a lambda called": (["E0102"], """
def f(x: u64) -> u64:
    return (lambda y: y)(x)
"""),
    "a class that contains itself": (["E0206"], """
@struct
class Node:
    next: Node

def f(n: Node) -> u64:
    return u64(1)
"""),
    "a union of two types": (["E0206"], """
def f(x: u64 | u32) -> u64:
    return u64(1)
"""),
    "a quoted type": (["E0206"], """
def f(x: "u64") -> u64:
    return u64(1)
"""),
    "keyword twice": (["E0208"], """
def f(x: u64) -> Range:
    return Range(x, start=x)
"""),
    "star argument": (["E0102"], """
def f(x: u64) -> u64 | None:
    return maybe(*x)
"""),
    "slice with a step": (["E0102"], """
def f(s: View[u8]) -> View[u8]:
    return s[::2]
"""),
    "slice assigned": (["E0106"], """
def f(s: Slice[u8]) -> None:
    s[1:2] = s
"""),
    "slices compared": (["E0209"], """
def f(s: View[u8]) -> bool:
    return s == s
"""),
    "tuple item out of range": (["E0209"], """
def f(x: u64) -> u64:
    pair = (x, x)
    return pair[2]
"""),
    "in": (["E0209"], """
def f(x: u64, s: View[u64]) -> bool:
    return x in s
"""),
    "is between numbers": (["E0209"], """
def f(x: u64) -> bool:
    return x is x
"""),
    "range with a step from a variable": (["E0107"], """
def f(x: u64) -> None:
    for i in u64.range(u64(0), x, x):
        pass
"""),
    "range as a value": (["E0107"], """
def f(x: u64) -> None:
    y = u64.range(x)
"""),
    "annotated field": (["E0106"], """
def f(vm: Vm) -> None:
    vm.number: u64 = u64(1)
"""),
    "two annotations": (["E0211"], """
def f(x: u64) -> u64:
    y: u64 = x
    y: u32 = u32(1)
    return y
"""),
    "None assigned to a new variable": (["E0201"], """
def f(x: u64) -> None:
    y = None
"""),
    "returns nothing where something is expected": (["E0201"], """
def f(x: u64) -> u64:
    return
"""),
    "an unreachable function returns": (["E0213"], """
def f(x: u64) -> NoReturn:
    isb()
"""),
    "unreachable as a value": (["E0102"], """
def f(x: u64) -> u64:
    return unreachable()
"""),
    "sign_extend from a variable": (["E0208"], """
def f(x: u64) -> u64:
    return sign_extend(x, x)
"""),
    "byte_swap of a byte": (["E0209"], """
def f(x: u8) -> u8:
    return byte_swap(x)
"""),
    "text of a variable": (["E0208"], """
def f(x: u64) -> u8:
    return text(x)[0]
"""),
}


def _check(tmp_path: Path, program: str) -> list[str]:
    path = tmp_path / "rules.py"
    path.write_text(HEAD + program.strip() + "\n", encoding="utf-8")
    found = front.check_paths([path])
    for one in found:
        assert one.render()
        assert one.as_json()["code"] == one.code
    return [one.code for one in found]


def test_the_head_alone_is_accepted(tmp_path: Path) -> None:
    assert _check(tmp_path, "") == []


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted(name: str, tmp_path: Path) -> None:
    assert _check(tmp_path, ACCEPTED[name]) == []


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, tmp_path: Path) -> None:
    codes, program = REFUSED[name]
    assert _check(tmp_path, program) == codes
