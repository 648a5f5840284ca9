# SPDX-License-Identifier: Apache-2.0
"""Images: what a build writes, that it is reproducible, and that each check catches a bad one."""

from __future__ import annotations

from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from delphyne.compiler import tree
from delphyne.compiler.back import checks, disassembly, image, sites, tools
from delphyne.compiler.back.body import Site
from delphyne.compiler.back.errors import BackError, ToolMissing
from delphyne.compiler.back.sites import Return, Table
from delphyne.compiler.tree import BinOp, TrapKind
from tests.compiler.back.trees import (
    LOC,
    U32,
    U64,
    UNIT,
    add,
    at,
    binary,
    builtin,
    call,
    const,
    discard,
    element,
    field,
    function,
    load,
    local,
    program,
    ret,
    static,
    store,
    variable,
)

CPU = tree.StructT("Cpu", (("index", U32), ("inner", tree.StructT("Inner", (("x", U64),)))), exported="CPU")
ARRAY = tree.ArrayT(U64, 64)

SCRIPT = """
ENTRY(start)
SECTIONS {
  . = 0; __image_start = .;
  .text : { *(.text .text.*) } . = ALIGN(4096); __text_end = .;
  .rodata : { *(.rodata .rodata.*) . = ALIGN(8); __sites_start = .; KEEP(*(.delphyne.sites)) __sites_end = .; } . = ALIGN(4096);
  .data : { *(.data .data.*) } . = ALIGN(4096);
  .bss (NOLOAD) : { *(.bss .bss.*) }
  .delphyne.frames 0 : { KEEP(*(.delphyne.frames)) }
  /DISCARD/ : { *(.comment) *(.note*) *(.eh_frame*) }
}
"""

ASSEMBLY = """
        .include "offsets.inc"
        .macro function name, frame=0
        .globl \\name
        .type \\name, %function
        .pushsection .delphyne.frames, "", %progbits
        .quad \\name, \\frame
        .popsection
\\name:
        .endm
        .text
function start
        ldr     x0, [x0, #CPU_inner_x]
        bl      entry
        b       park
function __trap, 48
        b       park
function park, 0
        b       park
function mmio_read32
        ldr     w0, [x0]
        ret
EXTRA
"""


def _program(**changes: object) -> tree.Program:
    leaf = function("room.leaf", [("x", U64)], U64, [ret(binary(BinOp.MUL, local("x"), const(3), at(9)))], loc=at(8))
    leaf.cold = True
    entry = function(
        "entry",
        [("x", U64)],
        U64,
        [
            tree.ZeroLocal("a", LOC),
            store(local("x"), element(tree.LocalPlace("a", ARRAY, LOC), binary(BinOp.AND, local("x"), const(63)))),
            tree.Update(field(static("room.CPU0", CPU), 0), BinOp.ADD, const(1, U32), at(21)),
            ret(add(call("room.leaf", [local("x")], loc=at(22)), load(element(tree.LocalPlace("a", ARRAY, LOC), local("x"))))),
        ],
        exported=True,
        loc=at(20),
        a=ARRAY,
    )
    read = function("mmio_read32", [("pa", U64)], U32, [], external=True)
    items = [leaf, entry, read, variable("room.CPU0", CPU), variable("room.TABLE", ARRAY, list(range(64)), constant=True)]
    return program(*items, exports=(CPU,))


def _build(folder: Path, *, extra: str = "", made: tree.Program | None = None, **options: object) -> image.Built:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "start.S").write_text(ASSEMBLY.replace("EXTRA", extra))
    (folder / "link.ld").write_text(SCRIPT)
    return image.build_image(made or _program(), [folder / "start.S"], folder / "link.ld", folder / "out", **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> image.Built:
    return _build(tmp_path_factory.mktemp("image"))


def test_two_builds_in_two_folders_are_the_same_bytes(built: image.Built, tmp_path: Path) -> None:
    again = _build(tmp_path / "elsewhere" / "deeper")
    for name in ("elf", "image", "listing", "ir"):
        assert getattr(built, name).read_bytes() == getattr(again, name).read_bytes(), name
    assert built.sites == again.sites


def test_flat_image_is_what_the_elf_loads(built: image.Built) -> None:
    flat = built.image.read_bytes()
    with built.elf.open("rb") as stream:
        elf = ELFFile(stream)
        section = elf.get_section_by_name(".rodata")
        assert flat[section["sh_addr"] :][: section["sh_size"]] == section.data()
        assert elf.get_section_by_name(".rela.text") is None
        assert elf.get_section_by_name(".dynamic") is None
    assert built.text_bytes > 0
    assert built.constant_bytes >= len(built.sites)


def test_sites_name_kind_file_line_and_function(built: image.Built) -> None:
    table = Table(built.sites)
    found = [table.site(number) for number in range(table.site_count)]
    assert (TrapKind.OVERFLOW.value, "room.py", 9, "room.leaf") in found
    assert (TrapKind.OVERFLOW.value, "room.py", 21, "entry") in found


def test_return_addresses_name_the_line_of_their_call(built: image.Built) -> None:
    table, codes = Table(built.sites), {code.name: code for code in disassembly.read(built.elf)}
    calls = {item.target[0]: item.address for item in codes["entry"].instructions if item.mnemonic == "bl" and item.target}
    assert table.callers(calls["room.leaf"] + 4) == [("room.py", 22, "entry")]
    assert table.callers(calls["room.leaf"]) == []
    start = next(item.address for item in codes["start"].instructions if item.mnemonic == "bl")
    (caller,) = table.callers(start + 4)
    assert (caller[0], caller[2]) == ("start.S", "start")


def test_places_are_shared_and_names_shortened_without_loss() -> None:
    wanted = [Return(8, "a/b.py", line, name) for line, name in ((9, "a.b.f"), (3000, "a.b.G.f"), (7, "entry"))]
    wanted += [Return(5000, "a/b.py", 3000, "a.b.G.f"), Return(5000, "a/b.py", 7, "entry")]
    packed = sites.pack([], wanted)
    table = Table(packed)
    assert table.callers(8) == [("a/b.py", item.line, item.function) for item in wanted[:3]]
    assert table.callers(5000) == table.callers(8)[1:]
    assert packed.count(b"entry") == packed.count(b"a/") == packed.count(b"b.py") == 1
    assert b"a.b." not in packed
    assert packed[12:16] == (3).to_bytes(4, "little")


@pytest.mark.parametrize(
    ("traps", "returns", "reason"),
    [
        ([], [Return(6, "x.py", 1, "x.f")], "no instruction returns to 0x6"),
        ([], [Return(8, "x.py", 1, "x." + "f" * 64)], "the name"),
        ([], [Return(8, "x.py", 1 << 16, "x.f")], "the line in x.py"),
        ([Site(TrapKind.INDEX, "x.py", line, 0, "x.f") for line in range(8193)], [], "that many lines"),
    ],
    ids=["address", "name", "line", "places"],
)
def test_what_the_table_of_sites_cannot_hold_is_refused(traps: list[Site], returns: list[Return], reason: str) -> None:
    with pytest.raises(BackError, match=reason):
        sites.pack(traps, returns)


def test_stack_depth_adds_up_frames_along_the_deepest_chain(built: image.Built) -> None:
    depths = {item.root: item for item in built.depths}
    assert depths["start"].size == built.frames["entry"] + built.frames["room.leaf"]
    assert depths["start"].chain[:2] == ("start", "entry")
    assert built.frames["entry"] >= 512
    assert depths["__trap"].size == 48


def test_assembly_sees_the_offsets_of_exported_structures(built: image.Built) -> None:
    text = (built.elf.parent / "offsets.inc").read_text()
    assert ".equ CPU_inner_x, 0x8\n" in text
    assert ".equ CPU_SIZEOF, 0x10\n" in text


BAD: list[tuple[str, str, str]] = [
    ("undefined", "function bad\n bl nowhere\n ret", "nowhere"),
    ("absolute", ".data\n .quad start", "absolute relocation 257 in .data"),
    ("paired", "function mmio_write64\n stp x1, x1, [x0]\n ret", "paired access"),
    ("write-back", "function mmio_read64\n ldr x0, [x0], #8\n ret", "write-back access"),
    ("pre-index", "function mmio_read8\n ldrb w0, [x0, #1]!\n ret", "write-back access"),
    ("call through a register", "function bad\n blr x1\n ret", "indirect branch"),
    ("recursion", "function one, 16\n bl two\n ret\nfunction two, 16\n bl one\n ret", "recursion: one -> two -> one"),
    ("recursion by tail calls", "function one\n b two\nfunction two\n b.eq one\n ret", "recursion"),
    ("stack", "function deep, 20000\n bl entry\n ret", "bytes from deep do not fit in 16384: deep -> entry"),
    ("emergency stack", "function crash, 9000\n ret", "from crash do not fit in 8192"),
    ("writable code", '.section .bad, "awx"\n nop', "writable and executable"),
]


@pytest.mark.parametrize(("extra", "finding"), [(extra, finding) for _, extra, finding in BAD], ids=[name for name, _, _ in BAD])
def test_a_bad_image_is_refused(tmp_path: Path, extra: str, finding: str) -> None:
    with pytest.raises(BackError, match=finding.replace("(", r"\(")) as caught:
        _build(tmp_path, extra=extra)
    assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize("operands", ["v0.16b, v1.16b", "q3, [x0]", "d8, d9, [sp]", "s0, w1", "{v0.4s}, [x0]", "v2.d[1], x0", "h31, h2", "b7, [x1]"])
def test_simd_registers_are_seen(operands: str) -> None:
    code = disassembly.Code("room.f", 0, [disassembly.Instruction(0, "op", operands, None)])
    assert checks.simd_registers([code], set())
    assert not checks.simd_registers([code], {"room.f"})
    code.name = "room.f.specialized.1"
    assert not checks.simd_registers([code], {"room.f"})


@pytest.mark.parametrize("operands", ["x0, x1, #0xd0", "100 <b1+0x4>", "s3_4_c1_c1_0, x0", "x0, tpidr_el2", "w0, [sp, #8]", "wzr, xzr"])
def test_general_operands_are_no_simd_registers(operands: str) -> None:
    code = disassembly.Code("room.f", 0, [disassembly.Instruction(0, "op", operands, None)])
    assert not checks.simd_registers([code], set())


def test_simd_instructions_stay_in_functions_marked_for_them(tmp_path: Path) -> None:
    v128, view = tree.V128T(), tree.SliceT(tree.IntT(8), True)

    def make(marked: bool) -> tree.Program:
        made = _program()
        body: list[tree.Stmt] = [
            tree.SetLocal("v", builtin("v128_load", [local("s", view), const(0)], v128), LOC),
            discard(builtin("v128_store", [local("s", view), const(16), builtin("v128_op", [local("v", v128)] * 2, v128, op="aese")])),
            ret(),
        ]
        made.functions["cipher"] = function("cipher", [("s", view)], UNIT, body, exported=True, simd=True, v=v128)
        return made

    built = _build(tmp_path, made=make(True))
    code = [item for item in disassembly.read(built.elf) if item.name == "cipher"]
    assert any(item.mnemonic == "aese" for item in code[0].instructions)
    assert checks.simd_registers(code, set())


def test_a_missing_tool_is_one_line_that_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "PREFIX", "no-such-prefix-")
    with pytest.raises(ToolMissing, match=r"^no-such-prefix-as is not installed; install the Debian package binutils-aarch64-linux-gnu$"):
        tools.run("as", "--version")
