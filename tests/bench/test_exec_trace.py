# SPDX-License-Identifier: Apache-2.0
"""The reader of QEMU's log, on lines as QEMU 7.2 writes them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from delphyne.bench import trace

BEGIN, END = 0x4000_007C, 0x4000_008C
GUEST_FLAGS, HOST_FLAGS, USER_FLAGS, EL2_FLAGS = "00000221", "00000021", "00000001", "00000061"


def line(pc: int, flags: str, cpu: int = 0, own: str = "ff020201") -> str:
    return f"Trace {cpu}: 0x7f291a752900 [0000000000007001/{pc:016x}/{flags}/{own}] \n"


def assembly(pc: int, word: int) -> str:
    return f"----------------\nIN: \n0x{pc:08x}:  {word:08x}  something\n\n"


def read(*parts: str) -> trace.Reader:
    reader = trace.Reader(BEGIN, END)
    reader.read("".join(parts).splitlines(keepends=True))
    reader.finish()
    return reader


def test_levels_are_told_apart_and_only_what_is_between_the_marks_counts() -> None:
    reader = read(
        line(0xFFFF_8000_0801_0000, HOST_FLAGS),
        line(BEGIN, GUEST_FLAGS), line(0x4000_1000, GUEST_FLAGS),
        line(0xC6ED_C0EF_0558, EL2_FLAGS), line(0xC6ED_C0EF_055C, EL2_FLAGS),
        line(0xFFFF_8000_0801_0000, HOST_FLAGS, cpu=1), line(0xFFFF_8000_0801_0004, "00000041"), line(0xFFFF_8000_0801_0008, HOST_FLAGS),
        line(0xFFFF_AAAA_0000, USER_FLAGS),
        line(END, GUEST_FLAGS), line(0x4000_1000, GUEST_FLAGS),
    )
    (window,) = reader.windows
    assert window.instructions == {trace.GUEST: 1, trace.EL2: 2, trace.HOST: 3, trace.USER: 1}
    assert window.counted == 5
    assert reader.longest == 2


def test_what_qemu_gave_up_or_began_again_is_one_instruction() -> None:
    at = 0xFFFF_8000_0801_0000
    (window,) = read(
        line(BEGIN, GUEST_FLAGS),
        line(at, HOST_FLAGS), f"Stopped execution of TB chain before 0x7f291a7dd200 [{at:x}] \n", line(at, HOST_FLAGS),
        line(at + 4, HOST_FLAGS), line(at + 4, HOST_FLAGS, own="ff038201"),
        line(at + 8, HOST_FLAGS), line(at + 8, HOST_FLAGS, cpu=1, own="ff038201"),
        line(END, GUEST_FLAGS),
    ).windows
    assert window.instructions[trace.HOST] == 4


def test_a_stay_at_el2_is_of_one_cpu() -> None:
    entry, kernel = 0x7FBF_0000, 0xFFFF_8000_0801_0000
    reader = read(
        *(line(entry + 4 * n, EL2_FLAGS) for n in range(3)), line(entry, EL2_FLAGS, cpu=1), line(entry + 12, EL2_FLAGS), line(kernel, HOST_FLAGS),
        line(entry, EL2_FLAGS), line(entry, EL2_FLAGS, cpu=1),
    )
    assert reader.longest == 4


def test_broadcasts_and_cache_operations_are_known_by_what_runs_at_an_address() -> None:
    at = 0xFFFF_8000_0801_0000
    vaale1is, dc_civac, nop = 0xD508_8361, 0xD50B_7E20, 0xD503_201F
    first, second = read(
        assembly(at, vaale1is), assembly(at + 4, dc_civac), assembly(at + 8, nop),
        line(BEGIN, GUEST_FLAGS), line(at, HOST_FLAGS), line(at + 4, HOST_FLAGS), line(at + 4, HOST_FLAGS), line(at + 8, HOST_FLAGS),
        line(END, GUEST_FLAGS),
        assembly(at, nop),
        line(BEGIN, GUEST_FLAGS), line(at, HOST_FLAGS), line(END, GUEST_FLAGS),
    ).windows
    assert (first.broadcasts, first.cache) == (1, 2)
    assert (second.broadcasts, second.cache) == (0, 0)


@pytest.mark.parametrize("text", ["Trace 0: 0x7f 12 [1/2]\n", line(0x1000, "000000f1")])
def test_a_log_that_is_not_understood_is_an_error(text: str) -> None:
    with pytest.raises(trace.TraceError, match="QEMU's log has"):
        read(text)


def test_the_middle_leaves_a_tick_out() -> None:
    made = [trace.Window({trace.USER: 0, trace.GUEST: 1, trace.HOST: host, trace.EL2: 10}, 1, 2, 5) for host in (100, 100, 9000, 101, 100)]
    assert trace.middle(made).counted == 110


BROADCAST = (
    "vmalle1is", "vae1is, x0", "vaale1is, x0", "ipas2e1is, x0", "ipas2le1is, x0", "vmalls12e1is", "alle1is", "alle2is", "vae2is, x0", "vale2is, x0",
    "vmalle1os", "ipas2e1os, x0", "alle1os", "rvae1is, x0", "ripas2e1is, x0", "ripas2e1os, x0", "rvae2is, x0", "rvae1os, x0", "vae1os, x0",
)
LOCAL = (
    "vmalle1", "vae1, x0", "ipas2e1, x0", "ipas2le1, x0", "vmalls12e1", "alle1", "alle2", "vae2, x0", "rvae1, x0", "ripas2e1, x0", "ripas2le1, x0",
)
CACHE = (
    "dc civac, x0", "dc cvac, x0", "dc cvau, x0", "dc ivac, x0", "dc isw, x0", "dc csw, x0", "dc cisw, x0", "ic iallu", "ic ialluis", "ic ivau, x0",
    "dc cvap, x0",
)
OTHER = ("dc zva, x0", "at s1e1r, x0", "at s12e1w, x0", "nop", "dsb ish", "msr vttbr_el2, x0", "msr hcr_el2, x0", "isb")


def words(source: list[str], folder: Path) -> list[int]:
    (folder / "words.S").write_text("\n".join([".arch armv8.5-a", *source]) + "\n")
    for command in (["as", "-o", "words.o", "words.S"], ["objcopy", "-O", "binary", "-j", ".text", "words.o", "words.bin"]):
        subprocess.run([f"aarch64-linux-gnu-{command[0]}", *command[1:]], cwd=folder, check=True)
    data = (folder / "words.bin").read_bytes()
    return [int.from_bytes(data[at : at + 4], "little") for at in range(0, len(data), 4)]


def test_instructions_are_recognised_as_the_assembler_writes_them(tmp_path: Path) -> None:
    source = [*(f"tlbi {name}" for name in (*BROADCAST, *LOCAL)), *CACHE, *OTHER]
    made = dict(zip(source, words(source, tmp_path), strict=True))
    assert {text for text, word in made.items() if trace.is_broadcast(word)} == {f"tlbi {name}" for name in BROADCAST}
    assert {text for text, word in made.items() if trace.is_cache_operation(word)} == set(CACHE)
