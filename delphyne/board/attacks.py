# SPDX-License-Identifier: Apache-2.0
"""The attack catalogue: what a hostile host (H), a hostile guest (G) and a thief of keys (K) try, and where each line is tried.

A line is tried by tests that this table names, or belongs to a room that is not built yet. Nothing here runs an attack: `delphyne attack` does.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

HOST = "tests/attack/test_boot_attacks.py"
DEVICES = "tests/attack/test_device_attacks.py"
TREES = "tests/attack/test_damaged_boots.py"
GUESTS = "tests/attack/test_guest_attacks.py"
ONCE = f"{GUESTS}::test_each_call_and_each_control_is_wrong_once"
REACH = f"{GUESTS}::test_no_guest_reaches_a_page_of_el2"
PROTECTED = "tests/attack/test_protected_attacks.py"
VCPUS = "tests/attack/test_vcpu_attacks.py"
ENTRIES = f"{VCPUS}::test_what_the_host_changes_at_every_entry_is_not_taken"
LIES = f"{VCPUS}::test_false_answers_are_the_guests_trouble_alone"
EMULATED = f"{VCPUS}::test_a_register_that_the_host_emulates_is_the_only_one_it_sees"
STRANGERS = f"{VCPUS}::test_a_vcpu_that_nobody_turned_on_does_not_run"
ANSWERS = "tests/kvm/test_protected_answers.py"
PAGES = "tests/guest/test_private_pages.py"
CALLS = "tests/guest/test_guest_calls.py"
FRAMES = "tests/guest/test_hostile_frames.py"
TWO_CPUS = "tests/attack/test_guest_call_attacks.py::test_hostile_calls_from_two_vcpus_at_once"
BECOMING = "tests/guest/test_becoming_protected.py"
FLUSHES = "tests/guest/test_protected_flushes.py"
PINNED = "tests/kvm/test_pinned_frames.py"
TOUCHES = f"{PROTECTED}::test_the_hosts_kernel_touches_a_guests_pages_in_every_way"
DEBUGGER = f"{PROTECTED}::test_the_debugger_sees_and_sets_nothing"
COUNTED = "tests/attack/test_counted_guests.py::test_a_host_counts_nothing_of_a_protected_guest"
CHANGED = f"{PROTECTED}::test_an_image_that_was_changed_is_no_protected_guest"
SWAPPED = "tests/system/test_protected_guest.py::test_the_host_moves_pages_that_it_cannot_read"
MONITOR = "tests/attack/test_hostile_monitor.py::test_a_vmm_gets_nothing_by_kvms_own_calls"
ENDS = "tests/attack/test_guest_ends.py"
HOST_ENDS = "tests/attack/test_host_ends.py"
MANIFESTS = "tests/attack/test_hostile_monitor.py::test_no_manifest_but_a_sound_one_protects"
GIVEN = "tests/attack/test_given_frames.py::test_no_frame_that_is_somebodys_is_given"
ODD = "tests/attack/test_guest_call_attacks.py::test_odd_instructions_and_tables_come_to_an_end"
ROOT_READS = "tests/attack/test_hostile_pages.py::test_whatever_only_reads_gets_ciphertext_and_costs_the_guest_nothing"
ROOT_WRITES = "tests/attack/test_hostile_pages.py::test_whatever_writes_stops_the_guest"
FORGERIES = "tests/attack/test_hostile_pages.py::test_what_comes_back_altered_exchanged_old_or_from_another_guest_stops_the_guest"
MEANWHILE = "tests/attack/test_hostile_pages.py::test_what_the_host_writes_meanwhile_is_verified_or_comes_too_late"
ALIKE = "tests/attack/test_hostile_pages.py::test_pages_of_one_content_never_look_alike"
READ_ONLY = "tests/attack/test_hostile_pages.py::test_a_guest_goes_on_when_its_memory_was_read_only_for_a_while"
CLEAN = "tests/attack/test_hostile_pages.py::test_a_clean_page_comes_back_as_one_that_may_only_be_read"
COUNTERS = "tests/attack/test_hostile_pages.py::test_no_counter_goes_back"
GIVEN_UP = "tests/attack/test_hostile_pages.py::test_a_page_that_was_given_up_may_be_lost_and_no_other"
EXCLUSIVES = "tests/attack/test_hostile_pages.py::test_exclusives_on_a_page_that_comes_and_goes"
MERGED = "tests/attack/test_hostile_pages.py::test_no_page_of_a_guests_is_merged"
STORM = f"{GUESTS}::test_a_storm_beside_a_guest"
STAYS = f"{GUESTS}::test_no_stay_at_el2_is_long"
STORM_STAYS = f"{GUESTS}::test_no_stay_at_el2_is_long_in_a_storm"
CHANGING = f"{GUESTS}::test_each_word_changes_while_it_is_read"
UNDER_IT = f"{GUESTS}::test_what_a_guest_uses_comes_and_goes_under_it"
PRIVATE = "tests/attack/test_private_frames.py::test_a_private_frame_is_nothing_to_other_guests"


class Verdict(StrEnum):
    """What is known of a line."""

    HOLDS = "holds"
    """Tried by tests that fail as soon as the attack succeeds."""
    IN_PART = "holds in part"
    """The same of some of what the line says; the rest is not tried."""
    EXPECTED = "expected-failure"
    """Tried by a test that fails as soon as the attack does not succeed: nothing keeps it off yet, and docs/threat-model.md says so."""
    LATER = "later-room"
    """What it attacks is not built yet."""


@dataclass(frozen=True, slots=True)
class Attack:
    """One line of the catalogue; `tries` are the tests that try it."""

    line: str
    what: str
    tries: tuple[str, ...] = ()
    verdict: Verdict = Verdict.LATER

    def as_json(self, cases: dict[str, int]) -> dict[str, object]:
        """The row for other programs; `cases` is what `count_cases` found."""
        return asdict(self) | {"cases": sum(cases[name] for name in self.tries)}


_NOW = (
    Attack(
        "H1", "CPU_ON, CPU_SUSPEND and SYSTEM_SUSPEND with an entry point of the host's own",
        (f"{HOST}::test_a_cpu_started_by_the_host_itself_is_under_el2", "tests/el2_boot/test_host_firmware.py"), Verdict.HOLDS,
    ),
    Attack(
        "H2", "PSCI, SMCCC and host calls of unknown, 32-bit, reserved and huge numbers, from several CPUs at once",
        (f"{HOST}::test_calls_of_any_number_from_every_cpu_at_once", "tests/el2_boot/test_host_firmware.py"), Verdict.HOLDS,
    ),
    Attack(
        "H3", "every CPU goes off and on again, CPU 0 too, and the machine sleeps, beside guests",
        (f"{HOST}::test_a_cpu_started_by_the_host_itself_is_under_el2", "tests/attack/test_host_processors.py"), Verdict.HOLDS,
    ),
    Attack(
        "H4", "EL2's memory read, written, executed, zeroed or used as a page table, by kernel and root",
        (f"{HOST}::test_every_page_of_el2_is_read_written_and_executed",), Verdict.IN_PART,
    ),
    Attack(
        "H7", "BTF, image header and device tree truncated, cyclic, absurd, overlapping or absent",
        (
            TREES, "tests/el2_boot/test_boot_fdt.py", "tests/el2_boot/test_boot_machine.py", "tests/el2_boot/test_host_modules.py",
            "tests/el2_boot/test_host_bundle.py", "tests/kvm/test_btf.py",
        ),
        Verdict.HOLDS,
    ),
    Attack(
        "H5", "host calls with pointers null, unaligned, outside RAM, EL2's, private, shared, devices, across page ends, changing while read",
        (ONCE, STORM, CHANGING, PRIVATE, f"{PINNED}::test_a_vcpu_whose_frames_are_a_guests_does_not_run"), Verdict.HOLDS,
    ),
    Attack(
        "H6", "indices from host memory out of range: VMIDs, list registers, vector lengths, VMs and vCPUs", (ONCE, STORM, CHANGING), Verdict.HOLDS,
    ),
    Attack("H10", "map, unmap, flush and teardown racing for one address", (ONCE, STORM, UNDER_IT), Verdict.HOLDS),
    Attack(
        "H11", "a 2 MiB or 1 GiB block of which frames are EL2's or a protected guest's; blocks split, collapsed and moved under a guest",
        (REACH, UNDER_IT, PRIVATE), Verdict.HOLDS,
    ),
    Attack(
        "H12", "flush calls for what was never mapped, for other VMs, for every level, for whole VMs while guests run", (ONCE, STORM, FLUSHES),
        Verdict.HOLDS,
    ),
    Attack(
        "H13", "VM structures, VMIDs and vCPUs reused or mixed up, while they run too; one vCPU on two CPUs, which becomes protected on one",
        (ONCE, STORM, UNDER_IT, "tests/kvm/test_moved_vcpus.py", SWAPPED), Verdict.HOLDS,
    ),
    Attack(
        "H16", "empty pools: more VMs, vCPUs, tables, records, protected guests and CPUs than there are",
        (
            ONCE, f"{PAGES}::test_what_is_lacking_is_said_before_anything_is_done", f"{FRAMES}::test_more_guests_and_cpus_than_there_are_places_for",
            f"{FRAMES}::test_a_move_that_found_no_table_succeeds_when_there_is_one",
            f"{FRAMES}::test_a_page_without_a_record_is_admitted_when_another_is_given_up",
        ),
        Verdict.HOLDS,
    ),
    Attack(
        "H17", "each step that can fail fails, in each move of a page and as a guest becomes protected",
        (
            f"{FRAMES}::test_a_step_that_fails_leaves_nothing_half_done", f"{BECOMING}::test_a_step_of_begin_that_fails",
            f"{BECOMING}::test_a_page_that_cannot_be_taken_is_measured_when_it_can",
        ),
        Verdict.HOLDS,
    ),
    Attack(
        "H28", "list registers, VMCR, priorities and ICH_HCR with odd bits, SRE flipped; a GICv2's GICH written by the host",
        (ONCE, STORM, ENTRIES, CHANGING, f"{GUESTS}::test_a_host_writes_to_its_gicv2s_virtual_interface"), Verdict.HOLDS,
    ),
    Attack(
        "H34", "flush calls that name nothing gone: no storm of exports",
        (
            f"{FLUSHES}::test_calls_that_name_nothing_gone_export_nothing", f"{FLUSHES}::test_a_leaf_that_the_host_has_locked_is_not_gone",
            f"{FLUSHES}::test_what_is_gone_goes_to_the_host_and_nothing_beside_it",
        ),
        Verdict.IN_PART,
    ),
    Attack(
        "H35",
        "control registers from host memory: parameters of __kvm_hyp_init, EL2's registers named from EL1, a vCPU's HCR, MDCR, HCRX, VTCR; what a VMM"
        " says of identification registers, CTR and MPIDR",
        (
            f"{HOST}::test_calls_of_any_number_from_every_cpu_at_once", f"{HOST}::test_every_page_of_el2_is_read_written_and_executed", ONCE, STORM,
            CHANGING, ENTRIES, STRANGERS, MONITOR,
        ),
        Verdict.HOLDS,
    ),
    Attack(
        "H8", "one frame at two addresses or in two VMs; a live address given another frame; a page of an ordinary guest given to a protected one",
        (
            f"{PAGES}::test_a_frame_has_one_owner_at_a_time", f"{PAGES}::test_an_ordinary_guest_loses_what_a_protected_one_gets",
            f"{FRAMES}::test_a_live_address_keeps_its_frame_whatever_the_host_maps_there",
            f"{FRAMES}::test_a_frame_that_is_the_guests_already_is_not_given_twice", f"{FRAMES}::test_no_other_vm_gets_a_guests_frame",
            f"{FRAMES}::test_a_table_of_the_hosts_that_was_given_away_leads_nowhere",
            f"{PAGES}::test_a_guest_that_is_becoming_protected_loses_what_another_gets", MONITOR, GIVEN,
        ),
        Verdict.HOLDS,
    ),
    Attack(
        "H9", "a page changed between check and use: while it is given, imported, or read as a manifest",
        (
            f"{FRAMES}::test_what_a_host_writes_while_it_gives_a_frame_is_verified_or_comes_too_late",
            f"{FRAMES}::test_a_manifest_is_copied_once_and_the_copy_is_what_counts", MEANWHILE,
        ),
        Verdict.HOLDS,
    ),
    Attack(
        "H21", "a failed import tried again with the same data", (f"{FRAMES}::test_an_import_that_failed_fails_again", FORGERIES), Verdict.HOLDS,
    ),
    Attack(
        "H22", "a page exported while a vCPU writes to it",
        (f"{FRAMES}::test_what_the_guest_writes_while_its_page_is_exported_comes_back_or_faults",), Verdict.HOLDS,
    ),
    Attack(
        "H31", "old cache lines of a frame that changed owner, in both directions (in the simulated machine: an emulated one has no caches)",
        (
            f"{FRAMES}::test_no_line_of_the_former_owner_is_left_in_either_direction",
            f"{FRAMES}::test_instructions_of_a_page_that_came_back_are_the_decrypted_ones", f"{PAGES}::test_a_seeded_fault_is_caught",
        ),
        Verdict.IN_PART,
    ),
    Attack(
        "H32", "read-only host leaves offered; memory without a slot; memory answered as a device, a device backed by memory",
        (
            f"{FRAMES}::test_a_leaf_that_may_not_be_written_gives_no_frame",
            f"{FRAMES}::test_memory_whose_slot_the_host_removed_is_asked_for_again_and_again",
            f"{FRAMES}::test_a_device_that_is_backed_by_a_frame_stays_a_device",
            f"{ANSWERS}::test_after_an_interrupt_or_a_fault_the_host_gives_nothing",
        ),
        Verdict.HOLDS,
    ),
    Attack(
        "H33", "frames that EL2 will write to given to a protected guest: a vCPU's structure, list registers, SVE registers, its VM's",
        (
            f"{PINNED}::test_no_frame_that_el2_writes_for_a_vcpu_can_be_given_away", f"{PINNED}::test_a_vcpu_whose_frames_are_a_guests_does_not_run",
            GIVEN,
        ),
        Verdict.HOLDS,
    ),
    Attack(
        "H14", "a private page touched in every way a host can (cache maintenance by address, which never faults in QEMU, is not tried)",
        (ROOT_READS, ROOT_WRITES, TOUCHES, SWAPPED), Verdict.IN_PART,
    ),
    Attack(
        "H15", "frames not zeroed after every kind of end: of the guest, its VMM, and a host that has no memory left, crashes or does a kexec",
        (
            f"{PAGES}::test_the_end_gives_everything_back_zeroed", CHANGED, "tests/system/test_wiped_memory.py", ENDS, HOST_ENDS,
            "tests/attack/test_device_attacks.py::test_what_a_killed_vmm_leaves_is_zero_at_the_hosts_touch",
        ),
        Verdict.HOLDS,
    ),
    Attack(
        "H18", "ciphertext altered, swapped or replayed",
        (f"{PAGES}::test_what_was_altered_replayed_or_moved_is_refused_and_stays_the_hosts", FORGERIES, ROOT_WRITES, TOUCHES), Verdict.HOLDS,
    ),
    Attack(
        "H19", "a clean page altered or made writable; memory that the host may only read",
        (f"{PAGES}::test_a_clean_page_is_measured_and_comes_back_read_only", FORGERIES, CLEAN, READ_ONLY), Verdict.HOLDS,
    ),
    Attack("H20", "one page exported again and again", (f"{PAGES}::test_the_same_page_never_looks_the_same_twice", ALIKE), Verdict.HOLDS),
    Attack(
        "H23", "storms of swap, KSM, compaction, dirty logging, and of what moves pages (memory of an arm64 machine's boot cannot be unplugged)",
        (SWAPPED, "tests/attack/test_host_storms.py", MERGED, "tests/system/test_soak.py"), Verdict.HOLDS,
    ),
    Attack(
        "H30",
        "DMA reads and writes a private page: nothing keeps it off without an SMMU (what registers of the GIC, commands of its ITS and the ITS's "
        "tables name of EL2's or private frames: refused)",
        (
            f"{DEVICES}::test_a_device_of_the_hosts_reaches_a_guests_pages",
            f"{DEVICES}::test_the_interrupt_controller_is_not_told_of_a_guests_pages",
            f"{DEVICES}::test_the_interrupt_controller_is_not_told_of_el2s_memory", "tests/el2_boot/test_gic_guard.py",
            f"{DEVICES}::test_an_its_is_not_led_to_a_guests_pages", f"{DEVICES}::test_an_its_is_not_led_to_el2s_memory",
            "tests/el2_boot/test_its_guard.py", "tests/guest/test_its_frames.py",
        ),
        Verdict.EXPECTED,
    ),
    Attack("H24", "vCPU registers read and changed by the host", (ENTRIES, EMULATED, LIES, DEBUGGER, MONITOR, ANSWERS), Verdict.HOLDS),
    Attack("H25", "exceptions injected that no exit allows", (ENTRIES, ANSWERS), Verdict.HOLDS),
    Attack("H26", "a second vCPU started without the guest, or with another entry or context", (STRANGERS, ENTRIES, ANSWERS), Verdict.HOLDS),
    Attack("H27", "the virtual counter moved back and forth, and the other counter", ("tests/guest/test_guest_time.py", COUNTERS), Verdict.HOLDS),
    Attack("H29", "debug, single step, counters and trace of a guest", (DEBUGGER, COUNTED), Verdict.IN_PART),
    Attack(
        "G0", "reboot, power-off and kexec from inside, no stolen time, ballooning with and without RELINQUISH",
        (ENDS, GIVEN_UP), Verdict.HOLDS,
    ),
    Attack("G1", "guest calls with every kind of argument, from two vCPUs at once", (CALLS, TWO_CPUS), Verdict.HOLDS),
    Attack(
        "G3", "share and unshare against a writing host, twice, of a page of the manifest, of 64 GiB",
        (
            f"{CALLS}::test_what_a_host_writes_while_a_page_is_unshared_is_there_or_never_was",
            f"{CALLS}::test_a_page_in_each_state_is_shared_and_unshared_once_or_refused",
            f"{CALLS}::test_64_gib_are_shared_piece_by_piece_until_tables_are_gone",
        ),
        Verdict.HOLDS,
    ),
    Attack("G4", "PROTECT with bad manifests and at bad times", ("tests/guest/test_manifest.py", BECOMING, CHANGED, MANIFESTS), Verdict.HOLDS),
    Attack(
        "G2", "SMC and HVC of any number; unlisted exception classes and instructions; AArch32 at EL0",
        (ONCE, STORM, f"{GUESTS}::test_each_instruction_that_no_guest_has", ODD, EMULATED), Verdict.HOLDS,
    ),
    Attack(
        "G5", "page tables in MMIO, in nothing, cyclic, shared, exported; exclusives and atomics on a page that comes and goes",
        (ONCE, ODD, EXCLUSIVES, f"{FRAMES}::test_what_the_guest_writes_while_its_page_is_exported_comes_back_or_faults"), Verdict.HOLDS,
    ),
    Attack(
        "K4", "keys without entropy",
        ("tests/sealing/test_entropy.py", "tests/el2_boot/test_host_seed.py", f"{BECOMING}::test_calls_at_wrong_times"), Verdict.HOLDS,
    ),
    Attack(
        "G6", "storms that maximise EL2's time: of faults, of odd operations, of TLB invalidations, of shares and unshares",
        (STAYS, STORM, STORM_STAYS, UNDER_IT, f"{GUESTS}::test_no_stay_at_el2_is_long_while_a_guest_calls"), Verdict.HOLDS,
    ),
)

_LATER = {
    "K1": "example keys outside a development machine",
    "K2": "key blobs altered, rolled back or moved",
    "K3": "signature checks that fail",
}


def _order(attack: Attack) -> tuple[int, int]:
    return "HGK".index(attack.line[0]), int(attack.line[1:])


CATALOGUE = tuple(sorted((*_NOW, *(Attack(line, what) for line, what in _LATER.items())), key=_order))
"""Every line, hosts first."""


def files() -> list[str]:
    """The test files that hold machines under attack; the other tests of a line run with their own rooms."""
    return sorted({test.partition("::")[0] for attack in CATALOGUE for test in attack.tries if test.startswith("tests/attack/")})


def count_cases(root: Path) -> dict[str, int]:
    """How many cases each of the tests that CATALOGUE names has, as pytest collects them below `root`: one for each combination of its parameters.
    A case may be a storm of thousands of operations, or hypothesis's examples. Raises RuntimeError where they cannot be collected."""
    named = sorted({name for attack in CATALOGUE for name in attack.tries})
    command = [sys.executable, "-m", "pytest", "-o", "addopts=", "--collect-only", "-q", *sorted({name.partition("::")[0] for name in named})]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the tests cannot be collected: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    cases = [line.partition("[")[0] for line in done.stdout.splitlines() if "::" in line]
    return {name: sum(case == name or case.startswith(f"{name}::") for case in cases) for name in named}
