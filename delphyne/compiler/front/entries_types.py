# SPDX-License-Identifier: Apache-2.0
"""Refusals of types and names: E02xx; of options and errors: E05xx."""

from __future__ import annotations

from typing import Final

from delphyne.compiler.front.entry import Entry

_ERR = """
class Err(ErrorEnum):
    ABSENT = 1

def find(x: u64) -> u64 | Err:
    if x == 0:
        return Err.ABSENT
    return x
"""

ENTRIES: Final[dict[str, Entry]] = {
    "E0201": Entry(
        "types do not match",
        "Nothing is converted silently.",
        "convert explicitly, or correct the annotation",
        """
from delphyne.lang import u64

def is_set(x: u64) -> bool:
    return x & 1  # <- x & 1
""",
        """
from delphyne.lang import u64

def is_set(x: u64) -> bool:
    return x & 1 != 0
""",
    ),
    "E0202": Entry(
        "widths are mixed",
        "Where a number changes its width it may lose bits, so the program says where and how.",
        "widen with `u64(x)`, or take the low bits of the wider one with `u32.wrap(x)`",
        """
from delphyne.lang import u32, u64

def total(x: u64, y: u32) -> u64:
    return x + y  # <- x + y
""",
        """
from delphyne.lang import u32, u64

def total(x: u64, y: u32) -> u64:
    return x + u64(y)
""",
    ),
    "E0203": Entry(
        "bare literal",
        "In Python `y = 5` is a number without width: it would not overflow where compiled code does. Beside an operand that has a width a literal "
        "takes that width.",
        "give the literal a width: `u64(5)`",
        """
from delphyne.lang import u64

def five(x: u64) -> u64:
    y = 5  # <- 5
    return x + y
""",
        """
from delphyne.lang import u64

def five(x: u64) -> u64:
    y = u64(5)
    return x + y
""",
    ),
    "E0204": Entry(
        "condition is not bool",
        "`if x:` asks different things of a number, an option and a list. A condition here says what it asks.",
        "compare: `x != 0`, `x is not None`",
        """
from delphyne.lang import u64

def one(x: u64) -> u64:
    if x:  # <- x:
        return x
    return u64(1)
""",
        """
from delphyne.lang import u64

def one(x: u64) -> u64:
    if x != 0:
        return x
    return u64(1)
""",
    ),
    "E0205": Entry(
        "unknown name",
        "It is neither a variable of the function nor a name of the module. Names imported for type checking alone are not there when the "
        "program is built.",
        "import or define it",
        """
from delphyne.lang import u64

def one(x: u64) -> u64:
    return x + PAGE_SIZE  # <- PAGE_SIZE
""",
        """
from typing import Final

from delphyne.lang import u64

PAGE_SIZE: Final = u64(4096)

def one(x: u64) -> u64:
    return x + PAGE_SIZE
""",
    ),
    "E0206": Entry(
        "not a type of the language",
        "Python's own types have no width, live on a heap, or both.",
        "use the types of docs/language.md",
        """
def one(x: int) -> bool:  # <- int
    return x == 1
""",
        """
from delphyne.lang import u64

def one(x: u64) -> bool:
    return x == 1
""",
    ),
    "E0207": Entry(
        "no such attribute",
        "The type has no field, property or method of that name, or the name begins with `_` and belongs to its own module.",
        "correct the name",
        """
from delphyne.lang import u64, value

@value
class Range:
    start: u64
    size: u64

def end(x: Range) -> u64:
    return x.start + x.length  # <- x.length
""",
        """
from delphyne.lang import u64, value

@value
class Range:
    start: u64
    size: u64

def end(x: Range) -> u64:
    return x.start + x.size
""",
    ),
    "E0208": Entry(
        "wrong arguments",
        "Every parameter is given once, by position or by keyword.",
        "pass each parameter once",
        """
from delphyne.lang import u64

def add(x: u64, y: u64) -> u64:
    return x + y

def one(x: u64) -> u64:
    return add(x)  # <- add(x)
""",
        """
from delphyne.lang import u64

def add(x: u64, y: u64) -> u64:
    return x + y

def one(x: u64) -> u64:
    return add(x, y=x)
""",
    ),
    "E0209": Entry(
        "operator not defined",
        "Operators work on two integers of one width, or as the operator methods of a value say.",
        "use an operator that the types have: `//` divides, `and` and `or` join bools, addresses are added to numbers",
        """
from delphyne.lang import u64

def half(x: u64) -> u64:
    return x / 2  # <- x / 2
""",
        """
from delphyne.lang import u64

def half(x: u64) -> u64:
    return x // 2
""",
    ),
    "E0210": Entry(
        "literal does not fit",
        "The number has more bits than the type, or is negative.",
        "use a wider type, or the number that is meant",
        """
from delphyne.lang import u8

def low(x: u8) -> u8:
    return x & 256  # <- 256
""",
        """
from delphyne.lang import u8

def low(x: u8) -> u8:
    return x & 255
""",
    ),
    "E0211": Entry(
        "variable with two types",
        "A variable has one type, that of its annotation or of its first assignment.",
        "use a second variable, or annotate the first assignment: `x: u64 | None = None`",
        """
from delphyne.lang import u32, u64

def low(x: u64) -> u32:
    y = x
    y = x == 1  # <- x == 1
    return u32(y)
""",
        """
from delphyne.lang import u32, u64

def low(x: u64) -> u32:
    y = x == 1
    return u32(y)
""",
    ),
    "E0212": Entry(
        "variable may be unassigned",
        "On some way that leads here nothing was assigned: Python would raise, compiled code would read rubbish.",
        "assign it on every way that leads here",
        """
from delphyne.lang import u64

def one(x: u64) -> u64:
    if x > 1:
        y = x
    return y  # <- y
""",
        """
from delphyne.lang import u64

def one(x: u64) -> u64:
    y = u64(1)
    if x > 1:
        y = x
    return y
""",
    ),
    "E0213": Entry(
        "function can end without a result",
        "Some way through the function comes to its end without `return`.",
        "return a value on every way, or say that it cannot be reached: `unreachable()`",
        """
from delphyne.lang import u64

def one(x: u64) -> u64:  # <- def
    if x > 1:
        return x
""",
        """
from delphyne.lang import u64

def one(x: u64) -> u64:
    if x > 1:
        return x
    return u64(1)
""",
    ),
    "E0214": Entry(
        "not a value",
        "Functions, classes and modules are no values, and only functions of the program and what the language offers can be called.",
        "call it, or name a value",
        """
from delphyne.lang import u64

def one(x: u64) -> u64:
    return u64(len(x))  # <- len
""",
        """
from delphyne.lang import View, u8, u64

def one(x: View[u8]) -> u64:
    return x.length
""",
    ),
    "E0215": Entry(
        "inheritance or generics",
        "A record is laid out as it is written. The few generic classes of the language are its own.",
        "write a class of its own for each use",
        """
from delphyne.lang import struct, u64

class Base:
    pass

@struct
class Vm(Base):  # <- class
    number: u64

def one(vm: Vm) -> u64:
    return vm.number
""",
        """
from delphyne.lang import struct, u64

@struct
class Vm:
    number: u64

def one(vm: Vm) -> u64:
    return vm.number
""",
    ),
    "E0216": Entry(
        "field type not allowed",
        "A value holds values; a struct also arrays, atomics and other structs. A field has no first value: a struct begins all zero.",
        "use the field types of docs/language.md",
        """
from delphyne.lang import struct, u64

@struct
class Vm:
    number: u64 = u64(1)  # <- number

def one(vm: Vm) -> u64:
    return vm.number
""",
        """
from delphyne.lang import struct, u64

@struct
class Vm:
    number: u64

def one() -> u64:
    vm = Vm()
    vm.number = u64(1)
    return vm.number
""",
    ),
    "E0217": Entry(
        "assignment to part of a value",
        "Values are copied, so a change of one would be a change of a copy.",
        "values are immutable: build a new one",
        """
from delphyne.lang import u64, value

@value
class Range:
    start: u64
    size: u64

def grow(x: Range) -> Range:
    x.size = x.size + 1  # <- x.size
    return x
""",
        """
from delphyne.lang import u64, value

@value
class Range:
    start: u64
    size: u64

def grow(x: Range) -> Range:
    return Range(x.start, x.size + 1)
""",
    ),
    "E0220": Entry(
        "log message outside the subset",
        "At EL2 a message is a number and at most six arguments of eight bytes; the reader has the text.",
        'write log(Level.INFO, f"text {x} {y:x}") with at most six integers, bools, enums or addresses',
        """
from delphyne.lang import Level, log, u64

def one(x: u64, y: u64) -> None:
    log(Level.INFO, f"{x!r} {y}")  # <- x!r
""",
        """
from delphyne.lang import Level, log, u64

def one(x: u64, y: u64) -> None:
    log(Level.INFO, f"{x:#x} {y}")
""",
    ),
    "E0501": Entry(
        "option used before it is known to hold something",
        "The value may be None here.",
        "check with `is None` or `is not None` first",
        """
from delphyne.lang import checked_add, u64

def one(x: u64) -> u64:
    sum = checked_add(x, 1)
    return sum + 1  # <- sum + 1
""",
        """
from delphyne.lang import checked_add, u64

def one(x: u64) -> u64:
    sum = checked_add(x, 1)
    if sum is None:
        return x
    return sum
""",
    ),
    "E0502": Entry(
        "result used before it is known to be no error",
        "The call may have failed.",
        "check with `isinstance(x, Err)` first",
        """
from delphyne.lang import ErrorEnum, u64
"""
        + _ERR
        + """
def one(x: u64) -> u64:
    found = find(x)
    return found + 1  # <- found + 1
""",
        """
from delphyne.lang import ErrorEnum, u64
"""
        + _ERR
        + """
def one(x: u64) -> u64:
    found = find(x)
    if isinstance(found, Err):
        return u64(0)
    return found + 1
""",
    ),
    "E0503": Entry(
        "result not used",
        "What may be an error, or may be None, is the only sign that something failed.",
        "check it, or assign it and say why it does not matter",
        """
from delphyne.lang import ErrorEnum, u64
"""
        + _ERR
        + """
def one(x: u64) -> u64:
    find(x)  # <- find
    return x
""",
        """
from delphyne.lang import ErrorEnum, u64
"""
        + _ERR
        + """
def one(x: u64) -> u64 | Err:
    found = find(x)
    if isinstance(found, Err):
        return found
    return x
""",
    ),
    "E0504": Entry(
        "test that cannot be",
        "The type says that it is never None: the test asks nothing.",
        "remove the test, or correct the type",
        """
from delphyne.lang import u64

def one(x: u64) -> u64:
    if x is None:  # <- x is None
        return u64(1)
    return x
""",
        """
from delphyne.lang import u64

def one(x: u64 | None) -> u64:
    if x is None:
        return u64(1)
    return x
""",
    ),
    "E0505": Entry(
        "isinstance outside errors",
        "Types are known when the program is built. `isinstance` asks one thing only: whether a `T | Err` is the error.",
        "use isinstance only on `T | Err`, with Err",
        """
from delphyne.lang import u64

def one(x: u64) -> u64:
    if isinstance(x, u64):  # <- isinstance
        return x
    return u64(0)
""",
        """
from delphyne.lang import ErrorEnum, u64
"""
        + _ERR
        + """
def one(x: u64) -> bool:
    return isinstance(find(x), Err)
""",
    ),
}
