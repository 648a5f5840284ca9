# SPDX-License-Identifier: Apache-2.0
"""What the front end makes explicit is what CPython does: order of evaluation, narrowing, clean-up, and which trap comes first.

Each function is run in both with the same arguments. `note` writes down in which order things happened.
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from delphyne.compiler import front
from delphyne.compiler.back import native
from delphyne.lang import Trap, u64
from delphyne.lang.locks import forget_held_locks

PROGRAM = """from __future__ import annotations

from typing import Final

from delphyne.lang import (
    Array, AtomicU64, Bits64, Enum8, ErrorEnum, Level, Lock, Order, Pa, Pool, bits, checked_sub, guarded, log, secret_equal, struct, text, u8, u64,
    value, wipe, wrap_add, wrap_mul,
)


class Err(ErrorEnum):
    ODD = 1
    BIG = 2


class State(Enum8):
    FREE = 0
    USED = 1
    DEAD = 5


class Entry(Bits64):
    valid: bool = bits(0)
    state: State = bits(3, 1)
    low: u8 = bits(9, 4)
    frame: u64 = bits(47, 12)


@value
class Point:
    x: u64
    y: u64

    def __sub__(self, other: Point) -> Point:
        return Point(self.x - other.x, self.y - other.y)

    def __lt__(self, other: Point) -> bool:
        return self.x < other.x


@value
class Pair:
    x: u64
    y: u64

    @property
    def sum(self) -> u64:
        return self.x + self.y

    @staticmethod
    def twice(x: u64) -> Pair:
        return Pair(x, x)


@struct
class Node:
    key: u64
    pair: Pair
    row: Array[u64, 4]
    ticks: AtomicU64

    def bump(self, by: u64) -> Node:
        self.key += by
        return self


@struct
class Tree:
    nodes: Array[Node, 3]
    count: u64


ORDER: Final = AtomicU64()
LOCK: Final = Lock("semantics", rank=1)
TREE: Final = guarded(LOCK, Tree())
NODES: Final = guarded(LOCK, Pool[Node, 2]())


def note(x: u64) -> u64:
    ORDER.store(wrap_add(wrap_mul(ORDER.load(Order.RELAXED), u64(31)), x), Order.RELAXED)
    return x


def noted() -> u64:
    return ORDER.swap(u64(0), Order.RELAXED)


def store_order(a: u64, b: u64) -> u64:
    node = Node()
    node.row[note(a) & 3] = note(b)
    node.row[note(a + 1) & 3] += note(b)
    return wrap_add(noted(), node.row[a & 3])


def keyword_order(a: u64, b: u64) -> u64:
    p = Pair(y=note(a), x=note(b))
    return wrap_add(noted(), p.x * 3 + p.y)


def bit_field_order(a: u64, b: u64) -> u64:
    e = Entry(frame=note(a), low=u8(note(b) & 127))
    return wrap_add(noted(), e.replace(frame=note(b), valid=note(a) > 1).raw)


def chain(a: u64, b: u64) -> u64:
    found = u64(note(a) < note(b) <= note(u64(9)))
    return wrap_add(noted(), found)


def short_circuits(a: u64, b: u64) -> u64:
    found = note(a) > 3 and note(b) > 3 or note(a + b) > 5 and not note(u64(1)) > 2
    return wrap_add(noted(), u64(found))


def tuples(a: u64, b: u64) -> u64:
    node = Node()
    node.row[0], node.row[1] = note(a), note(b)
    node.row[0], node.row[1] = node.row[1], node.row[0]
    x, (y) = node.row[0], node.row[1]
    return wrap_add(noted(), x * 2 + y)


def literal_argument_of_note(a: u64) -> u64:
    return note(u64(a))


def early_return(a: u64) -> u64:
    with LOCK:
        TREE.count += 1
        if a == 0:
            return TREE.count
        for i in u64.range(3):
            TREE.nodes[i].key += i
            if a == i:
                return TREE.nodes[i].key
    with LOCK:
        return TREE.count * 100


def loops_and_locks(n: u64) -> u64:
    total = u64(0)
    for i in u64.range(0, n & 15, 3):
        with LOCK:
            if i == 6:
                continue
            if i == 12:
                break
            total += note(i)
    with LOCK:
        return wrap_add(noted(), total)


def aliases(a: u64) -> u64:
    first = Node()
    second = first.bump(a).bump(u64(1))
    second.row[1] = a
    third = Node()
    third.copy_from(first)
    second = third
    second.key += 5
    return first.key * 1000 + third.key + first.row[1]


def rebuilt(n: u64) -> u64:
    total = u64(0)
    for i in u64.range(n & 7):
        node = Node()
        node.row[i & 3] += i
        total += node.row[0] + node.row[1]
    return total


def nullable(a: u64) -> u64:
    left = Node()
    right = Node()
    chosen: Node | None = None
    if a % 3 == 0:
        chosen = left
    elif a % 3 == 1:
        chosen = right
    if chosen is not None:
        chosen.key = a
    return left.key * 10 + right.key


def inner(x: u64) -> u64 | None | Err:
    if x % 3 == 0:
        return None
    return Err.ODD if x % 3 == 1 else x


def nested_narrowing(a: u64) -> u64:
    x = inner(a)
    if isinstance(x, Err):
        return u64(x.raw) * 100
    if x is None:
        return u64(7)
    return x


def narrowing_in_loops(a: u64) -> u64:
    x = checked_sub(a & 255, u64(3))
    count = u64(0)
    while x is not None:
        count += 1
        x = checked_sub(x, u64(4))
    return count


def enums(a: u64) -> u64:
    s = State.of(u8.wrap(a))
    if s is State.DEAD:
        return u64(50)
    if s is None:
        return u64(60)
    match s:
        case State.FREE | State.DEAD:
            return u64(70)
        case State.USED:
            return u64(s.raw)


def enum_field(a: u64) -> u64:
    return u64(Entry.of(a).state.raw)


def values(a: u64, b: u64) -> u64:
    p = Point(a, b) - Point(b, a & b)
    q = Pair.twice(a)
    return p.x + p.y + u64(p < Point(b, b)) + q.sum + u64(q == Pair(a, a)) * 7


def addresses(a: u64) -> u64:
    pa = Pa(a)
    pa += u64(4096)
    return pa.align_up(u64(4096)).raw - pa.align_down(u64(64)).raw


def bytes_compared(a: u64) -> u64:
    buffer = Array[u8, 4]()
    buffer[:].copy_from(text(b"abcd"))
    buffer[a & 3] = u8.wrap(a)
    return u64(secret_equal(buffer[:], text(b"abcd"))) + u64(secret_equal(buffer[: a & 3], text(b"abcd")[: a & 3])) * 2


def bytes_of_different_lengths(a: u64) -> u64:
    return u64(secret_equal(text(b"abcd")[: a & 3], text(b"abcd")))


def message(a: u64) -> u64:
    log(Level.DEBUG, f"{note(a)} {note(a + 1):x}")
    return noted()


def pool(a: u64) -> u64:
    with LOCK:
        first = NODES.allocate()
        if first is None:
            return u64(0)
        second = NODES.allocate()
        third = NODES.allocate()
        node = NODES.get(first)
        if node is None:
            return u64(1)
        node.key = a
        found = node.key + u64(NODES.free(first)) * 10 + u64(NODES.free(first)) * 100 + u64(third is None) * 1000
        again = NODES.allocate()
        if again is None:
            return u64(2)
        fresh = NODES.get(again)
        if fresh is None:
            return u64(3)
        found += fresh.key * 10000 + u64(again == first)
        if second is not None:
            found += u64(NODES.free(second))
        return found + u64(NODES.free(again))


def wiped(a: u64) -> u64:
    node = Node()
    node.key = a
    node.pair = Pair(a, a)
    node.ticks.add(a, Order.RELAXED)
    wipe(node)
    return node.key + node.pair.sum + node.ticks.load(Order.RELAXED)


def shadowing(note: u64) -> u64:
    text = note + 1
    return text


def choice_of_places(a: u64) -> u64:
    left = Node()
    right = Node()
    (left if a > 3 else right).key = a
    return left.key * 10 + right.key


def range_ends_once(a: u64) -> u64:
    n = a & 7
    count = u64(0)
    for i in u64.range(n):
        n = u64(0)
        i += 2
        count += i
    return count
"""

NUMBERS = (0, 1, 2, 3, 4, 5, 6, 7, 9, 13, 64, 127, 128, 255, 4096, 1 << 40, (1 << 64) - 1)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[ModuleType, native.NativeModule]:
    path: Path = tmp_path_factory.mktemp("semantics") / "semantics_of_both.py"
    path.write_text(PROGRAM, encoding="utf-8")
    program = front.compile_paths([path])
    return sys.modules["semantics_of_both"], native.load(program, opt=2)


def _names() -> list[str]:
    helpers = {"note", "noted", "inner"}
    names = [line.split("(")[0].removeprefix("def ") for line in PROGRAM.splitlines() if line.startswith("def ")]
    return [name for name in names if name not in helpers]


def _in_python(function: Any, arguments: list[int]) -> object:
    try:
        return int(function(*(u64(x) for x in arguments)))
    except Trap as trap:
        return trap.kind.name, trap.a, trap.b
    finally:
        forget_held_locks()


def _compiled(loaded: native.NativeModule, symbol: str, arguments: list[int]) -> object:
    try:
        return loaded.call(symbol, *arguments)
    except native.NativeTrap as trap:
        return trap.kind.name, trap.a, trap.b


def _reset(module: ModuleType, loaded: native.NativeModule) -> None:
    """Both start from the same statics: those of before the first call."""
    loaded.reset()
    tree = type(module.TREE)
    module.TREE.copy_from(tree())
    module.NODES.copy_from(type(module.NODES)())
    module.noted()


@pytest.mark.parametrize("name", _names())
def test_both_agree(name: str, both: tuple[ModuleType, native.NativeModule]) -> None:
    module, loaded = both
    function = vars(module)[name]
    count = len(inspect.signature(function).parameters)
    for position, first in enumerate(NUMBERS):
        arguments = [first, NUMBERS[(position * 5 + 3) % len(NUMBERS)]][:count]
        _reset(module, loaded)
        assert _compiled(loaded, f"semantics_of_both.{name}", arguments) == _in_python(function, arguments), arguments
