# SPDX-License-Identifier: Apache-2.0
"""The choice of instructions, from the processor's identification register, and that both give the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest
from bytes_of_the_language import array, piece

from delphyne.el2.sealing import aes256, engine
from delphyne.lang import Array, SimdArea, u8, u64
from delphyne.lang.machine import Machine


@pytest.fixture
def chosen(request: pytest.FixtureRequest) -> Iterator[tuple[bool, bool]]:
    register, expected = request.param
    with Machine(registers={"ID_AA64ISAR0_EL1": register, "ID_AA64PFR0_EL1": 0}):
        engine.choose()
        yield expected
    engine.CHOICE.copy_from(engine.Choice())


PROCESSORS = pytest.mark.parametrize(
    "chosen",
    [(0, (False, False)), (1 << 12, (True, False)), (2 << 4, (False, True)), (2 << 12 | 2 << 4, (True, True)), (0xF << 8, (False, False))],
    indirect=True,
    ids=["neither", "SHA2", "AES", "both", "SHA1 alone"],
)


@PROCESSORS
def test_the_register_decides(chosen: tuple[bool, bool]) -> None:
    assert (engine.CHOICE.sha256, engine.CHOICE.aes256) == chosen


@PROCESSORS
def test_results_do_not_depend_on_the_choice(chosen: tuple[bool, bool]) -> None:
    area, out, key, data = SimdArea(), Array[u8, 32](), aes256.Key(), array(bytes(40))
    engine.digest(area, piece(b"page"), out[:])
    assert bytes(out) == hashlib.sha256(b"page").digest()
    engine.expand(key, piece(bytes(range(32))))
    engine.crypt(area, key, aes256.Counter(u64(0x0011223344556677), u64(0x8899AABBCCDDEEFF)), data[:])
    assert bytes(data)[:16].hex() == "8ea2b7ca516745bfeafc49904b496089"
    assert area.depth == 0


@pytest.mark.parametrize("before", [0, 1 << 24])
def test_secrets_are_worked_on_with_independent_timing_where_it_exists(before: int, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    with Machine(registers={"ID_AA64ISAR0_EL1": 0, "ID_AA64PFR0_EL1": 1 << 48, "DIT": before}) as machine:
        for name in ("expand", "apply"):
            monkeypatch.setattr(aes256, name, lambda *_: seen.append(machine.read_register("DIT")))
        engine.choose()
        engine.expand(aes256.Key(), piece(bytes(32)))
        engine.crypt(SimdArea(), aes256.Key(), aes256.Counter(u64(0), u64(0)), piece(bytes(16)))
        assert machine.read_register("DIT") == before
    engine.CHOICE.copy_from(engine.Choice())
    assert seen == [1 << 24, 1 << 24]


def test_a_processor_without_it_has_no_such_register() -> None:
    with Machine(registers={"ID_AA64ISAR0_EL1": 0, "ID_AA64PFR0_EL1": 0}) as machine:
        engine.choose()
        engine.crypt(SimdArea(), aes256.Key(), aes256.Counter(u64(0), u64(0)), piece(bytes(16)))
        assert "DIT" not in machine.cpu.registers
