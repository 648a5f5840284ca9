# SPDX-License-Identifier: Apache-2.0
"""The layout reader compiled for this machine and the same file in CPython say the same of sound and of damaged kernels."""

from __future__ import annotations

import ctypes
import random

import pytest
from test_kernel_layout import a_kernel

from delphyne.board import debian
from delphyne.compiler import tree
from delphyne.compiler.back.native import Buffer, NativeModule, load
from delphyne.compiler.front import compile_modules
from delphyne.el2.kvm.layout import Layout
from delphyne.kernel import profile

BEGIN, READ = "delphyne.el2.kvm.layout.begin", "delphyne.el2.kvm.layout.read"
Outcome = tuple[int | None, list[object]]


@pytest.fixture(scope="module")
def native() -> NativeModule:
    return load(compile_modules(["delphyne.el2.kvm.layout"]))


def compiled(native: NativeModule, data: bytes, room: int) -> Outcome:
    reading, layout = (kind.target for _, kind in (native.program.functions[READ].params[i] for i in (0, 2)) if isinstance(kind, tree.RefT))
    image, checkpoints = Buffer(tree.ArrayT(tree.IntT(8), len(data))), Buffer(tree.ArrayT(tree.IntT(32), room))
    state, made = Buffer(reading), Buffer(layout)
    ctypes.memmove(image.address, data, len(data))
    native.call(BEGIN, state, ((image.address,), len(data)))
    verdict, error = native.call(READ, state, checkpoints, made)  # type: ignore[misc]
    contents = made.get()
    assert isinstance(contents, list)
    return (None if verdict == "ok" else error), contents


def interpreted(data: bytes, room: int) -> Outcome:
    made = Layout()
    error = profile.read(data, made, room)
    tables = [[int(x) for x in (table[i] for i in range(len(table)))] for table in (made.offsets, made.sizes)]
    calls = bytes(made.calls)
    registers = [int(made.registers[i]) for i in range(len(made.registers))]
    return (None if error is None else error.value), [*tables, calls, int(made.known_calls), registers]


def same(one: Outcome, other: Outcome) -> bool:
    plain = [[list(part) if isinstance(part, bytes | list) else part for part in contents] for _, contents in (one, other)]
    return one[0] == other[0] and plain[0] == plain[1]


def test_compiled_and_interpreted_agree_on_damaged_kernels(native: NativeModule) -> None:
    whole = a_kernel()
    assert same(compiled(native, whole, 64), interpreted(whole, 64))
    source = random.Random(1)
    seen = set()
    for _ in range(200):
        data = bytearray(whole)
        for _ in range(source.randint(1, 8)):
            data[source.randrange(256, len(data))] = source.choice([0, 1, 4, 5, 0x7F, 0x80, 0xFF, source.randrange(256)])
        damaged = bytes(data[: source.choice([len(data), len(data), source.randrange(len(data))])])
        one, other = compiled(native, damaged, 64), interpreted(damaged, 64)
        assert same(one, other)
        seen.add(one[0])
    assert len(seen) > 2, "the damage always ends in the same way"


@pytest.mark.slow
@pytest.mark.parametrize("line", ["6.1", "6.12"])
def test_compiled_and_interpreted_agree_on_a_real_kernel(native: NativeModule, line: str) -> None:
    data = debian.kernel(line).read_bytes()
    assert same(compiled(native, data, 16384), interpreted(data, 16384))
