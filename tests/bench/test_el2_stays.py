# SPDX-License-Identifier: Apache-2.0
"""The reader of EL2's log of blocks, on lines as QEMU 7.2 writes them."""

from __future__ import annotations

import pytest

from delphyne.bench import stays
from delphyne.bench.trace import TraceError

VECTOR, BODY, TAIL = 0x4021_A400, 0x4021_3678, 0x4021_3700


def block(pc: int, size: int) -> str:
    return "----------------\nIN: \n" + "".join(f"0x{pc + 4 * n:08x}:  d503201f  nop\n" for n in range(size)) + "\n"


def run(pc: int, pointer: int, cpu: int = 0) -> str:
    return f"Trace {cpu}: {pointer:#x} [0000000000000000/{pc:016x}/00000061/ff022200] \n"


def read(*parts: str) -> stays.Reader:
    reader = stays.Reader([VECTOR])
    reader.read("".join(parts).splitlines(keepends=True))
    reader.finish()
    return reader


def test_a_stay_lasts_from_vector_to_vector_on_one_cpu() -> None:
    reader = read(
        block(BODY, 5), run(BODY, 0x7F02), block(VECTOR, 4), run(VECTOR, 0x7F01), run(BODY, 0x7F02), run(VECTOR, 0x7F01, cpu=1), run(BODY, 0x7F02),
        run(VECTOR, 0x7F01), run(BODY, 0x7F02, cpu=1),
    )
    assert (reader.count, reader.total) == (3, 4 + 5 + 5 + 4 + 5 + 4)
    assert reader.longest.length == 14
    assert reader.longest.cpu == "0"
    assert reader.longest.blocks == {(VECTOR, 4): 1, (BODY, 5): 2}


def test_a_block_that_was_stopped_did_not_run() -> None:
    reader = read(
        block(VECTOR, 4), run(VECTOR, 0x7F01), block(BODY, 5), run(BODY, 0x7F02), f"Stopped execution of TB chain before 0x7f02 [{BODY:x}] \n",
        run(BODY, 0x7F02),
    )
    assert reader.longest.length == 9


def test_blocks_of_one_address_are_told_apart_by_their_pointers() -> None:
    reader = read(block(VECTOR, 1), run(VECTOR, 1), block(BODY, 5), run(BODY, 2), block(BODY, 2), run(BODY, 3), run(BODY, 2), run(BODY, 3))
    assert reader.longest.length == 1 + 5 + 2 + 5 + 2


def test_a_block_that_nobody_showed_is_an_error() -> None:
    with pytest.raises(TraceError, match=r"runs a block at 0x40213700"):
        read(block(VECTOR, 1), run(VECTOR, 1), run(TAIL, 9))
