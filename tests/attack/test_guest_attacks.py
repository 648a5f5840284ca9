# SPDX-License-Identifier: Apache-2.0
"""What a hostile host can try by KVM's calls, and a hostile guest by its instructions and tables: catalogue lines H5, H6, H10 to H13, H16, H28, H33
to H35, G2, G5 and G6, as far as ordinary VMs are concerned.

Each boot tries many attacks. After each attack a guest as it should be has run; after each boot EL2 had not stopped, no kernel has complained, and
all that EL2 keeps about guests agrees (el2_memory.py): no pin, no table and no leaf is left over, and none leads to memory of EL2's.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import hostile_kvm
import pytest
from hostile_host import PAGE, Layout
from hostile_kvm import NOTHING, Seen, attack, beside_guest, has_passed, measured, measured_both_ways, measured_inside, target

from delphyne.bench import kvm, stays, stays_inside
from delphyne.board import bare_guest, host_python, soak
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
SHARED = {"storm": {0}, "together": {0}, "freed": {0, 0x3F}}
"""Attacks in which one CPU may read an exit of a vCPU that another one has cleared by then, or filled: classes that no guest's exit has."""


def classes(seen: dict[str, int]) -> set[int]:
    return {number for number in range(64) if seen["classes"] >> number & 1}


def all_went_well(seen: Seen) -> None:
    """Every run that was accepted ended in one of the ways that there are, and in no exception class that is not listed."""
    for outcome in seen.outcomes:
        numbers = outcome.numbers
        if "traps" in numbers:
            allowed = set(CLASSES) | SHARED.get(outcome.what, set())
            assert classes(numbers) <= allowed, f"{outcome.what}: {numbers}\n{seen.console}"
            assert numbers["serrors"] == 0, f"{outcome.what}: {numbers}\n{seen.console}"


ENDS = {"pauth-pacia", "bti", "wfe", "wfi"}
"""Of the instructions that hostile_kvm lists, those that do no harm; what the host sees of others, and its exception class. All others are undefined
to a guest of the processor `max`."""
SEEN = {
    **dict.fromkeys(("smc-0", "smc-1", "smc-ffff"), 0x17), **dict.fromkeys(("hvc-0", "hvc-2", "hvc-ffff"), 0x16), "eret": 0x20,
    **dict.fromkeys(("pauth-key", "dc-isw", "dc-cisw", "actlr", "pmcr", "ras"), 0x18),
}
LISTED, EACH = 45, 10
"""How many instructions that is, and how often each: with other numbers in x0."""


def test_each_instruction_that_no_guest_has(built: Built, places: Layout, tmp_path: Path) -> None:
    """G2: calls of any number and immediate, extensions that a guest has not, other levels' registers: the host hears of it, or it is undefined."""
    seen = attack(built, tmp_path, "6.12", "max", 2, f"{target(places)}try listed\n")
    found = {outcome.what.removeprefix("listed "): outcome.numbers for outcome in seen.outcomes}
    assert len(found) == LISTED, seen.console
    for name, numbers in found.items():
        kind = "ended" if name in ENDS else "traps" if name in SEEN else "caught"
        assert (numbers["made"], numbers[kind]) == (EACH, EACH), f"{name}: {numbers}"
        assert classes(numbers) == ({SEEN[name]} if name in SEEN else set()), f"{name}: {numbers}"


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


FLIPS = (
    "lists", "hcr", "mdcr", "strange-mmu", "other-mmu", "arch", "root", "vmid", "vtcr", "pstate", "debug", "vectors", "vector-bytes", "sre",
    "gic-hcr", "leaf", "table", "map",
)
REFUSED_AT_TIMES = ("strange-mmu", "map")
"""Words of which one value is refused by each look at it."""


@pytest.mark.parametrize(("kernel", "cpu"), [("6.1", "cortex-a57"), ("6.12", "max")])
def test_each_word_changes_while_it_is_read(built: Built, places: Layout, tmp_path: Path, kernel: str, cpu: str) -> None:
    """H5, H6, H28: of the vCPU, its VM, the tables and the map by which the host names it, by another CPU meanwhile; no guest reads EL2's page."""
    seen = attack(built, tmp_path, kernel, cpu, 2, f"{target(places)}try flip {0x200:x}\ntry end\n")
    for kind in FLIPS:
        numbers = seen.of(f"flip {kind}")
        assert numbers["made"] == 0x200, seen.console
        assert numbers["changes"] > 10 * numbers["made"], seen.console
        assert numbers["foreign"] == 0, seen.console
        assert numbers["ended"] > 0, seen.console
        assert kind not in REFUSED_AT_TIMES or 0 < numbers["refused"] < numbers["made"], seen.console
    all_went_well(seen)
    assert (seen.left.vms, seen.left.vcpus, seen.left.pins, seen.left.tables) == (0, 0, 0, 0), seen.left


GICD, GICH = 0x0800_0000, 0x0803_0000
"""Distributor and virtual interface control of the GICv2 of QEMU's virt machine."""


@pytest.mark.parametrize("kernel", ["6.1", "6.12"])
def test_a_host_writes_to_its_gicv2s_virtual_interface(
    built: Built, places: Layout, guest: guest_build.Guest, tmp_path: Path, kernel: str
) -> None:
    """H28: interrupts that the host makes up reach the guest that runs, and nobody else; then KVM's own guest finds everything right."""
    commands = bare_guest.words(hostile_kvm.KINDS, hostile_kvm.TIMES)
    run = host_python.command("bare_guest", f"/{bare_guest.IMAGE}", "2", "2", *commands)
    files = (*host_python.files(), (bare_guest.IMAGE, guest.image.read_bytes()))
    script = f"{target(places)}try gich {GICD:x} {GICH:x} {0x400:x}\n{run}\n"
    seen = attack(built, tmp_path, kernel, "cortex-a57", 2, script, gic=2, files=files)
    numbers = seen.of("gich")
    assert numbers["made"] == 0x400, seen.console
    assert numbers["refused"] == 0, seen.console
    assert numbers["caught"] > 0x40, seen.console
    assert numbers["acknowledged"] > 0x40, seen.console
    assert bare_guest.has_passed(seen.console, len(commands)), seen.console


MOVING = "try race 200\ntry blocks 400\ntry freed 2000\ntry maintain 200\ntry end\n"


@pytest.mark.parametrize(("kernel", "cpu"), [("6.1", "cortex-a57"), ("6.12", "max")])
def test_what_a_guest_uses_comes_and_goes_under_it(built: Built, places: Layout, tmp_path: Path, kernel: str, cpu: str) -> None:
    """H10: no store to a page after the call that takes it away. H11: what a guest stored is there whatever its block is split into, collapsed into
    or moved to, and one frame of it EL2's. H13: structures given back and used for something else while a CPU runs by them. G6: a guest that does
    nothing but invalidate."""
    seen = attack(built, tmp_path, kernel, cpu, 2, target(places) + MOVING)
    race = seen.of("race")
    assert race["stale"] == 0, seen.console
    assert race["mapped"] > 0x100, seen.console
    found = seen.of("blocks")
    assert found["ended"] == 0, f"a guest found what it had not stored\n{seen.console}"
    assert found["rounds"] > 0x400, seen.console
    assert min(found["splits"], found["collapses"], found["moves"], found["foreign"]) > 0x40, seen.console
    assert seen.of("freed")["refused"] > 0, seen.console
    maintain = seen.of("maintain")
    assert (maintain["made"], maintain["traps"], maintain["caught"]) == (0x200, 0, 0), seen.console
    all_went_well(seen)
    assert (seen.left.vms, seen.left.vcpus, seen.left.pins, seen.left.tables) == (0, 0, 0, 0), seen.left


POOLS = "try far\ntry pools\ntry end\n"


@pytest.mark.parametrize(
    ("kernel", "attacks"),
    [("6.12", "try far\n"), *(pytest.param(kernel, POOLS, marks=pytest.mark.slow, id=f"{kernel}-pools") for kernel in ("6.1", "6.12"))],
)
def test_no_stay_at_el2_is_long(built: Built, places: Layout, kernel: str, attacks: str) -> None:
    """G6 and H16: a guest takes all tables and a host flushes all that it has; more VMs and vCPUs begin than have room, and all end at once."""
    reader = measured(built, kernel, "cortex-a57", target(places) + attacks)
    spent = list(stays.by_function(built.elf, reader.longest).items())[:8]
    print(reader.longest.length, spent)
    assert reader.count > 1000, f"only {reader.count} stays were seen"
    assert reader.longest.length <= stays.LIMIT, f"{reader.longest.length} instructions: {spent}"


CALLS = 32
"""Rounds of a guest's calls, from each of two vCPUs."""
STORMS_MEASURED = [
    pytest.param("6.1", "cortex-a57", 20, 500, id="short"),
    *(
        pytest.param(kernel, cpu, seed, count, marks=pytest.mark.slow, id=f"{kernel}-{count}")
        for kernel, cpu, seed in (("6.1", "cortex-a57", 21), ("6.12", "max", 22))
        for count in (20_000, 50_000)
    ),
]


@pytest.mark.parametrize(("kernel", "cpu", "seed", "count"), STORMS_MEASURED)
def test_no_stay_at_el2_is_long_in_a_storm(measuring: Built, places: Layout, kernel: str, cpu: str, seed: int, count: int) -> None:
    """G6: pseudo-random operations, with stays measured by EL2 itself."""
    seen = measured_inside(measuring, kernel, cpu, f"{target(places)}try storm {seed:x} {count:x}\n")
    print(seen.stays)
    assert seen.of("storm")["made"] >= count, seen.console
    assert seen.stays.count > count, f"{seen.stays}\n{seen.console}"
    assert seen.stays.longest <= stays.LIMIT, f"{seen.stays}\n{seen.console}"


@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["6.1", "6.12"])
def test_no_stay_at_el2_is_long_while_protected_pages_come_and_go(measuring: Built, kernel: str) -> None:
    """G6: a protected guest's pages taken by touch, unmapping and swap, a thousand times."""
    of = soak.soaked(kernel, 5, 1000)
    exact = kvm.measured_host(kernel, "cortex-a57", plain=False, cpus=1)
    machine = replace(of.machine, cpus=1, extra=(*of.machine.extra, *exact.machine.extra))
    found, console = stays_inside.measure(replace(of, machine=machine, arguments=exact.arguments), measuring)
    print(found)
    told = soak.TOLD.search(console)
    assert told is not None, console
    assert (told["failures"], told["plaintext"]) == ("0", "0"), console
    assert found.count > 1000, found
    assert found.longest <= stays.LIMIT, found


def test_no_stay_at_el2_is_long_while_a_guest_calls(measuring: Built, guest: guest_build.Guest) -> None:
    """G6: a protected guest's storm of calls with every kind of argument, shares and unshares of single pages and ranges among them, and of pages
    given up."""
    of = kvm.measured_host("6.1", "cortex-a57", plain=False, cpus=1)
    text = bare_guest.script(2, of.machine.gic, [f"callsx{CALLS}", "take-4kx4"], protected=True)
    found, console = stays_inside.measure(bare_guest.prepared(of, guest, text, protected=True), measuring)
    print(found)
    assert bare_guest.has_passed(console, 2), console[-20000:]
    assert found.count > 100 * CALLS, found
    assert found.longest <= stays.LIMIT, found


def test_only_an_image_that_is_to_measure_does(built: Built, measuring: Built) -> None:
    assert guest_build.addresses(built.elf, "stays") == {}
    assert set(guest_build.addresses(measuring.elf, "stays")) == {"stays"}


def test_el2_measures_its_stays_as_they_are(measuring: Built, places: Layout) -> None:
    """By QEMU's log of its blocks in the same run."""
    logged, inside = measured_both_ways(measuring, "6.12", "cortex-a57", f"{target(places)}try far\n")
    print(inside, logged.longest.length, logged.count)
    assert inside.count > 1000
    assert abs(inside.longest - logged.longest.length) <= stays_inside.OUTSIDE, (inside, logged.longest.length)


@pytest.mark.slow
@pytest.mark.parametrize(("kernel", "cpu"), [("6.1", "cortex-a57"), ("6.1", "neoverse-n1"), ("6.12", "cortex-a57"), ("6.12", "max")])
@pytest.mark.parametrize("seed", range(10, 15))
def test_many_storms(built: Built, places: Layout, tmp_path: Path, kernel: str, cpu: str, seed: int) -> None:
    """A million operations in all."""
    seen = attack(built, tmp_path, kernel, cpu, 2, f"{target(places)}try storm {seed:x} {50_000:x}\n", timeout=900.0)
    assert seen.of("storm")["made"] >= 50_000, seen.console
    all_went_well(seen)
