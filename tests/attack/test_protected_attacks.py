# SPDX-License-Identifier: Apache-2.0
"""What a hostile host tries against a protected guest: its kernel by a module (modules/hostile), root by /proc, its QEMU by the debugger's stub and
by an image that was changed. Catalogue lines H14, H15, H18, H24, H29 and G4, as far as they are named here.

What the host must not see is looked for by comparing with the guest's kernel, whose text lies in the guest's memory as it does in its file.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from gdb_remote import PC
from guest_session import HostSession, RunningGuest, machine, session

from delphyne.board import kmodule, vmm
from delphyne.board.host import Host
from delphyne.board.kernels import kernel_file
from delphyne.board.protected_image import ALIGNMENT, SEGMENT
from delphyne.board.qemu import VIRT_IMAGE_BASE
from delphyne.board.vmm import Guest
from delphyne.compiler.back.image import Built

pytestmark = pytest.mark.system

PAGE = 4096
RAM_MIB = 128
KERNEL_AT = VIRT_IMAGE_BASE + ALIGNMENT - 0x4000_0000
"""Where the guest's kernel lies in its RAM."""
TEXT = KERNEL_AT + (1 << 20)
"""Pages of its text, which differs from its file in few places only."""
READING = ("load", "pair", "span", "walk", "probe")
WRITING = ("store", "exclusive", "zero")
WALKS = 4
"""Pages that a walk may try. What it reads there is ciphertext: once in some hundred times a valid descriptor of a page that no RAM lies behind, and
the load that follows is an external abort that has nothing to do with the walk."""
STOPPED = {"internal-error", "paused", "io-error", "guest-panicked"}
assert SEGMENT.size == 56


@contextmanager
def attacked(built: Built, kernel: str = "6.1") -> Iterator[tuple[HostSession, RunningGuest]]:
    """A host with the hostile module loaded, and a protected guest that has reached its login."""
    shape = Guest(kernel, RAM_MIB, 1, arguments="quiet", protected=True)
    files = (("hostile.ko", kmodule.build("hostile", kernel).read_bytes()),)
    with session(Host(kernel=kernel, machine=machine(), files=files), built.image, kernels=(kernel,), protected=(shape,)) as host:
        host.run("insmod /hostile.ko")
        yield host, host.boot_guest(shape)


def frames_of(host: HostSession, at: int, count: int) -> list[int]:
    """The host's frames behind `count` pages of the guest's RAM from `at` on, by /proc/PID/pagemap; 0 for one that is not there."""
    said = host.run(
        "pid=$(cat /tmp/guest0.pid); range=$(sed -n 's/^\\([0-9a-f]*\\)-\\([0-9a-f]*\\) rw.*/\\1 \\2/p' /proc/$pid/maps |"
        f" while read -r a b; do [ $((0x$b - 0x$a)) = {RAM_MIB << 20} ] && echo $a; done | head -n 1); first=$(((0x$range + {at}) / {PAGE}));"
        f" dd if=/proc/$pid/pagemap bs=8 skip=$first count={count} 2>/dev/null | hexdump -v -e '8/1 \"%02x\" \"\\n\"'"
    ).split()
    assert len(said) == count, said
    words = [int.from_bytes(bytes.fromhex(one), "little") for one in said]
    return [(word & (1 << 55) - 1) * PAGE if word >> 63 else 0 for word in words]


def seen_by_root(host: HostSession, at: int) -> bytes:
    """A page of the guest's RAM as root on the host reads it."""
    said = host.run(
        "pid=$(cat /tmp/guest0.pid); range=$(sed -n 's/^\\([0-9a-f]*\\)-\\([0-9a-f]*\\) rw.*/\\1 \\2/p' /proc/$pid/maps |"
        f" while read -r a b; do [ $((0x$b - 0x$a)) = {RAM_MIB << 20} ] && echo $a; done | head -n 1);"
        f" dd if=/proc/$pid/mem bs={PAGE} skip=$(((0x$range + {at}) / {PAGE})) count=1 2>/dev/null | hexdump -v -e '16/1 \"%02x\" \"\\n\"'"
    )
    return bytes.fromhex("".join(said.split()))


def attempt(host: HostSession, way: str, frame: int) -> tuple[int, int, int]:
    """How the host kernel's touch of a frame ended: external aborts, other exceptions, done."""
    said = host.run(f"echo {way} {frame:x} 1 > /dev/hostile; cat /dev/hostile")
    found = re.findall(rf"hostile: {way} {frame:x} 1: aborts (\d+) other (\d+) done (\d+)", said)
    assert found, said
    return int(found[-1][0]), int(found[-1][1]), int(found[-1][2])


def alike(page: bytes, file: bytes) -> int:
    """In how many of its lines of 64 bytes a page is what the kernel's file has there."""
    return sum(page[at : at + 64] == file[at : at + 64] for at in range(0, PAGE, 64))


def test_the_hosts_kernel_touches_a_guests_pages_in_every_way(built: Built) -> None:
    """H14: what reads gets ciphertext, and the guest goes on with what it had; what writes ends that guest, and nobody else (H18)."""
    file = kernel_file("6.1").read_bytes()
    with attacked(built) as (host, guest):
        frames = frames_of(host, TEXT, len(READING) + len(WRITING) + WALKS)
        assert all(frames)
        spare = iter(frames[-WALKS:])
        for number, way in enumerate(READING):
            aborts, other, done = attempt(host, way, frames[number])
            while way == "walk" and aborts and (another := next(spare, 0)):
                aborts, other, done = attempt(host, way, another)
            assert aborts == 0, f"{way}: the page is the host's to have, encrypted"
            assert done == 1 or way in ("walk", "span"), (way, other)
        assert guest.run("self-check 4 256 1", 240.0).endswith("0 bad")
        for number in range(len(READING)):
            page = seen_by_root(host, TEXT + number * PAGE)
            own = file[(1 << 20) + number * PAGE :][:PAGE]
            assert len(set(own)) > 100, "a page of text"
            assert alike(page, own) == 0
        assert guest.run("uname -s") == "Linux"
        for number, way in enumerate(WRITING, len(READING)):
            _, _, done = attempt(host, way, frames[number])
            assert done == 1, way
        guest.shell.start("for file in /proc/*/stat; do cat $file; done >/dev/null 2>&1; self-check 4 256 2; cat /proc/kallsyms | md5sum")
        status = str(guest.qmp("query-status")["status"])
        for _ in range(200):
            if status in STOPPED:
                break
            time.sleep(0.1)
            status = str(guest.qmp("query-status")["status"])
        guest.end()
        assert host.run("echo the host is well") == "the host is well"
        assert host.shell.trouble() == []
        again = host.boot_guest(replace(guest.guest, arguments="quiet"), 1)
        assert again.run("self-check 4 256 1", 240.0).endswith("0 bad")


def test_the_debugger_sees_and_sets_nothing(built: Built) -> None:
    """H24, H29: registers by the monitor and by the stub are nobody's, and setting them, a breakpoint or a step changes nothing."""
    with attacked(built) as (host, guest):
        work = guest.shell.start("self-check 4 256 6")
        for _ in range(3):
            stub = guest.stub()
            registers = stub.registers()
            kernel = [x for x in registers[:32] if x >> 40 == 0xFFFFFF]
            assert kernel == [], [hex(x) for x in kernel]
            assert registers[PC] == 0
            stub.ask("P20=" + (0x4020_0000).to_bytes(8, "little").hex())
            stub.ask("P0=" + (0xBAD).to_bytes(8, "little").hex())
            stub.close()
        said = str(guest.qmp("human-monitor-command", **{"command-line": "info registers"}))
        assert re.search(r"PC=0{16}", said), said
        assert guest.shell.finish(work, 300.0).endswith("0 bad")
        assert guest.shell.trouble() == []
        assert host.shell.trouble() == []


def test_an_image_that_was_changed_is_no_protected_guest(built: Built) -> None:
    """G4: one bit of a segment, or of the manifest, and the stub gives up; the pages are the host's again."""
    shape = Guest("6.1", RAM_MIB, 1, arguments="quiet", protected=True)
    with session(Host(kernel="6.1", machine=machine()), built.image, kernels=("6.1",), protected=(shape,)) as host:
        for place in (ALIGNMENT + 0x12345, PAGE + 8):
            host.run(
                f"cp {vmm.image_of(shape)} /tmp/changed.img;"
                f" byte=$(dd if=/tmp/changed.img bs=1 skip={place} count=1 2>/dev/null | hexdump -e '1/1 \"%d\"');"
                f" printf \"\\\\x$(printf %x $((byte ^ 1)))\" | dd of=/tmp/changed.img bs=1 seek={place} conv=notrunc 2>/dev/null"
            )
            guest = host.start_guest(replace(shape, extra=("-kernel", "/tmp/changed.img", "-no-reboot")))
            guest.qmp("cont")
            alive = "kill -0 $(cat /tmp/guest0.pid 2>/dev/null) 2>/dev/null"
            host.run(f"n=0; while {alive} && [ $n -lt 300 ]; do usleep 200000; n=$((n + 1)); done; [ $n -lt 300 ]", 120.0)
            assert guest.shell.log.getvalue() == ""
            guest.close()
            host.guests.remove(guest)
        fresh = host.boot_guest(shape)
        assert fresh.run("uname -s") == "Linux"
        assert host.shell.trouble() == []
