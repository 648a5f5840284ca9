# SPDX-License-Identifier: Apache-2.0
"""A host that comes to an end beside protected guests that run: it has no memory left, it starts another kernel, it crashes into its crash kernel or
into a reset. Catalogue line H15.

Root then reads all RAM as the kernel that runs (or, after a crash, the one that crashed) has it, and looks for what the guests wrote, and for a text
of the host's own, which has to be there still: what is looked for would be found. EL2 goes on where the machine does: the next guest is well.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from hostile_kvm import TROUBLE

from delphyne.board import bare_guest, host, host_programs, host_python, hostimage, protected_bare, qemu
from delphyne.board.guest import build as guest_build
from delphyne.board.kernels import kernel_file
from delphyne.client.hostile_search import pages_with
from delphyne.client.soak import MARK
from delphyne.compiler.back.image import Built

pytestmark = pytest.mark.system

TEXT = "a text of the host's own in every line"
WELL = "take-4kx4"
IMAGE = f"/{bare_guest.IMAGE}"
SEARCH = host_python.command("hostile_search", "FILE", f'"{TEXT}"')
GUEST = host_python.command("bare_guest", "--protected", IMAGE, "1", "3")
PREPARE = f"""
yes "{TEXT}" | head -c 4194304 > /tmp/text
passes() {{ grep -c ^PASS "$1"; }}
wait_for() {{ while [ $(passes "$1") -lt "$2" ] && kill -0 "$3"; do usleep 100000; done; }}
"""
START = f"""
{GUEST} soakx2 soakx60000 > /tmp/said 2>&1 &
wait_for /tmp/said 1 $!
cat /tmp/said
"""
"""A guest that has written all its pages, and is comparing them from here on."""
OUT_OF_MEMORY = f"""
{GUEST} soakx2 soakx60000 > /tmp/first 2>&1 &
first=$!
{GUEST} $(for n in $(seq 500); do echo soakx64; done) > /tmp/second 2>&1 &
second=$!
wait_for /tmp/first 1 $first
wait_for /tmp/second 1 $second
echo 1000 > /proc/$first/oom_score_adj
echo -1000 > /proc/$second/oom_score_adj
tail /dev/zero
echo "what wanted all memory ended with $?"
wait $first
echo "the first guest's VMM ended with $?"
done=$(passes /tmp/second)
wait_for /tmp/second $((done + 2)) $second
kill -0 $second && echo "the second guest went on: $(($(passes /tmp/second) - done)) commands, $(grep -vc ^PASS /tmp/second) other lines"
kill -KILL $second
wait $second
dmesg | grep -E 'Out of memory|Killed process'
{SEARCH.replace("FILE", "/proc/kcore")}
"""
SYMBOLS = """
{ sed -n 's/ T _stext$/ T _text/p' /proc/kallsyms; cat /proc/kallsyms; } > /tmp/symbols
mount -o bind /tmp/symbols /proc/kallsyms
"""
"""kexec-tools looks for `_text`, which Debian's kernels do not name, and without it lays vmcore out in a way that cannot be read."""
SECOND = f"""
echo "second kernel: $(uname -r), $(nproc) CPUs"
{SEARCH}
{GUEST} {WELL}
dmesg
"""


@dataclass(frozen=True)
class Looked:
    """What a search found: MiB that it read, pages of a guest's, pages of the host's text."""

    mib: int
    guest: int
    host: int


def searches(console: str, file: str) -> list[Looked]:
    found = re.findall(rf"^hostile search: {file} mib (\d+) guest (\d+) host (\d+)$", console, re.MULTILINE)
    return [Looked(*(int(number) for number in line)) for line in found]


def second_kernel(kernel: str, guest: guest_build.Guest, file: str) -> tuple[tuple[str, bytes], ...]:
    """What a host needs to start `kernel` by kexec, which looks through `file` and runs a guest."""
    image = protected_bare.image(guest.image.read_bytes())
    initrd = hostimage.build({"second.sh": SECOND.replace("FILE", file)}, files=dict(host_python.files()) | {bare_guest.IMAGE: image})
    return (*host_programs.files("kexec-tools", "sbin/kexec"), ("second", kernel_file(kernel).read_bytes()), ("second.gz", initrd.read_bytes()))


def run(
    built: Built, guest: guest_build.Guest, kernel: str, script: str, files: tuple[tuple[str, bytes], ...] = (), arguments: str = "",
    extra: tuple[str, ...] = (),
) -> str:  # fmt: skip
    """The console of a host that ran `script`. It has no ITS, whose tables kexec may overwrite (tests/system/test_host_kexec.py)."""
    machine = qemu.Machine(cpu="cortex-a57", cpus=2, memory=1024, extra=("-machine", "its=off", *extra))
    started = host.Host(kernel=kernel, machine=machine, files=files, arguments=arguments)
    done = host.run(bare_guest.prepared(started, guest, PREPARE + script, protected=True), built.image, timeout=240.0)
    assert done.ending is qemu.Ending.OFF, f"{done.ending.value}\n{done.console[-20000:]}\n{done.complaint}"
    assert "*** delphyne" not in done.console, done.console[-20000:]
    assert "\nPASS soak x 2, " in done.console or "went on" in done.console, done.console[-20000:]
    return done.console


def requires_next_kernel(console: str, kernel: str, file: str, least: int) -> None:
    """The second kernel ran, found nothing of the guest's in at least so many MiB, and its own guest was well."""
    assert f"second kernel: {kernel}." in console, console[-20000:]
    (seen,) = searches(console.partition("second kernel: ")[2], file)
    assert seen.guest == 0, f"{seen}\n{console[-20000:]}"
    assert seen.host >= 100, f"{seen}\n{console[-20000:]}"
    assert seen.mib >= least, f"{seen}\n{console[-20000:]}"
    second = console.rpartition("second kernel: ")[2]
    assert bare_guest.has_passed(second, 1), console[-20000:]
    for word in TROUBLE:
        assert word not in second, f"{word}\n{console[-20000:]}"


@pytest.mark.parametrize(("kernel", "then"), [("6.1", "6.12"), pytest.param("6.12", "6.1", marks=pytest.mark.slow)])
def test_a_host_out_of_memory_and_one_that_starts_another_kernel_leave_nothing(
    built: Built, guest: guest_build.Guest, kernel: str, then: str
) -> None:
    """H15: the OOM killer ends one guest's VMM, the guest beside it goes on. The same host then starts another kernel while a third guest runs."""
    script = f"""{OUT_OF_MEMORY}{START}
kexec --load /second --initrd=/second.gz --command-line='console=ttyAMA0 delphyne.run=second.sh' || exit
kexec --exec
"""
    console = run(built, guest, kernel, script, second_kernel(then, guest, "/proc/kcore"))
    first = console.partition("second kernel: ")[0]
    assert re.search(r"^what wanted all memory ended with 137$", first, re.MULTILINE), first[-20000:]
    assert re.search(r"^the first guest's VMM ended with 137$", first, re.MULTILINE), first[-20000:]
    assert re.search(r"^the second guest went on: 2 commands, 0 other lines$", first, re.MULTILINE), first[-20000:]
    assert len(set(re.findall(r"Out of memory: Killed process (\d+)", first))) == 2, first[-20000:]
    (seen,) = searches(first, "/proc/kcore")
    assert (seen.guest, seen.host >= 1000) == (0, True), f"{seen}\n{first[-20000:]}"
    requires_next_kernel(console, then, "/proc/kcore", 700)


@pytest.mark.parametrize("kernel", ["6.1", pytest.param("6.12", marks=pytest.mark.slow)])
def test_a_crash_kernel_finds_nothing_in_the_memory_of_the_one_that_crashed(built: Built, guest: guest_build.Guest, kernel: str) -> None:
    """H15: kdump reads all of it, as it was when the kernel panicked beside the guest."""
    script = f"""{START}{SYMBOLS}
kexec --load-panic /second --initrd=/second.gz --command-line='console=ttyAMA0 nr_cpus=1 delphyne.run=second.sh' || exit
echo c > /proc/sysrq-trigger
"""
    console = run(built, guest, kernel, script, second_kernel(kernel, guest, "/proc/vmcore"), "crashkernel=256M")
    requires_next_kernel(console, kernel, "/proc/vmcore", 500)


def test_a_host_that_panics_and_resets_leaves_nothing(built: Built, guest: guest_build.Guest, tmp_path: Path) -> None:
    """H15: what the machine's memory holds then, as its emulator sees it."""
    memory = tmp_path / "memory"
    backed = ("-object", f"memory-backend-file,id=ram,size=1024M,mem-path={memory},share=on", "-machine", "memory-backend=ram")
    run(built, guest, "6.1", f"{START}echo c > /proc/sysrq-trigger\n", arguments="panic=-1", extra=backed)
    data = memory.read_bytes()
    assert pages_with(data, TEXT.encode()) >= 1000, "what is in memory is found"
    assert pages_with(data, MARK) == 0
