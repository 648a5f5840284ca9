# SPDX-License-Identifier: Apache-2.0
"""What EL2 says when it fails: a trap of compiled code, or an exception that it took from itself.

Both run on the emergency stack of the CPU that failed, with every interrupt masked; where they return, el2.S goes on with `el2_farewell`. They take
no lock: the failed CPU
may hold any, and others stop as soon as they see STOPPING. What they read of the failed code's stack is checked to lie on a stack
before it is read; a second failure in here ends in `park`.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch import cpu, el1, image
from delphyne.el2.arch.err import Err
from delphyne.el2.arch.exception import Esr, ExceptionClass
from delphyne.el2.arch.frame import Frame
from delphyne.el2.arch.pagetable import VTTBR_EL2
from delphyne.el2.arch.translation import SCTLR_EL1
from delphyne.el2.control import console, sites, stop
from delphyne.lang import AtomicU32, Enum64, Order, Pa, View, boot, cold, entry, load_le64, owned, text, u8, u32, u64

HIDING: Final = AtomicU32()
"""Not 0 once EL2's general registers are in no report."""
MAX_CALLERS: Final = u64(24)
SLASH: Final = u8(0x2F)
DOT: Final = u8(0x2E)
SUFFIX_BYTES: Final = u64(3)
"""Of the `.py` that the name of a module's file ends with."""


class TrapKind(Enum64):
    """Why compiled code trapped; the numbers are the compiler's."""

    OVERFLOW = 1
    SHIFT = 2
    DIVIDE = 3
    INDEX = 4
    NARROW = 5
    ENUM = 6
    ASSERT = 7
    UNREACHABLE = 8


def kind_name(kind: u64) -> View[u8]:
    """A trap's kind in words."""
    known = TrapKind.of(kind)
    if known is None:
        return text(b"unknown trap")
    match known:
        case TrapKind.OVERFLOW:
            return text(b"arithmetic overflow")
        case TrapKind.SHIFT:
            return text(b"shift by the width or more")
        case TrapKind.DIVIDE:
            return text(b"division by zero")
        case TrapKind.INDEX:
            return text(b"index out of range")
        case TrapKind.NARROW:
            return text(b"value does not fit")
        case TrapKind.ENUM:
            return text(b"number is no member of the enum")
        case TrapKind.ASSERT:
            return text(b"assertion failed")
        case TrapKind.UNREACHABLE:
            return text(b"unreachable code was reached")


@cold
@entry("trap_report")
def trap_report(site: u64, a: u64, b: u64, frame: Frame) -> None:
    """A check failed: says which, with what values, where, and who called. `frame` holds the registers at the check."""
    _begin()
    with owned(image.image_sites_start(), image.image_sites_end() - image.image_sites_start()) as table:
        found = sites.find_site(table, site)
        if isinstance(found, Err):
            console.put_text(text(b"trap at unknown site "))
            console.put_decimal(site, u64(1))
        else:
            console.put_text(kind_name(found.kind))
        console.put_text(text(b"\n  values: "))
        _put_value(a)
        console.put_text(text(b", "))
        _put_value(b)
        console.put_text(text(b"\n  at      "))
        if isinstance(found, Err):
            _put_code_address(frame.elr)
        else:
            _put_place(table, found)
        console.put_byte(console.NEWLINE)
        _put_calls(table, frame.elr + 4)
        _put_callers(table, frame.x[29])
    _put_lower_level()
    _end()


@cold
@entry("crash_report")
def crash_report(frame: Frame, vector: u64) -> None:
    """EL2 took an exception from itself. `vector`: 0 synchronous, 1 IRQ, 2 FIQ, 3 SError."""
    _begin()
    syndrome = Esr.of(frame.esr)
    console.put_text(text(b"unexpected exception at EL2: "))
    console.put_text(_exception_name(syndrome, vector))
    _put_register(text(b"\n  ESR_EL2 "), frame.esr)
    _put_register(text(b" FAR_EL2 "), frame.far)
    _put_register(text(b"\n  ELR_EL2 "), frame.elr)
    _put_register(text(b" SP "), frame.sp)
    _put_register(text(b" SPSR_EL2 "), frame.spsr)
    if HIDING.load(Order.RELAXED) == 0:
        _put_general(frame)
    console.put_text(text(b"\n  at      "))
    with owned(image.image_sites_start(), image.image_sites_end() - image.image_sites_start()) as table:
        _put_near(table, frame.elr)
        console.put_byte(console.NEWLINE)
        _put_callers(table, frame.x[29])
    _put_lower_level()
    _end()


@boot
def hide_registers() -> None:
    """EL2 keeps keys from now on: a general register may hold part of one."""
    HIDING.store(u32(1), Order.RELAXED)


def _put_general(frame: Frame) -> None:
    for i in u64.range(31):
        console.put_text(text(b"\n  x") if i % 4 == 0 else text(b" x"))
        console.put_decimal(i, u64(2))
        _put_register(text(b" "), frame.x[i])


def _begin() -> None:
    """Stops the others and starts the report on a line of its own; a CPU that fails second says nothing."""
    if not stop.begin_stop():
        stop.stopped()
    console.begin_report()
    console.put_text(text(b"\n*** delphyne stopped on CPU "))
    console.put_decimal(cpu.CPUS.mine().index, u64(1))
    console.put_text(text(b": "))


def _end() -> None:
    """No other CPU is at EL2 afterwards; what EL2 protects is `el2_farewell`'s."""
    others = cpu.online_count() - 1
    console.put_text(text(b"  stopped "))
    console.put_decimal(u64(stop.wait_for_stop(others)), u64(1))
    console.put_text(text(b" of "))
    console.put_decimal(u64(others), u64(1))
    console.put_text(text(b" other CPUs\n*** end of report\n"))


def _put_lower_level() -> None:
    """What the host at EL1 of this CPU was about: the one place where a report shows registers that are not EL2's. A guest's are nobody's to see."""
    if VTTBR_EL2.read().vmid != 0:
        console.put_text(text(b"  EL1: a guest\n"))
        return
    console.put_text(text(b"  EL1:"))
    _put_register(text(b"\n  SCTLR "), SCTLR_EL1.read().raw)
    _put_register(text(b" TCR "), el1.TCR_EL1.read())
    _put_register(text(b"\n  TTBR0 "), el1.TTBR0_EL1.read())
    _put_register(text(b" TTBR1 "), el1.TTBR1_EL1.read())
    _put_register(text(b"\n  ESR "), el1.ESR_EL1.read())
    _put_register(text(b" FAR "), el1.FAR_EL1.read())
    _put_register(text(b"\n  ELR "), el1.ELR_EL1.read())
    _put_register(text(b" SPSR "), el1.SPSR_EL1.read())
    _put_register(text(b"\n  SP "), el1.SP_EL1.read())
    _put_register(text(b" VBAR "), el1.VBAR_EL1.read())
    console.put_byte(console.NEWLINE)


def _exception_name(syndrome: Esr, vector: u64) -> View[u8]:
    if vector != 0:
        return text(b"interrupt or SError")
    known = ExceptionClass.of(syndrome.ec)
    if known is None:
        return text(b"unknown class")
    match known:
        case ExceptionClass.DATA_ABORT_SAME:
            return text(b"data abort")
        case ExceptionClass.INSTRUCTION_ABORT_SAME:
            return text(b"instruction abort")
        case ExceptionClass.SP_ALIGNMENT:
            return text(b"stack pointer alignment")
        case ExceptionClass.PC_ALIGNMENT:
            return text(b"program counter alignment")
        case ExceptionClass.FP_ACCESS:
            return text(b"access to SIMD registers")
        case ExceptionClass.UNKNOWN:
            return text(b"undefined instruction")
        case _:
            return text(b"other synchronous exception")


def _put_register(name: View[u8], number: u64) -> None:
    console.put_text(name)
    console.put_hex(number, u64(16))


def _put_value(number: u64) -> None:
    """Both ways: limits read better in decimal, addresses in hexadecimal."""
    console.put_decimal(number, u64(1))
    console.put_text(text(b" (0x"))
    console.put_hex(number, u64(1))
    console.put_text(text(b")"))


def _put_place(table: View[u8], found: sites.Site) -> None:
    folder = sites.text_of(table, found.folder)
    file = sites.text_of(table, found.file)
    console.put_text(folder)
    console.put_text(file)
    console.put_text(text(b":"))
    console.put_decimal(found.line, u64(1))
    console.put_text(text(b" in "))
    if found.within:
        _put_dotted(folder)
        _put_dotted(file[:file.length - min(SUFFIX_BYTES, file.length)])
        console.put_text(text(b"."))
    console.put_text(sites.text_of(table, found.function))


def _put_dotted(path: View[u8]) -> None:
    """Part of a path, as part of a module's name."""
    for i in u64.range(path.length):
        console.put_byte(DOT if path[i] == SLASH else path[i])


def _put_code_address(address: u64) -> None:
    """An address as gdb and objdump know it: from the start of the image."""
    console.put_text(text(b"image + 0x"))
    console.put_hex(_offset(address), u64(1))


def _offset(address: u64) -> u64:
    start = image.image_start().raw
    return address - start if address >= start else u64(0)


def _put_near(table: View[u8], address: u64) -> None:
    """The place of an instruction that is no call: the nearest call before it is close enough to find it by."""
    _put_code_address(address)
    if address >= image.image_text_end().raw or address < image.image_start().raw:
        return
    caller = sites.find_caller(table, _offset(address))
    if isinstance(caller, Err):
        return
    found = sites.call_at(table, caller.call)
    if not isinstance(found, Err):
        console.put_text(text(b", after "))
        _put_place(table, found.site)


def _put_calls(table: View[u8], back: u64) -> bool:
    """The call that returns to `back`, and those inlined around it, a line each; False where the table has none."""
    caller = sites.find_caller(table, _offset(back))
    if isinstance(caller, Err) or caller.address != _offset(back):
        return False
    call = caller.call
    for i in u64.range(MAX_CALLERS):
        found = sites.call_at(table, call)
        if isinstance(found, Err):
            return i != 0
        console.put_text(text(b"  called  "))
        _put_place(table, found.site)
        console.put_byte(console.NEWLINE)
        call = found.around
    return True


def _put_callers(table: View[u8], first: u64) -> None:
    """Walks the frame records from `first` on: each must lie on a stack, above the one before."""
    record = first
    for _ in u64.range(MAX_CALLERS):
        if not _is_on_stack(record):
            return
        back = u64(0)
        following = u64(0)
        with owned(Pa(record), u64(16)) as window:
            following = load_le64(window, u64(0))
            back = load_le64(window, u64(8))
        if back == 0:
            return
        if not _put_calls(table, back):
            console.put_text(text(b"  called  "))
            _put_code_address(back)
            console.put_byte(console.NEWLINE)
        if following <= record:
            return
        record = following


def _is_on_stack(record: u64) -> bool:
    """Whether a frame record at that address lies wholly on the stack of some CPU, guard pages and emergency stacks excluded."""
    start = image.image_stacks_start().raw
    if record < start or record >= image.image_end().raw or record % 8 != 0:
        return False
    within = (record - start) % cpu.SLOT_BYTES
    return within >= cpu.STACK_OFFSET and within <= cpu.STACK_OFFSET + cpu.STACK_BYTES - 16
