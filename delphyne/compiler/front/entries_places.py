# SPDX-License-Identifier: Apache-2.0
"""Refusals about references and places: E03xx; about statics and locks: E04xx."""

from __future__ import annotations

from typing import Final

from delphyne.compiler.front.entry import Entry

_VM = """
@struct
class Vm:
    number: u64
"""

_GUARDED = """
LOCK: Final = Lock("table", rank=10)

@struct
class Table:
    used: u64

TABLE: Final = guarded(LOCK, Table())
"""

ENTRIES: Final[dict[str, Entry]] = {
    "E0301": Entry(
        "reference outlives what it refers to",
        "A local ends with its function, a window with its `with`, and what a lock guards is nobody's once the lock is released.",
        "return references only to parameters and statics; otherwise let the caller pass the place to fill",
        """
from delphyne.lang import struct, u64
"""
        + _VM
        + """
def make(number: u64) -> Vm:
    vm = Vm()
    vm.number = number
    return vm  # <- vm
""",
        """
from delphyne.lang import struct, u64
"""
        + _VM
        + """
def fill(vm: Vm, number: u64) -> Vm:
    vm.number = number
    return vm
""",
    ),
    "E0302": Entry(
        "reference stored",
        "A stored reference could outlive what it refers to. Places are filled by copying; objects that refer to one another are named by handles.",
        "copy with `a.copy_from(b)`, or store a `Handle`",
        """
from delphyne.lang import struct, u64
"""
        + _VM
        + """
@struct
class Slot:
    vm: Vm

def keep(slot: Slot, vm: Vm) -> None:
    slot.vm = vm  # <- slot.vm
""",
        """
from delphyne.lang import struct, u64
"""
        + _VM
        + """
@struct
class Slot:
    vm: Vm

def keep(slot: Slot, vm: Vm) -> None:
    slot.vm.copy_from(vm)
""",
    ),
    "E0303": Entry(
        "write through what is read only",
        "A View, and whatever is constant, is only read.",
        "take a Slice of a place that may be written",
        """
from delphyne.lang import View, u8, u64

def clear(bytes: View[u8]) -> None:
    bytes[0] = u8(0)  # <- bytes[0]
""",
        """
from delphyne.lang import Slice, u8, u64

def clear(bytes: Slice[u8]) -> None:
    bytes[0] = u8(0)
""",
    ),
    "E0304": Entry(
        "place built inside an expression",
        "A struct or array needs a place of its own, and a place needs a name.",
        "give it a name first: `x = Vm()`",
        """
from delphyne.lang import struct, u64
"""
        + _VM
        + """
def read(vm: Vm) -> u64:
    return vm.number

def one() -> u64:
    return read(Vm())  # <- Vm()
""",
        """
from delphyne.lang import struct, u64
"""
        + _VM
        + """
def read(vm: Vm) -> u64:
    return vm.number

def one() -> u64:
    vm = Vm()
    return read(vm)
""",
    ),
    "E0305": Entry(
        "place rebuilt while still referred to",
        "In Python each `Vm()` is a new object; compiled, it is the same place again. Where another name still refers to it, the two would differ.",
        "use a second variable, or rebuild after the last use of the other name",
        """
from delphyne.lang import struct, u64
"""
        + _VM
        + """
def one(n: u64) -> u64:
    last: Vm | None = None
    for i in u64.range(n):
        vm = Vm()  # <- vm =
        vm.number = i
        last = vm
    return u64(0) if last is None else last.number
""",
        """
from delphyne.lang import struct, u64
"""
        + _VM
        + """
def one(n: u64) -> u64:
    last = Vm()
    for i in u64.range(n):
        vm = Vm()
        vm.number = i
        last.copy_from(vm)
    return last.number
""",
    ),
    "E0306": Entry(
        "reference used after its `with`",
        "The window is closed, or the lock released: what the name referred to is no longer ours.",
        "use it inside the `with`, or copy out what is needed",
        """
from typing import Final

from delphyne.lang import Lock, guarded, struct, u64
"""
        + _GUARDED
        + """
def used() -> u64:
    with LOCK:
        table = TABLE
    return table.used  # <- table.used
""",
        """
from typing import Final

from delphyne.lang import Lock, guarded, struct, u64
"""
        + _GUARDED
        + """
def used() -> u64:
    with LOCK:
        found = TABLE.used
    return found
""",
    ),
    "E0401": Entry(
        "guarded static without its lock",
        "Another CPU may be changing it.",
        "take the lock with `with LOCK:`, or mark the function @holds(LOCK)",
        """
from typing import Final

from delphyne.lang import Lock, guarded, struct, u64
"""
        + _GUARDED
        + """
def used() -> u64:
    return TABLE.used  # <- TABLE
""",
        """
from typing import Final

from delphyne.lang import Lock, guarded, struct, u64
"""
        + _GUARDED
        + """
def used() -> u64:
    with LOCK:
        return TABLE.used
""",
    ),
    "E0402": Entry(
        "callee needs a lock that is not held",
        "A function marked @holds relies on its callers.",
        "call it inside `with LOCK:`, or mark the caller @holds(LOCK)",
        """
from typing import Final

from delphyne.lang import Lock, guarded, holds, struct, u64
"""
        + _GUARDED
        + """
@holds(LOCK)
def grow() -> None:
    TABLE.used += 1

def one() -> None:
    grow()  # <- grow()
""",
        """
from typing import Final

from delphyne.lang import Lock, guarded, holds, struct, u64
"""
        + _GUARDED
        + """
@holds(LOCK)
def grow() -> None:
    TABLE.used += 1

def one() -> None:
    with LOCK:
        grow()
""",
    ),
    "E0403": Entry(
        "lock order",
        "Two CPUs that take two locks in different orders wait for each other for ever. The rank decides the order, also through calls.",
        "take locks in rising rank",
        """
from typing import Final

from delphyne.lang import Lock

FRAMES: Final = Lock("frames", rank=20)
SPACES: Final = Lock("spaces", rank=10)

def inner() -> None:
    with SPACES:
        pass

def outer() -> None:
    with FRAMES:
        inner()  # <- inner()
""",
        """
from typing import Final

from delphyne.lang import Lock

FRAMES: Final = Lock("frames", rank=20)
SPACES: Final = Lock("spaces", rank=10)

def inner() -> None:
    with FRAMES:
        pass

def outer() -> None:
    with SPACES:
        inner()
""",
    ),
    "E0404": Entry(
        "recursion",
        "The stack of EL2 has a size that is proved to suffice; a recursion has no such proof.",
        "use a loop",
        """
from delphyne.lang import u64

def sum(n: u64) -> u64:
    if n == 0:
        return n
    return n + sum(n - 1)  # <- sum(n - 1)
""",
        """
from delphyne.lang import u64

def sum(n: u64) -> u64:
    total = u64(0)
    for i in u64.range(n):
        total += i + 1
    return total
""",
    ),
    "E0405": Entry(
        "frozen static written after boot",
        "After boot every CPU reads it without a lock.",
        "write it in a @boot function, or guard it by a lock",
        """
from typing import Final

from delphyne.lang import frozen, struct, u64
"""
        + _VM
        + """
HOST: Final = frozen(Vm())

def rename(number: u64) -> None:
    HOST.number = number  # <- HOST.number
""",
        """
from typing import Final

from delphyne.lang import boot, frozen, struct, u64
"""
        + _VM
        + """
HOST: Final = frozen(Vm())

@boot
def rename(number: u64) -> None:
    HOST.number = number
""",
    ),
    "E0406": Entry(
        "boot function called after boot",
        "A @boot function may write what is frozen later, so only boot may call it.",
        "call it from a @boot function or an @entry point",
        """
from delphyne.lang import boot

@boot
def begin() -> None:
    pass

def again() -> None:
    begin()  # <- begin()
""",
        """
from delphyne.lang import boot, entry

@boot
def begin() -> None:
    pass

@entry("start")
def start() -> None:
    begin()
""",
    ),
    "E0407": Entry(
        "mutable static without a keeper",
        "Every mutable object at top level says who may touch it. Atomics need nobody.",
        "wrap it: constant(..), frozen(..), guarded(LOCK, ..) or per_cpu(..)",
        """
from typing import Final

from delphyne.lang import struct, u64
"""
        + _VM
        + """
HOST: Final = Vm()

def number() -> u64:
    return HOST.number  # <- HOST
""",
        """
from typing import Final

from delphyne.lang import frozen, struct, u64
"""
        + _VM
        + """
HOST: Final = frozen(Vm())

def number() -> u64:
    return HOST.number
""",
    ),
    "E0408": Entry(
        "assignment to a module's or a class's name",
        "Names at top level are bound once, when the program is built.",
        "change the static's fields or elements, or use a local",
        """
from delphyne.lang import Enum8, u64

class Mode(Enum8):
    OFF = 0

def one() -> None:
    Mode.OFF = u64(1)  # <- Mode.OFF
""",
        """
from typing import Final

from delphyne.lang import AtomicU64, Order, u64

MODE: Final = AtomicU64()

def one() -> None:
    MODE.store(u64(1), Order.RELAXED)
""",
    ),
    "E0409": Entry(
        "another CPU's data",
        "Per-CPU data needs no lock because only its own CPU touches it.",
        "use `.mine()`, or move the code into a @boot function",
        """
from typing import Final

from delphyne.lang import per_cpu, struct, u64
"""
        + _VM
        + """
CPUS: Final = per_cpu(Vm, 8)

def number(cpu: u64) -> u64:
    return CPUS.of(cpu).number  # <- CPUS.of(cpu)
""",
        """
from typing import Final

from delphyne.lang import per_cpu, struct, u64
"""
        + _VM
        + """
CPUS: Final = per_cpu(Vm, 8)

def number() -> u64:
    return CPUS.mine().number
""",
    ),
    "E0410": Entry(
        "static that cannot be compiled",
        "A static is found by the name that a module gives it at top level; an object inside another object of Python has none.",
        "give it a name of its own at top level",
        """
from typing import Final

from delphyne.lang import Array, constant, u64

class Tables:
    SMALL = constant(Array[u64, 2].of([1, 2]))

def first() -> u64:
    return Tables.SMALL[0]  # <- Tables.SMALL
""",
        """
from typing import Final

from delphyne.lang import Array, constant, u64

SMALL: Final = constant(Array[u64, 2].of([1, 2]))

def first() -> u64:
    return SMALL[0]
""",
    ),
    "E0411": Entry(
        "lock taken while held",
        "The CPU would wait for itself.",
        "take it once; mark inner functions @holds(LOCK)",
        """
from typing import Final

from delphyne.lang import Lock

LOCK: Final = Lock("frames", rank=20)

def one() -> None:
    with LOCK:
        with LOCK:  # <- LOCK
            pass
""",
        """
from typing import Final

from delphyne.lang import Lock, holds

LOCK: Final = Lock("frames", rank=20)

@holds(LOCK)
def inner() -> None:
    pass

def one() -> None:
    with LOCK:
        inner()
""",
    ),
}
