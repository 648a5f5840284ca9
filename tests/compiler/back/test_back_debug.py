# SPDX-License-Identifier: Apache-2.0
"""Debug information, read back from objects: names, lines, parameters, locals and the types gdb will print."""

from __future__ import annotations

import io

import pytest
from elftools.dwarf.die import DIE
from elftools.elf.elffile import ELFFile

from delphyne.compiler import tree
from delphyne.compiler.back import layout
from delphyne.compiler.back.debug import short_name
from delphyne.compiler.back.ir import AARCH64, emit_ir
from delphyne.compiler.back.lower import lower
from delphyne.compiler.tree import BinOp
from tests.compiler.back.trees import BOOL, BYTES, LOC, U8, U32, U64, at, binary, const, deref, field, function, load, local, program, variable

STATE = tree.EnumT("room.State", 8, (("FREE", 0), ("BUSY", 3)))
ESR = tree.BitsT("Esr", 64, (("iss", 24, 0), ("il", 25, 25), ("ec", 31, 26)))
PA = tree.ValueT("Pa", (("raw", U64),))
VM = tree.StructT(
    "delphyne.el2.room.Vm",
    (("state", STATE), ("esr", ESR), ("rows", tree.ArrayT(U32, 6)), ("at", PA), ("users", tree.AtomicT(32)), ("lock", tree.LockT())),
)


def _object(opt: int) -> ELFFile:
    body: list[tree.Stmt] = [
        tree.SetLocal(
            "total", binary(BinOp.ADD, tree.Convert(tree.ConvertKind.RELABEL, load(field(deref("vm", VM), 1)), U64, LOC), local("x"), at(12)), at(12)
        ),
        tree.SetLocal("$1", const(3), at(12)),
        tree.SetLocal("total", binary(BinOp.MUL, local("total"), local("x"), at(13)), at(13)),
        tree.Return(local("total"), at(14)),
    ]
    made = function(
        "room.Table.look",
        [("vm", tree.RefT(VM)), ("data", BYTES), ("x", U64), ("flag", BOOL), ("maybe", tree.OptionT(U8))],
        U64,
        body,
        exported=True,
        loc=at(11),
        total=U64,
        **{"$1": U64},
    )
    text = emit_ir(program(made, variable("room.THE_VM", VM)), AARCH64)
    return ELFFile(io.BytesIO(lower(text, AARCH64, opt=opt).data))


@pytest.fixture(scope="module", params=[0, 2])
def elf(request: pytest.FixtureRequest) -> ELFFile:
    return _object(request.param)


def _dies(elf: ELFFile) -> list[DIE]:
    return [die for unit in elf.get_dwarf_info().iter_CUs() for die in unit.iter_DIEs()]


def _name(die: DIE) -> str:
    return die.attributes["DW_AT_name"].value.decode() if "DW_AT_name" in die.attributes else ""


def _find(elf: ELFFile, tag: str, name: str) -> DIE:
    found = [die for die in _dies(elf) if die.tag == tag and _name(die) == name]
    assert len(found) == 1, (tag, name, [(die.tag, _name(die)) for die in _dies(elf)])
    return found[0]


def _type(die: DIE) -> DIE:
    return die.get_DIE_from_attribute("DW_AT_type")


def test_the_unit_is_python_and_holds_no_absolute_folder(elf: ELFFile) -> None:
    unit = _find(elf, "DW_TAG_compile_unit", "room.py")
    assert unit.attributes["DW_AT_language"].value == 0x14
    assert unit.attributes["DW_AT_comp_dir"].value == b"."


def test_functions_have_their_python_name_symbol_and_line(elf: ELFFile) -> None:
    die = _find(elf, "DW_TAG_subprogram", "Table.look")
    assert die.attributes["DW_AT_linkage_name"].value == b"room.Table.look"
    assert die.attributes["DW_AT_decl_line"].value == 11
    assert _name(_type(die)) == "u64"


def test_parameters_and_locals_are_there_and_made_up_ones_are_not(elf: ELFFile) -> None:
    children = list(_find(elf, "DW_TAG_subprogram", "Table.look").iter_children())
    assert [_name(die) for die in children if die.tag == "DW_TAG_formal_parameter"] == ["vm", "data", "x", "flag", "maybe"]
    assert [_name(die) for die in children if die.tag == "DW_TAG_variable"] == ["total"]
    assert all("DW_AT_location" in die.attributes for die in children if _name(die) in ("vm", "x", "total"))


def test_lines_of_the_line_table(elf: ELFFile) -> None:
    info = elf.get_dwarf_info()
    found = set()
    for unit in info.iter_CUs():
        program = info.line_program_for_CU(unit)
        assert program is not None
        found |= {entry.state.line for entry in program.get_entries() if entry.state is not None}
    assert {12, 13} <= found


def test_structures_have_their_fields_at_their_offsets(elf: ELFFile) -> None:
    die = _find(elf, "DW_TAG_structure_type", "Vm")
    assert die.attributes["DW_AT_byte_size"].value == layout.size_of(VM)
    members = [(_name(item), item.attributes["DW_AT_data_member_location"].value) for item in die.iter_children()]
    assert members == list(zip((name for name, _ in VM.fields), layout.record_of(VM).offsets, strict=True))
    rows = _type(list(die.iter_children())[2])
    assert rows.tag == "DW_TAG_array_type"
    assert [item.attributes["DW_AT_count"].value for item in rows.iter_children()] == [6]


def test_bit_fields_enums_slices_and_references(elf: ELFFile) -> None:
    bits = {_name(item): item.attributes["DW_AT_bit_size"].value for item in _find(elf, "DW_TAG_structure_type", "Esr").iter_children()}
    assert bits == {"iss": 25, "il": 1, "ec": 6}
    members = [(_name(item), item.attributes["DW_AT_const_value"].value) for item in _find(elf, "DW_TAG_enumeration_type", "State").iter_children()]
    assert members == [("FREE", 0), ("BUSY", 3)]
    parameters = {
        _name(item): _type(item) for item in _find(elf, "DW_TAG_subprogram", "Table.look").iter_children() if "DW_AT_type" in item.attributes
    }
    assert [_name(item) for item in parameters["data"].iter_children()] == ["data", "length"]
    assert parameters["vm"].tag == "DW_TAG_pointer_type"
    assert _name(_type(parameters["vm"])) == "Vm"
    assert [_name(item) for item in parameters["maybe"].iter_children()] == ["present", "item"]


def test_statics_are_variables(elf: ELFFile) -> None:
    die = _find(elf, "DW_TAG_variable", "THE_VM")
    assert _name(_type(die)) == "Vm"


def test_frames_can_be_walked(elf: ELFFile) -> None:
    entries = list(elf.get_dwarf_info().CFI_entries() or []) if elf.get_dwarf_info().has_CFI() else list(elf.get_dwarf_info().EH_CFI_entries())
    assert len(entries) > 1


@pytest.mark.parametrize(
    ("symbol", "name"), [("f", "f"), ("delphyne.el2.f", "f"), ("delphyne.el2.Vm.f", "Vm.f"), ("a._Hidden.f", "_Hidden.f"), ("a.MAX", "MAX")]
)
def test_short_names(symbol: str, name: str) -> None:
    assert short_name(symbol) == name


def test_locations_in_another_file_keep_that_file() -> None:
    other = tree.Loc("library.py", 99, 0, 99, 5)
    made = function("f", [("x", U64)], U64, [tree.Return(binary(BinOp.ADD, local("x"), const(1), other), LOC)], exported=True)
    text = emit_ir(program(made), AARCH64)
    assert 'DIFile(filename: "library.py"' in text
    assert "DILexicalBlockFile(scope: !" in text
    assert len(lower(text, AARCH64).data) > 0
