# SPDX-License-Identifier: Apache-2.0
"""What a hostile host can try by KVM's calls, and a hostile guest by its instructions and tables: catalogue lines H5, H6, H10 to H13, H16, H28, H33
to H35, G2, G5 and G6, as far as ordinary VMs are concerned.

Each boot tries many attacks. After each attack a guest as it should be has run; after each boot EL2 had not stopped, no kernel has complained, and
all that EL2 keeps about guests agrees (el2_memory.py): no pin, no table and no leaf is left over, and none leads to memory of EL2's.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hostile_host import PAGE, Layout
from hostile_kvm import NOTHING, Seen, attack, beside_guest, has_passed, measured, target

from delphyne.bench import stays
from delphyne.board.guest import build as guest_build
from delphyne.compiler.back.image import Built

pytestmark = pytest.mark.system

KINDS = (
    "hcr", "mdcr", "hcrx", "vmid", "root", "geometry", "arch", "mmu", "lists", "interface", "scalable", "debug", "flags", "program", "registers",
    "counters", "tables", "general",
)
ROUTES = ("page", "fetch", "block", "giant", "last-table", "middle-table", "root")
CLASSES = {
    0x01: "WFI or WFE", 0x03: "MCR and MRC", 0x07: "SIMD", 0x09: "pointer authentication", 0x0D: "branch target", 0x12: "HVC of AArch32",
    0x13: "SMC of AArch32", 0x16: "HVC", 0x17: "SMC", 0x18: "MSR and MRS", 0x19: "SVE", 0x1A: "ERET", 0x1D: "SME", 0x20: "instruction abort",
    0x24: "data abort", 0x30: "breakpoint", 0x32: "software step", 0x34: "watchpoint", 0x38: "BKPT", 0x3C: "BRK",
}
"""Exception classes that a guest's code and memory may show the host; each is one that KVM answers or injects as undefined. The last five come where
the host asks for them by MDCR_EL2.TDE."""
SHARED = ("storm", "together")
"""Attacks in which one CPU may read an exit of a vCPU that another one has cleared by then: it sees class 0, which no guest's exit has."""


def classes(seen: dict[str, int]) -> set[int]:
    return {number for number in range(64) if seen["classes"] >> number & 1}


def all_went_well(seen: Seen) -> None:
    """Every run that was accepted ended in one of the ways that there are, and in no exception class that is not listed."""
    for outcome in seen.outcomes:
        numbers = outcome.numbers
        if "traps" in numbers:
            allowed = set(CLASSES) | ({0} if outcome.what in SHARED else set())
            assert classes(numbers) <= allowed, f"{outcome.what}: {numbers}\n{seen.console}"
            assert numbers["serrors"] == 0, f"{outcome.what}: {numbers}\n{seen.console}"


SINGLE = f"try calls {NOTHING:x}\ntry controls\ntry code 1 200\ntry walks {NOTHING:x}\ntry far\ntry pools\ntry together 800\n"


@pytest.mark.parametrize(("kernel", "cpu"), [("6.1", "cortex-a57"), ("6.12", "max")])
def test_each_call_and_each_control_is_wrong_once(built: Built, places: Layout, tmp_path: Path, kernel: str, cpu: str) -> None:
    """H5, H6, H10, H12, H13, H16, H28, H35, G2, G5, G6: and when all VMs have ended, nothing of them is left."""
    seen = attack(built, tmp_path, kernel, cpu, 2, target(places) + SINGLE + "try end\n")
    assert seen.of("calls") == {"made": 140, "served": 0}, seen.console
    for kind in KINDS:
        tally = seen.of(f"controls {kind}")
        assert tally["made"] == 48, seen.console
        assert tally["refused"] < 48 or kind == "arch", f"{kind}: nothing was tried\n{seen.console}"
    assert seen.of("controls program")["illegal"] > 0, seen.console
    assert seen.of("controls root")["refused"] > 0, seen.console
    assert seen.of("code")["made"] == 0x200, seen.console
    assert seen.of("code")["refused"] == 0, seen.console
    assert {0x16, 0x17} <= classes(seen.of("code")), seen.console
    walks = seen.of("walks")
    assert walks["refused"] == 0, seen.console
    assert walks["beyond"] == {"cortex-a57": 4, "max": 12}[cpu], seen.console
    for what, made in (("far", 1024), ("pools", 1280)):
        assert (seen.of(what)["made"], seen.of(what)["ended"]) == (made, made), seen.console
    assert seen.of("together")["refused"] > 0, f"no two CPUs wanted the vCPU at one time\n{seen.console}"
    all_went_well(seen)
    assert (seen.left.vms, seen.left.vcpus, seen.left.pins, seen.left.tables) == (0, 0, 0, 0), seen.left


def test_no_guest_reaches_a_page_of_el2(built: Built, places: Layout, tmp_path: Path) -> None:
    """H11 and H33, and stage 2 itself: by page, block and table, read, written and executed."""
    parts = (places.image, places.tables)
    script = "".join(f"try target {part.start:x} {len(part) // PAGE:x}\ntry reach\n" for part in parts)
    seen = attack(built, tmp_path, "6.1", "neoverse-n1", 2, script)
    for route in ROUTES:
        found = [outcome.numbers for outcome in seen.outcomes if outcome.what == f"reach {route}"]
        assert [numbers["reached"] for numbers in found] == [0, 0], seen.console
        assert all(numbers["tried"] > 8 for numbers in found), seen.console
    whole = [outcome.numbers["tried"] for outcome in seen.outcomes if outcome.what == "reach page"]
    assert whole == [len(part) // PAGE for part in parts], seen.console


@pytest.mark.parametrize(("kernel", "cpu", "seed"), [("6.1", "cortex-a57", 1), ("6.12", "max", 2)])
def test_a_storm_beside_a_guest(
    built: Built, places: Layout, guest: guest_build.Guest, tmp_path: Path, kernel: str, cpu: str, seed: int
) -> None:
    """H10, H12, H13, H16, G6: 10,000 pseudo-random operations on two CPUs, while KVM runs a guest that causes every kind of exit."""
    storm = f"try storm {seed:x} {10_000:x}\n"
    beside = beside_guest(guest, target(places) + storm)
    seen = attack(built, tmp_path, kernel, cpu, 2, beside.script, files=beside.files, timeout=180.0)
    assert seen.of("storm")["made"] >= 10_000, seen.console
    assert has_passed(seen.console, beside), seen.console
    all_went_well(seen)


POOLS = "try far\ntry pools\ntry end\n"


@pytest.mark.parametrize(
    ("kernel", "attacks"),
    [("6.12", "try far\n"), *(pytest.param(kernel, POOLS, marks=pytest.mark.slow, id=f"{kernel}-pools") for kernel in ("6.1", "6.12"))],
)
def test_no_stay_at_el2_is_long(built: Built, places: Layout, kernel: str, attacks: str) -> None:
    """G6 and H16: a guest takes all tables and a host flushes all that it has; more VMs and vCPUs begin than have room, and all end at once."""
    reader = measured(built, kernel, "cortex-a57", target(places) + attacks)
    spent = list(stays.by_function(built.elf, reader.longest).items())[:8]
    assert reader.count > 1000, f"only {reader.count} stays were seen"
    assert reader.longest.length <= stays.LIMIT, f"{reader.longest.length} instructions: {spent}"


@pytest.mark.slow
@pytest.mark.parametrize(("kernel", "cpu"), [("6.1", "cortex-a57"), ("6.1", "neoverse-n1"), ("6.12", "cortex-a57"), ("6.12", "max")])
@pytest.mark.parametrize("seed", range(10, 15))
def test_many_storms(built: Built, places: Layout, tmp_path: Path, kernel: str, cpu: str, seed: int) -> None:
    """A million operations in all."""
    seen = attack(built, tmp_path, kernel, cpu, 2, f"{target(places)}try storm {seed:x} {50_000:x}\n", timeout=900.0)
    assert seen.of("storm")["made"] >= 50_000, seen.console
    all_went_well(seen)
