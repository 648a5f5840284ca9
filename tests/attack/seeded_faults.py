# SPDX-License-Identifier: Apache-2.0
"""Faults that somebody could make, each as a change of EL2's source, and the test of the attack suite that has to fail when it is made."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EL2 = "delphyne/el2"
MOVES = "tests/system/test_protected_guest.py::test_the_host_moves_pages_that_it_cannot_read[6.1-6.1]"
TOUCHES = "tests/attack/test_protected_attacks.py::test_the_hosts_kernel_touches_a_guests_pages_in_every_way"
CHANGED = "tests/attack/test_protected_attacks.py::test_an_image_that_was_changed_is_no_protected_guest"
ENTRIES = "tests/attack/test_vcpu_attacks.py::test_what_the_host_changes_at_every_entry_is_not_taken"
STRANGERS = "tests/attack/test_vcpu_attacks.py::test_a_vcpu_that_nobody_turned_on_does_not_run"
ROOT_OF_HOST = "tests/attack/test_hostile_pages.py"
FRAMES = "tests/guest/test_hostile_frames.py"
PAGES = "tests/guest/test_private_pages.py"
"""Of what QEMU hides: its TLBs forget a VM whenever another one's tables become current."""
FORGERIES = f"{ROOT_OF_HOST}::test_what_comes_back_altered_exchanged_old_or_from_another_guest_stops_the_guest[6.1]"
CLEAN = f"{ROOT_OF_HOST}::test_a_clean_page_comes_back_as_one_that_may_only_be_read[6.1]"
COUNTERS = f"{ROOT_OF_HOST}::test_no_counter_goes_back[6.1]"
ODD = "tests/attack/test_guest_call_attacks.py::test_odd_instructions_and_tables_come_to_an_end[6.1-cortex-a57]"
MANIFESTS = "tests/attack/test_hostile_monitor.py::test_no_manifest_but_a_sound_one_protects"
EMULATED = "tests/attack/test_vcpu_attacks.py::test_a_register_that_the_host_emulates_is_the_only_one_it_sees"
COUNTED = "tests/attack/test_counted_guests.py::test_a_host_counts_nothing_of_a_protected_guest[6.1]"
FAILED = 1
"""pytest's exit code where tests ran and some failed."""


@dataclass(frozen=True, slots=True)
class Fault:
    """`old`, which stands once in `file` below delphyne/el2, becomes `new`; `caught_by` is the test, or the file of tests, that fails then."""

    name: str
    file: str
    old: str
    new: str
    caught_by: str


FAULTS = (
    Fault(
        "a page leaves without a TLB flush", "guest/steps.py",
        "    write(found, after.raw)\n    flush.stage2_address(tables.vttbr_of(space_of(index)), ipa)\n", "    write(found, after.raw)\n", PAGES,
    ),
    Fault(
        "the host keeps its map of a frame that it gave", "memory/host_map.py",
        "    tables.empty_slot(HOST_SPACE, page, found)\n", "", TOUCHES,
    ),
    Fault(
        "a page is verified before it is removed from the host", "guest/moving.py",
        """    taken = steps.take_filled(index, ipa, pa)
    if isinstance(taken, Err):
        return taken
    imported = _import(index, ipa, pa, number)
    if isinstance(imported, Err):
        steps.give_back(index, ipa, pa)
        return imported
""",
        """    imported = _import(index, ipa, pa, number)
    if isinstance(imported, Err):
        return imported
    taken = steps.take_filled(index, ipa, pa)
    if isinstance(taken, Err):
        return taken
""",
        FRAMES,
    ),
    Fault(
        "a guest that becomes protected keeps a page that another one gets", "guest/steps.py", "    lent.drop_everybodys()\n", "",
        PAGES,
    ),
    Fault("a version is used twice", "guest/guards.py", "    guard.version += 1\n", "", PAGES),
    Fault(
        "a vCPU's frames are not pinned", "guest/vcpus.py",
        '''Err of `frames.pin`: then nothing changed."""
    pinned = frames.pin_all(at, size)
    if isinstance(pinned, Err):
        return pinned
    vcpu = VCPUS.slots[index]
    vcpu.used = True
''',
        '''Err of `frames.pin`: then nothing changed."""
    vcpu = VCPUS.slots[index]
    vcpu.used = True
''',
        "tests/kvm/test_pinned_frames.py",
    ),
    Fault(
        "a protected guest's HCR_EL2 is the host's", "kvm/protected_run.py", "(seat.asked.hcr & controls.PROTECTED_FROM_HOST)", "seat.asked.hcr",
        ENTRIES,
    ),
    Fault(
        "an exit shows every register", "kvm/stage.py", "    memory = syndrome.ec ==",
        "    for number in u64.range(31):\n        show_general(seat, places, number)\n    memory = syndrome.ec ==", ENTRIES,
    ),
    Fault(
        "an exception is taken whenever the host says so", "kvm/protected_run.py",
        "    if what == u64(Expects.NOTHING.raw) or what == u64(Expects.ENDING.raw):\n", "    if what == u64(Expects.ENDING.raw):\n", ENTRIES,
    ),
    Fault(
        "a CPU begins that nobody turned on", "guest/processors.py",
        "    if processor.power is not Power.STARTING:\n        return False\n    registers.reset",
        "    if processor.power is Power.ON:\n        return False\n    registers.reset", STRANGERS,
    ),
    Fault(
        "what a CPU remembers of a vCPU outlives COMMIT", "guest/vcpus.py",
        "    word = claim_word(index) + GENERATION\n", "    word = claim_word(index)\n", MOVES,
    ),
    Fault(
        "pages leave in clear", "sealing/page.py",
        "    engine.crypt(area, key, aes256.Counter(job.record.terms.version, job.position // aes256.BLOCK_SIZE), piece)\n", "    return\n",
        ROOT_OF_HOST,
    ),
    Fault(
        "a segment's digest is not looked at", "guest/measuring.py",
        "engine.same(digest[:], manifest.segment_digest(guard.manifest[:], guard.segment))", "engine.same(digest[:], digest[:])", CHANGED,
    ),
    Fault(
        "frames come back as they are", "guest/private.py",
        "    clean_range(Va(pa.raw), PAGE_SIZE)\n    zero_page(pa)\n    steps.give_back(index, ipa, pa)\n",
        "    clean_range(Va(pa.raw), PAGE_SIZE)\n    steps.give_back(index, ipa, pa)\n", ROOT_OF_HOST,
    ),
    Fault(
        "a page's digest is not looked at", "sealing/page.py", "engine.same(digest[:], job.record.digest[:])", "engine.same(digest[:], digest[:])",
        FORGERIES,
    ),
    Fault(
        "a clean page comes back as any other", "guest/moving.py",
        """    mark = steps.CLEAN_MARK if terms.clean else whole.PRIVATE_MARK
    steps.settle(index, ipa, pa, found, Rights(terms.read, terms.write, terms.execute), mark)
""",
        "    steps.settle(index, ipa, pa, found, Rights(True, True, terms.execute), whole.PRIVATE_MARK)\n", CLEAN,
    ),
    Fault(
        "a guest's counter is the host's", "guest/time.py", "    if wrap_sub(now, changed) >= guards.SEEN[index].load(Order.ACQUIRE):\n",
        "    if now >= changed:\n", COUNTERS,
    ),
    Fault(
        "what a guest has not got does nothing", "kvm/protected_exits.py",
        "    inject.undefined_to_guest()\n    return GUEST_GOES_ON\n\n\ndef _serve_register",
        "    exits.skip(syndrome)\n    return GUEST_GOES_ON\n\n\ndef _serve_register", ODD,
    ),
    Fault(
        "an exception of AArch32 is taken as one of AArch64", "arch/aarch64.py", "        return u64(0x600)\n", "        return u64(0x400)\n", ODD,
    ),
    Fault(
        "a signature that nobody checks is let pass", "guest/manifest.py", "_is_zero(manifest, used_segments, BYTES)",
        "_is_zero(manifest, used_segments, u64(3072))", MANIFESTS,
    ),
    Fault(
        "an access to a device needs no syndrome", "kvm/protected_faults.py", "    if instruction or iss.s1ptw or iss.cm or not iss.isv:\n",
        "    if instruction or iss.cm:\n", ODD,
    ),
    Fault(
        "a page is encrypted while its guest can still write to it", "guest/moving.py",
        """    _leave(index, ipa, pa, found, Absent(fate=Fate.EXPORTED, content=number))
    area = CPUS.mine().simd
    job = sealed.Job()
    sealed.begin_export(job, area, guard.identity, ipa, terms.replace(version=guards.next_version(index)))
    with owned(pa, PAGE_SIZE) as window:
        done = sealed.step(job, area, guard.key, window, PAGE_SIZE)
        assert not isinstance(done, Err) and done, "an export in one piece"
""",
        """    area = CPUS.mine().simd
    job = sealed.Job()
    sealed.begin_export(job, area, guard.identity, ipa, terms.replace(version=guards.next_version(index)))
    with owned(pa, PAGE_SIZE) as window:
        done = sealed.step(job, area, guard.key, window, PAGE_SIZE)
        assert not isinstance(done, Err) and done, "an export in one piece"
    _leave(index, ipa, pa, found, Absent(fate=Fate.EXPORTED, content=number))
""",
        FRAMES,
    ),
    Fault(
        "the host sees a register that it is to fill", "kvm/protected_exits.py",
        "    if not iss.read:\n        stage.show_general(seat, places, u64(iss.rt))\n",
        "    stage.show_general(seat, places, u64(iss.rt))\n", EMULATED,
    ),
    Fault(
        "the host's counters go on in a protected guest", "kvm/protected_run.py", "PMCR_EL0.write(seat.pmcr & ~PMCR_ENABLE)",
        "PMCR_EL0.write(seat.pmcr)", COUNTED,
    ),
)


def plant(fault: Fault, root: Path) -> None:
    """Make the change in the tree at `root`. Raises AssertionError where it does not fit the source any more."""
    file = root / EL2 / fault.file
    source = file.read_text()
    assert source.count(fault.old) == 1, f"{fault.name}: {fault.file} has {source.count(fault.old)} places for it"
    file.write_text(source.replace(fault.old, fault.new))


def copy_tree(to: Path) -> None:
    """The project as it is here, with what was built and fetched for it."""
    for name in ("delphyne", "tests", "modules", "docs"):
        shutil.copytree(ROOT / name, to / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", to)
    (to / "build").mkdir()
    fetched = ROOT / "build" / "cache"
    fetched.mkdir(parents=True, exist_ok=True)
    (to / "build" / "cache").symlink_to(fetched)


def run(fault: Fault, root: Path) -> subprocess.CompletedProcess[str]:
    """The test that has to catch it, in the tree at `root`."""
    command = [sys.executable, "-m", "pytest", "-o", "addopts=", "-x", "-p", "no:cacheprovider", fault.caught_by]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=1500, check=False)
