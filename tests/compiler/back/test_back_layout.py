# SPDX-License-Identifier: Apache-2.0
"""Sizes and offsets, against LLVM's own and against C as ctypes lays it out."""

from __future__ import annotations

import ctypes

import llvmlite.binding as llvm
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delphyne.compiler import tree
from delphyne.compiler.back import layout
from delphyne.compiler.back.body import memory_type
from delphyne.compiler.back.ir import AARCH64, NATIVE, Target
from tests.compiler.back.trees import BOOL, U8, U16, U32, U64

SCALARS = st.sampled_from([U8, U16, U32, U64, BOOL, tree.EnumT("E", 16, (("A", 0),)), tree.BitsT("B", 32, ())])


def _records(items: st.SearchStrategy[tree.Type]) -> st.SearchStrategy[tree.Type]:
    lists = st.lists(items, min_size=1, max_size=4)
    error = tree.EnumT("Err", 8, (("BAD", 1),))
    return st.one_of(
        lists.map(lambda parts: tree.ValueT("V", tuple((f"f{index}", part) for index, part in enumerate(parts)))),
        lists.map(lambda parts: tree.TupleT(tuple(parts))),
        items.map(tree.OptionT),
        items.map(lambda item: tree.ResultT(item, error)),
        items.map(lambda item: tree.SliceT(item, True)),
    )


TYPES = st.recursive(SCALARS, _records, max_leaves=8)


@pytest.mark.parametrize("target", [AARCH64, NATIVE], ids=lambda target: target.name)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_llvm_lays_values_out_alike(target: Target, data: st.DataObject) -> None:
    ty = data.draw(TYPES)
    module = llvm.parse_assembly(f'target datalayout = "{target.data_layout}"\n@x = global {memory_type(ty)} zeroinitializer')
    kind, rules = module.get_global_variable("x").global_value_type, llvm.create_target_data(target.data_layout)
    assert rules.get_abi_size(kind) == layout.size_of(ty)
    assert rules.get_abi_alignment(kind) == layout.align_of(ty)
    if memory_type(ty).startswith("{"):
        record = layout.record_of(ty)
        assert [rules.get_element_offset(kind, index) for index in range(len(record.types))] == list(record.offsets)


def _c_type(ty: tree.Type) -> type:
    match ty:
        case tree.IntT():
            return {8: ctypes.c_uint8, 16: ctypes.c_uint16, 32: ctypes.c_uint32, 64: ctypes.c_uint64}[ty.bits]
        case tree.BoolT():
            return ctypes.c_bool
        case tree.ArrayT():
            return _c_type(ty.item) * ty.length
    assert isinstance(ty, tree.StructT)
    return type("S", (ctypes.Structure,), {"_fields_": [(name, _c_type(item)) for name, item in ty.fields]})


PLACES = st.recursive(
    st.sampled_from([U8, U16, U32, U64, BOOL]),
    lambda items: st.one_of(
        st.lists(items, min_size=1, max_size=5).map(lambda parts: tree.StructT("S", tuple((f"f{index}", part) for index, part in enumerate(parts)))),
        st.builds(tree.ArrayT, items, st.integers(1, 5)),
    ),
    max_leaves=10,
)


@given(ty=PLACES)
@settings(max_examples=150, deadline=None)
def test_c_lays_structures_out_alike(ty: tree.Type) -> None:
    kind = _c_type(ty)
    assert ctypes.sizeof(kind) == layout.size_of(ty)
    assert ctypes.alignment(kind) == layout.align_of(ty)
    if isinstance(ty, tree.StructT):
        assert [getattr(kind, name).offset for name, _ in ty.fields] == list(layout.record_of(ty).offsets)


def test_an_aligned_structure_is_a_multiple_of_its_alignment() -> None:
    page = tree.StructT("Page", (("x", U8),), align=4096)
    assert (layout.size_of(page), layout.align_of(page)) == (4096, 4096)
    outer = tree.StructT("Outer", (("a", U8), ("page", page), ("b", U8)))
    assert layout.record_of(outer).offsets == (0, 4096, 8192)
    assert layout.size_of(outer) == 12288


def test_structures_of_one_name_may_differ() -> None:
    first, second = tree.StructT("S", (("a", U8),)), tree.StructT("S", (("a", U64),))
    assert (layout.size_of(first), layout.size_of(second)) == (1, 8)


def test_offsets_for_the_assembly_file_name_nested_fields_and_sizes() -> None:
    inner = tree.StructT("Inner", (("x", U64), ("y", U32)))
    outer = tree.StructT("Cpu", (("a", U8), ("inner", inner), ("row", tree.ArrayT(U32, 3))), exported="CPU")
    assert layout.offsets_inc(tree.Program({}, {}, [], [outer])) == "".join(
        f".equ {line}\n" for line in ["CPU_a, 0x0", "CPU_inner, 0x8", "CPU_inner_x, 0x8", "CPU_inner_y, 0x10", "CPU_row, 0x18", "CPU_SIZEOF, 0x28"]
    )
