# SPDX-License-Identifier: Apache-2.0
"""System registers, barriers, devices and maintenance, and that everything in the language's document has a name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import pytest

import delphyne.lang as lang
from delphyne.lang import (
    Bits64,
    Domain,
    Ipa,
    Level,
    Pa,
    SysReg,
    Va,
    bits,
    current,
    dmb,
    dsb,
    hw,
    isb,
    log,
    mmio_read8,
    mmio_read32,
    mmio_read64,
    mmio_write8,
    mmio_write32,
    mmio_write64,
    per_cpu,
    struct,
    u8,
    u32,
    u64,
)
from delphyne.lang.machine import Machine, MachineError
from delphyne.lang.meta import function_meta


class Made(Bits64):
    low: u8 = bits(7, 0)


@struct
class Cpu:
    number: u32


MADE: Final = SysReg(Made, "S3_7_C15_C15_6", 3, 7, 15, 15, 6)
RAW: Final = SysReg(u64, "S3_7_C15_C15_7", 3, 7, 15, 15, 7)


def test_registers_belong_to_a_cpu() -> None:
    with Machine(cpus=2, registers={"S3_7_C15_C15_7": 5}) as m:
        assert (RAW.read(), MADE.read()) == (u64(5), Made.of(u64(0)))
        RAW.write(u64(6))
        MADE.write(Made(low=u8(3)))
        with m.on(1):
            assert (RAW.read(), MADE.read().low) == (u64(5), u8(0))
        assert (RAW.read(), MADE.read().low) == (u64(6), u8(3))
        for bad in (lambda: RAW.write(u32(1)), lambda: MADE.write(u64(1)), lambda: RAW.write(1)):
            with pytest.raises(TypeError):
                bad()
    assert repr(MADE) == "SysReg(S3_7_C15_C15_6)"


def test_wrong_registers_are_refused_where_they_are_written() -> None:
    for arguments in (
        (u32, "X", 3, 0, 0, 0, 0),
        (u64, "X", 4, 0, 0, 0, 0),
        (u64, "X", 3, 8, 0, 0, 0),
        (u64, "X", 3, 0, 16, 0, 0),
        (u64, "OTHER", 3, 7, 15, 15, 7),
    ):
        with pytest.raises(TypeError):
            SysReg(*arguments)
    assert SysReg(u64, "S3_7_C15_C15_7", 3, 7, 15, 15, 7).encoding == RAW.encoding


def test_without_a_machine_barriers_do_nothing_and_registers_say_so() -> None:
    isb()
    dsb(Domain.ISH)
    dmb(Domain.ISHST)
    assert current.cpu_number() == 0
    for touch in (RAW.read, lambda: hw.tlbi_alle1(), lambda: mmio_read8(Pa(u64(0)))):
        with pytest.raises(RuntimeError, match="with Machine"):
            touch()


class Register32:
    """A device with one register that adds up what is written."""

    def __init__(self) -> None:
        self.total = 0
        self.seen: list[tuple[int, int]] = []

    def read(self, offset: int, size: int) -> int:
        self.seen.append((offset, size))
        return self.total

    def write(self, offset: int, size: int, value: int) -> None:
        self.seen.append((offset, size))
        self.total += value


def test_devices() -> None:
    device = Register32()
    with Machine() as m:
        m.add_device(0x0900_0000, 0x1000, device)
        base = Pa(u64(0x0900_0000))
        mmio_write8(base + u64(3), u8(1))
        mmio_write32(base + u64(4), u32(2))
        mmio_write64(base + u64(8), u64(4))
        assert (mmio_read8(base), mmio_read32(base + u64(4)), mmio_read64(base + u64(0xFF8))) == (u8(7), u32(7), u64(7))
        assert device.seen == [(3, 1), (4, 4), (8, 8), (0, 1), (4, 4), (0xFF8, 8)]
        for address, message in ((0x0900_0002, "not aligned"), (0x0900_1000, "no device"), (0x4000_0000, "no device")):
            with pytest.raises(MachineError, match=message):
                mmio_read32(Pa(u64(address)))
    for bad in (lambda: mmio_read8(u64(1)), lambda: mmio_write8(Pa(u64(1)), u32(1)), lambda: dsb("ish"), lambda: dmb(1)):
        with pytest.raises(TypeError):
            bad()


MAINTENANCE = sorted(name for name in lang.__all__ if re.match("(tlbi|dc|ic|at)_", name))


@pytest.mark.parametrize("name", MAINTENANCE)
def test_maintenance_is_one_assembly_function_each(name: str) -> None:
    function: Any = getattr(lang, name)
    assert function_meta(function).assembly
    kind = {"Ipa": Ipa, "Va": Va, None: None}[next(iter(function.__annotations__.values())) if function.__code__.co_argcount else None]
    with Machine() as m:
        function(*([] if kind is None else [kind(u64(0x4000_0000))]))
        if not name.startswith("at_"):
            assert m.events[-1].name == name.replace("_", " ", 1)
            assert m.events[-1].address == (None if kind is None else 0x4000_0000)
        if kind is not None:
            with pytest.raises(TypeError):
                function(u64(0x4000_0000))


def test_machines_nest_and_keep_messages() -> None:
    cpus = per_cpu(Cpu, 4)
    with Machine(cpus=4) as outer:
        log(Level.INFO, "outer")
        with Machine() as inner:
            log(Level.ERROR, "inner")
            assert current.machine() is inner
        with outer.on(2):
            cpus.mine().number = u32(2)
        assert [int(cpus.of(i).number) for i in range(4)] == [0, 0, 2, 0]
        assert (outer.messages, inner.messages) == ([(Level.INFO, "outer")], [(Level.ERROR, "inner")])
    with pytest.raises(RuntimeError):
        current.leave(outer)


FOR_THE_LIBRARY = {"place_at", "slice_at", "simd_enter", "simd_leave", "log_format"}
"""What only the language's own library and the compiler use."""


def test_the_document_says_what_every_name_means() -> None:
    document = (Path(lang.__file__).parents[2] / "docs" / "language.md").read_text()
    words = set(re.findall(r"\w+", document))
    for stem, *widths in re.findall(r"\b((?:load|store|mmio)_\w*?[a-z])(8|16|32)((?:/\d+)+)", document):
        words |= {stem + width for width in "".join(widths).split("/")}
    words |= {f"Bits{width}" for width in (8, 16, 32, 64)}
    undocumented = {name for name in lang.__all__ if name not in words and not re.match("(tlbi|dc|ic|at)_", name)}
    assert undocumented <= FOR_THE_LIBRARY
