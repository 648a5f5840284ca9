# SPDX-License-Identifier: Apache-2.0
"""System registers, barriers and memory-mapped registers.

The compiler turns each of these into one instruction or one accessor; in CPython they act on the current machine. Barriers do nothing
where no machine is current, so that code which only orders its accesses runs in any test.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, Final, Generic, TypeVar

from delphyne.lang import current
from delphyne.lang.address import Pa
from delphyne.lang.bitfields import Bits64
from delphyne.lang.ints import plain_number, u8, u32, u64

R = TypeVar("R", bound="u64 | Bits64")


class Domain(Enum):
    """What a barrier orders, and as seen by whom (Arm ARM C6.2, DSB)."""

    SY = "sy"
    ST = "st"
    LD = "ld"
    ISH = "ish"
    ISHST = "ishst"
    ISHLD = "ishld"
    NSH = "nsh"
    OSH = "osh"


class SysReg(Generic[R]):
    """A system register: the type of its value, its name, and its encoding op0, op1, CRn, CRm, op2 (Arm ARM D17)."""

    KNOWN: Final[dict[tuple[int, int, int, int, int], str]] = {}
    """Every register that was declared, by encoding; a test compares it with binutils."""

    def __init__(self, kind: type[R], name: str, op0: int, op1: int, crn: int, crm: int, op2: int) -> None:
        if kind is not u64 and not (isinstance(kind, type) and issubclass(kind, Bits64)):
            raise TypeError(f"{name}: a system register holds u64 or a Bits64 class")
        for what, number, limit in (("op0", op0, 4), ("op1", op1, 8), ("crn", crn, 16), ("crm", crm, 16), ("op2", op2, 8)):
            if type(number) is not int or not 0 <= number < limit:
                raise TypeError(f"{name}: {what} is {number!r}")
        self.kind = kind
        self.name = name
        self.encoding = (op0, op1, crn, crm, op2)
        if SysReg.KNOWN.setdefault(self.encoding, name) != name:
            raise TypeError(f"{name} and {SysReg.KNOWN[self.encoding]} have one encoding")

    def read(self) -> R:
        """The register's value on this CPU."""
        raw = current.machine().read_register(self.name)
        kind: Any = self.kind
        return u64(raw) if kind is u64 else kind.of(u64(raw))  # type: ignore[return-value]

    def write(self, value: R) -> None:
        """Sets the register on this CPU; an `isb()` makes later instructions see it."""
        if not isinstance(value, self.kind):
            raise TypeError(f"{self.name} holds {self.kind.__name__}, not {type(value).__name__}")
        raw = value.raw if isinstance(value, Bits64) else value
        current.machine().write_register(self.name, plain_number(raw))

    def __repr__(self) -> str:
        return f"SysReg({self.name})"


def _barrier(kind: str, domain: Domain) -> None:
    found = current.find_machine()
    if found is not None:
        found.barrier(kind, domain.value)


def isb() -> None:
    """What was done before, register writes included, is seen by every later instruction."""
    _barrier("isb", Domain.SY)


def dsb(domain: Domain) -> None:
    """Waits until earlier accesses, and TLB and cache operations, are complete."""
    if not isinstance(domain, Domain):
        raise TypeError("dsb(Domain.ISH)")
    _barrier("dsb", domain)


def dmb(domain: Domain) -> None:
    """Orders earlier accesses before later ones."""
    if not isinstance(domain, Domain):
        raise TypeError("dmb(Domain.ISH)")
    _barrier("dmb", domain)


def _read(pa: Pa, kind: Any) -> Any:
    if not isinstance(pa, Pa):
        raise TypeError(f"MMIO at a Pa, not {type(pa).__name__}")
    return kind(current.machine().mmio_read(plain_number(pa.raw), kind.BITS // 8))


def _write(pa: Pa, x: Any, kind: Any) -> None:
    if not isinstance(pa, Pa) or not isinstance(x, kind):
        raise TypeError(f"MMIO write of {type(x).__name__} at {type(pa).__name__}")
    current.machine().mmio_write(plain_number(pa.raw), kind.BITS // 8, plain_number(x))


def mmio_read8(pa: Pa) -> u8:
    """One 8-bit load from a device."""
    return _read(pa, u8)  # type: ignore[no-any-return]


def mmio_read32(pa: Pa) -> u32:
    """One aligned 32-bit load from a device."""
    return _read(pa, u32)  # type: ignore[no-any-return]


def mmio_read64(pa: Pa) -> u64:
    """One aligned 64-bit load from a device."""
    return _read(pa, u64)  # type: ignore[no-any-return]


def mmio_write8(pa: Pa, x: u8) -> None:
    """One 8-bit store to a device."""
    _write(pa, x, u8)


def mmio_write32(pa: Pa, x: u32) -> None:
    """One aligned 32-bit store to a device."""
    _write(pa, x, u32)


def mmio_write64(pa: Pa, x: u64) -> None:
    """One aligned 64-bit store to a device."""
    _write(pa, x, u64)
