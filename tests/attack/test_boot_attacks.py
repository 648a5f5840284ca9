# SPDX-License-Identifier: Apache-2.0
"""What a host kernel can try against EL2 while no guest is there: catalogue lines H1 to H4, H7 and H35.

Three boots, each with several attacks. After each of them the host has come to its end, EL2's memory is what it was and KVM is there. That the
attacks work at all is shown on memory of the host's own.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hostile_host import PAGE, Layout, attack, by_page

from delphyne.compiler.back.image import Built

pytestmark = pytest.mark.system

ABORT = 0x9600_0010
"""ESR_EL1 of a data abort of EL1: synchronous external abort."""
UNDEFINED = 0x0200_0000
EXEC_AT = 0x1000_1100
"""Where the module's map has the instruction that it tries to execute."""


def _all_of(places: range) -> str:
    return f"{places.start:x} {len(places) // PAGE:x}"


def test_every_page_of_el2_is_read_written_and_executed(built: Built, places: Layout, tmp_path: Path) -> None:
    """H4, by the host's kernel and by its root: a fault each, a line of EL2's each, nothing else."""
    ways = "".join(f"try {way} {_all_of(part)}\n" for way in ("load", "store", "exec") for part in (places.image, places.tables))
    first, last = places.image.start, places.tables.stop - PAGE
    more = ("pair", "exclusive", "zero", "span", "walk", "root", "probe")
    ways += "".join(f"try {way} {page:x} 1\n" for way in more for page in (first, last))
    root = f"for page in {first:#x} {last:#x}; do devmem $page; devmem $page 32 1; echo devmem $?; done\n"
    own = "try own\ntry registers\n"
    seen = attack(built, places, tmp_path, "6.1", "cortex-a57", 2, own + ways + root)
    console = seen.console

    for way in ("load", "store", "exec"):
        counts = [line.split(": ")[1] for line in seen.lines(f"{way} ")]
        assert counts == [f"aborts {len(part) // PAGE} other 0 done 0 esr 0" for part in (places.image, places.tables)], console
    for way in more:
        assert [line.split(": ")[1] for line in seen.lines(f"{way} ")] == ["aborts 1 other 0 done 0 esr 0"] * 2, console
    assert console.count("Bus error") == 4, console
    executed = {touch.page for touch in seen.touches if touch.pc == EXEC_AT}
    assert executed == set(places.pages), console
    reads, writes = by_page(seen.touches, write=False), by_page(seen.touches, write=True)
    inner = set(places.pages) - {first, last}
    assert {page: reads[page] for page in inner} == dict.fromkeys(inner, 2), console
    assert {page: writes[page] for page in inner} == dict.fromkeys(inner, 1), console
    assert set(reads) | set(writes) == set(places.pages), console

    own_lines = dict(line.removeprefix("own ").split(": ") for line in seen.lines("own "))
    assert own_lines.pop("store") == "esr 0 written", console
    assert own_lines.pop("exclusive") == "esr 0 written", console
    assert [own_lines.pop(way) for way in ("walk", "root")] == ["esr 96000007 unwritten", "esr 96000004 unwritten"], console
    assert set(own_lines) == {"load", "exec", "pair", "zero", "span", "probe"}, console
    assert set(own_lines.values()) == {"esr 0 unwritten"}, console
    registers = seen.lines("register: ")
    assert len(registers) == 7, console
    assert all(line.endswith(f"esr {UNDEFINED:x}") for line in registers), console


PASSED_ON = {
    0x8400_0000, 0x8400_0004, 0xC400_0004, 0x8400_0006, 0x8400_000A, 0x8400_000F, 0x8400_0050, 0x8400_0051, 0x8400_0052, 0x8400_0053, 0xC400_0053,
    0x8000_0000, 0x8000_0001, 0x8000_0002, 0x8000_3FFF, 0x8000_7FFF, 0x8000_8000,
}
"""What the firmware may answer with anything but an error: EL2's list without what turns something off."""
STUB_CALLS = {0, 2}
KVM_CALLS = set(range(0xC600_0000, 0xC600_0020))


def test_calls_of_any_number_from_every_cpu_at_once(built: Built, places: Layout, tmp_path: Path) -> None:
    """H2 and H35: thousands of firmware and host calls that mean nothing, __kvm_hyp_init with lies, and stage 2 holds as before."""
    first = places.image.start
    storms = "".join(f"try storm {kind} {seed:x} {count:x}\n" for seed in (1, 2) for kind, count in (("smc", 2000), ("hvc", 1000)))
    init = f"try init {first:x}\n"
    after = f"try all-load {first:x} 10\ntry store {places.tables.start:x} 4\n"
    seen = attack(built, places, tmp_path, "6.12", "neoverse-n1", 4, storms + init + after + "try hvc c6000001\n" + "cpu=/sys/devices/system/cpu\n"
                  "echo 0 > $cpu/cpu3/online; echo 1 > $cpu/cpu3/online && echo initialised again\n")
    console = seen.console
    pattern = r"hostile: storm (smc|hvc) cpu \d: made (\d+) unsupported (\d+) stub-errors (\d+) invalid (\d+) raised (\d+) answered (\d+)"
    storm = re.findall(pattern, console)
    assert len(storm) == 4 * 4, console
    for kind, *numbers in storm:
        made, unsupported, stub_errors, invalid, raised, rest = map(int, numbers)
        assert made == (2000 if kind == "smc" else 1000), console
        assert raised == 0, console
        assert unsupported + stub_errors + invalid + rest == made, console
        assert (stub_errors == 0) is (kind == "smc"), console
        assert rest < made // 20, console
    answered = {(kind, int(number, 16)) for kind, number in re.findall(r"hostile: answered (smc|hvc) ([0-9a-f]+) ->", console)}
    assert {number for kind, number in answered if kind == "smc"} <= PASSED_ON, console
    assert {number for kind, number in answered if kind == "hvc"} <= STUB_CALLS | KVM_CALLS, console
    assert seen.lines("init ") == [f"init {i}: 0" for _ in range(2) for i in range(7)], console
    assert [line.split(": ")[1] for line in seen.lines("all-load cpu")] == ["aborts 16 other 0 done 0"] * 4, console
    assert seen.lines("store ")[0].endswith("aborts 4 other 0 done 0 esr 0"), console
    assert "initialised again" in console, console


def test_a_cpu_started_by_the_host_itself_is_under_el2(built: Built, places: Layout, tmp_path: Path) -> None:
    """H1 and H3: own entry points for CPU_ON and for both suspends, entries in EL2's memory and outside RAM, CPU 0 off and on again."""
    first = places.image.start
    script = f"""
cpu=/sys/devices/system/cpu
echo 0 > $cpu/cpu1/online
try start 1 {first:x}
try start 1 {places.tables.start:x}
echo 1 > $cpu/cpu1/online && echo cpu 1 is back
try suspend {first:x}
echo 0 > $cpu/cpu0/online && echo cpu 0 is off
try load {first:x} 1
echo 1 > $cpu/cpu0/online && echo cpu 0 is back
taskset 1 sh -c 'echo load {first:x} 1 > /dev/hostile'
for n in 2 3; do echo 0 > $cpu/cpu$n/online; done
try lose 2 {first:x}
try lose 3 {1 << 47:x}
try smc c4000003 0 {first:x}
try smc c4000003 5 {first:x}
nproc
"""
    seen = attack(built, places, tmp_path, "6.1", "cortex-a72", 4, script, gic=2)
    console = seen.console
    expected = f"answer 0 finished 1 level 1 mmu 0 mpidr 1 load {ABORT:x} hcr {UNDEFINED:x}"
    assert seen.lines("start ") == [f"start 1: {expected}"] * 2, console
    for step in ("cpu 1 is back", "cpu 0 is off", "cpu 0 is back"):
        assert step in console, console
    assert seen.lines("suspend ") == [
        "suspend c4000001: answer 0 resumed-at-ours 0 level 1", "suspend c400000e: answer ffffffffffffffff resumed-at-ours 0 level 1",
    ], console
    assert [line.split(": ")[1] for line in seen.lines("load ")] == ["aborts 1 other 0 done 0 esr 0"] * 2, console
    answers = [line.split()[3] for line in seen.lines("smc c4000003")]
    assert answers == ["0", "0", f"{2**64 - 4:x}", f"{2**64 - 2:x}"], console
    assert first in by_page([touch for touch in seen.touches if touch.pc == first], write=False), console
    assert "\n2\n" in console, console
