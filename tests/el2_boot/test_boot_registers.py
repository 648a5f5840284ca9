# SPDX-License-Identifier: Apache-2.0
"""What is encoded by hand, held against the assembler and against numbers that other projects and the Arm ARM write as masks."""

from __future__ import annotations

import importlib
import pkgutil
import re
import subprocess
from pathlib import Path

import pytest

import delphyne.el2
from delphyne.el2.arch.exception import MODE_EL1H, AbortIss, CurrentEl, Esr, ExceptionClass, Hpfar, Spsr
from delphyne.el2.arch.hypervisor import Cnthctl, Cptr, Hcr, Mdcr
from delphyne.el2.arch.identification import (
    Ctr,
    IdAa64dfr0,
    IdAa64isar0,
    IdAa64mmfr0,
    IdAa64mmfr1,
    IdAa64mmfr2,
    IdAa64pfr0,
    Midr,
    Mpidr,
    Pmcr,
)
from delphyne.el2.arch.pagetable import Shareability, Stage1Leaf
from delphyne.el2.arch.translation import SCTLR_EL1_RES1, SCTLR_EL2_RES1, Sctlr, Tcr2
from delphyne.el2.memory import stage1
from delphyne.lang import SysReg, u8, u64

ROOT = Path(__file__).resolve().parents[2]
ASSEMBLER = "aarch64-linux-gnu-as"


UNKNOWN_TO_THE_ASSEMBLER = {"ID_AA64MMFR3_EL1": (3, 0, 0, 7, 3)}
"""Younger than binutils 2.40; op0, op1, CRn, CRm, op2 from the Arm ARM, D19.2."""


def every_el2_module() -> None:
    for module in pkgutil.walk_packages(delphyne.el2.__path__, "delphyne.el2."):
        importlib.import_module(module.name)


def assembled(lines: list[str], folder: Path) -> list[int]:
    """The instruction words that GNU as makes of these lines."""
    source = folder / "lines.S"
    source.write_text("\n".join([".text", *lines, ""]))
    subprocess.run([ASSEMBLER, "-march=armv8.7-a+sve+sme+profile", "-o", str(folder / "lines.o"), str(source)], check=True)
    subprocess.run(["aarch64-linux-gnu-objcopy", "-O", "binary", "-j", ".text", str(folder / "lines.o"), str(folder / "lines.bin")], check=True)
    data = (folder / "lines.bin").read_bytes()
    return [int.from_bytes(data[at : at + 4], "little") for at in range(0, len(data), 4)]


def test_every_system_register_has_the_encoding_that_the_assembler_gives_its_name(tmp_path: Path) -> None:
    every_el2_module()
    known = sorted((encoding, name) for encoding, name in SysReg.KNOWN.items() if name not in UNKNOWN_TO_THE_ASSEMBLER)
    assert {name: encoding for encoding, name in SysReg.KNOWN.items() if name in UNKNOWN_TO_THE_ASSEMBLER} == UNKNOWN_TO_THE_ASSEMBLER
    words = assembled([f"mrs x0, {name}" for _, name in known], tmp_path)
    assert len(words) == len(known) >= 30
    for (encoding, name), word in zip(known, words, strict=True):
        fields = (word >> 19 & 3, word >> 16 & 7, word >> 12 & 15, word >> 8 & 15, word >> 5 & 7)
        assert word >> 20 == 0xD53, name
        assert fields == encoding, name


@pytest.mark.parametrize(
    ("made", "mask"),
    [
        (Hcr(vm=True), 1 << 0),
        (Hcr(fmo=True, imo=True, amo=True), 0x38),
        (Hcr(vse=True), 1 << 8),
        (Hcr(dc=True), 1 << 12),
        (Hcr(twi=True, twe=True), 0x6000),
        (Hcr(tid3=True), 1 << 18),
        (Hcr(tsc=True), 1 << 19),
        (Hcr(tvm=True), 1 << 26),
        (Hcr(tge=True), 1 << 27),
        (Hcr(rw=True), 0x8000_0000),
        (Hcr(e2h=True), 1 << 34),
        (Hcr(tea=True), 1 << 37),
        (Hcr(apk=True, api=True), 3 << 40),
        (Hcr(fwb=True), 1 << 46),
        (Hcr(ata=True), 1 << 56),
        (Cptr(tfp=True), 1 << 10),
        (Cptr(tz=True), 1 << 8),
        (Cptr(tcpac=True), 1 << 31),
        (Cptr(res1_low=u8(0xFF), res1_9=True, tz=True, tsm=True, res1_13=True), 0x33FF),
        (Mdcr(hpmn=u8(31)), 0x1F),
        (Mdcr(tde=True), 1 << 8),
        (Mdcr(e2pb=u8(3)), 0x3000),
        (Cnthctl(el1pcten=True, el1pcen=True), 3),
        (Esr.of(u64(0x9600_0045)), 0x9600_0045),
        (Spsr(mode=MODE_EL1H, debug_masked=True, serror_masked=True, irq_masked=True, fiq_masked=True), 0x3C5),
        (Spsr(n=True, z=True, c=True, v=True), 0xF000_0000),
        (Spsr(il=True), 1 << 20),
        (Tcr2(t0sz=u8(16), irgn0=u8(1), orgn0=u8(1), sh0=u8(3), ps=u8(5), res1_23=True, res1_31=True), 0x8085_3510),
        (Sctlr(m=True, a=True, c=True, sa=True, i=True), 0x100F),
        (Sctlr(wxn=True), 1 << 19),
        (Sctlr(ee=True), 1 << 25),
        (Midr(implementer=u8(0x41)), 0x4100_0000),
        (Mpidr(aff3=u8(0xFF)), 0xFF_0000_0000),
        (Ctr(dmin_line=u8(15)), 0xF_0000),
        (Ctr(idc=True, dic=True), 0x3000_0000),
        (IdAa64pfr0(gic=u8(15)), 0xF00_0000),
        (IdAa64pfr0(sve=u8(15)), 15 << 32),
        (IdAa64isar0(aes=u8(15)), 0xF0),
        (IdAa64isar0(sha2=u8(15)), 0xF000),
        (IdAa64isar0(atomic=u8(15)), 0xF0_0000),
        (IdAa64mmfr0(tgran4=u8(15)), 0xF000_0000),
        (IdAa64mmfr1(vmid_bits=u8(15)), 0xF0),
        (IdAa64mmfr2(fwb=u8(15)), 15 << 40),
        (IdAa64dfr0(pmu=u8(15)), 0xF00),
        (Pmcr(counters=u8(31)), 0xF800),
        (CurrentEl(el=u8(2)), 8),
    ],
)
def test_bit_positions(made: Hcr, mask: int) -> None:
    assert int(made.raw) == mask


def test_a_data_abort_is_taken_apart() -> None:
    """A 32-bit store of w3, translation fault at level 1: 0x93830045."""
    esr = Esr.of(u64(0x9383_0045))
    iss = AbortIss.of(u64(esr.iss))
    assert ExceptionClass.of(esr.ec) is ExceptionClass.DATA_ABORT_LOWER
    assert esr.il
    assert (int(iss.fsc), iss.wnr, iss.isv, int(iss.srt), int(iss.sas)) == (5, True, True, 3, 2)
    assert [iss.s1ptw, iss.cm, iss.ea, iss.fnv, iss.sse, iss.sf] == [False] * 6
    assert int(Hpfar.of(u64(0x0000_0000_0090_0000)).fipa) == 0x9_0000


EQUATE = re.compile(r"^\s*\.equ\s+(\w+),\s*([^/]+?)\s*(?://.*)?$", re.MULTILINE)


def equates() -> dict[str, int]:
    text = (ROOT / "delphyne" / "el2" / "entry" / "el2.S").read_text()
    return {name: eval(number, {}) for name, number in EQUATE.findall(text)}


def test_the_constants_of_the_assembly_file_are_those_of_python() -> None:
    known = equates()
    assert known["SCTLR_EL1_OFF"] == int(SCTLR_EL1_RES1)
    assert known["SCTLR_EL2_OFF"] == int(SCTLR_EL2_RES1)
    assert known["SCTLR_ON"] == int(Sctlr(m=True, c=True, sa=True, i=True, wxn=True).raw)
    assert known["HCR_RW"] == int(Hcr(rw=True).raw)
    assert known["FIRST_TCR"] == int(Tcr2(t0sz=u8(16), irgn0=u8(1), orgn0=u8(1), sh0=u8(3), res1_23=True).raw)
    assert known["FIRST_MAIR"] == int(stage1.MAIR)
    assert known["CPTR_TFP"] == int(Cptr(tfp=True).raw)
    normal = Stage1Leaf(valid=True, page=True, attribute=u8(stage1.MAIR_NORMAL), shareability=Shareability.INNER, accessed=True)
    device = Stage1Leaf(valid=True, page=True, attribute=u8(stage1.MAIR_DEVICE), accessed=True)
    assert known["LEAF_NORMAL"] == int(normal.raw)
    assert known["LEAF_DEVICE"] == int(device.raw)
    assert known["LEAF_READ_ONLY"] == int(Stage1Leaf(read_only=True).raw)
    assert known["LEAF_EL2_AP1"] == int(Stage1Leaf(access_res1=True).raw)
    assert known["LEAF_XN"] == int(Stage1Leaf(execute_never=True).raw)
