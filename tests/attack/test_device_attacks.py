# SPDX-License-Identifier: Apache-2.0
"""A device of the host's machine against a protected guest, by modules/hostile: catalogue line H30, whose DMA is expected to succeed until EL2 drives
an SMMU, and H15, of which it sees what is left. The device is QEMU's firmware configuration, whose DMA goes wherever the host's kernel says."""

from __future__ import annotations

import re

import pytest
from hostile_kvm import TROUBLE

from delphyne.board import bare_guest, host, host_python, kmodule, protected_bare, qemu
from delphyne.board.guest import build as guest_build
from delphyne.client.bare_guest import CODE, RAM, READY, TREE
from delphyne.compiler.back.image import Built

pytestmark = pytest.mark.system

PAGE = 4096
BEGIN = f"""
dmesg -n 1
insmod /hostile.ko
mkfifo /tmp/line
%s < /tmp/line > /tmp/said 2>&1 &
pid=$!
exec 3> /tmp/line
while ! grep -q '{READY}' /tmp/said && kill -0 $pid; do usleep 100000; done
set -- $(sed -n 's/^{READY} //p' /tmp/said)
"""
SCRIPT = f"""{BEGIN}
echo "dma-read $1" > /dev/hostile
echo "dma-read $2" > /dev/hostile
echo "dma-write $2" > /dev/hostile
echo "dma-read $2" > /dev/hostile
cat /dev/hostile
echo "by the CPU: $(dd if=/proc/$pid/mem bs={PAGE} skip=$((0x$3 / {PAGE})) count=1 2>/dev/null | hexdump -v -e '16/1 "%%02x"')"
echo >&3
wait $pid
cat /tmp/said
dmesg
"""
KILLED = f"""{BEGIN}
echo "dma-read $1" > /dev/hostile
kill -KILL $pid
wait $pid
echo "load $1 1" > /dev/hostile
echo "load $2 1" > /dev/hostile
echo "dma-read $1" > /dev/hostile
echo "dma-read $2" > /dev/hostile
cat /dev/hostile /tmp/said
dmesg
"""


def test_a_device_of_the_hosts_reaches_a_guests_pages(built: Built, guest: guest_build.Guest) -> None:
    """H30, an expected failure: DMA reads a private page in clear and writes to one, where the host's CPUs get ciphertext, and EL2 hears of nothing.
    When this test fails the promise has changed: docs/threat-model.md and `dma-isolated` too."""
    image = protected_bare.image(guest.image.read_bytes())
    run = host_python.command("bare_guest", "--wait", "--protected", f"/{bare_guest.IMAGE}", "2", "3", "take-4kx4", "bring-4kx4")
    machine = qemu.Machine(cpu="cortex-a57", cpus=2, memory=1024, extra=("-device", "vmcoreinfo"))
    files = (("hostile.ko", kmodule.build("hostile", "6.1").read_bytes()),)
    ready = bare_guest.prepared(host.Host(kernel="6.1", machine=machine, files=files), guest, SCRIPT % run, protected=True)
    done = host.run(ready, built.image, timeout=240.0)
    assert done.ending is qemu.Ending.OFF, f"{done.ending.value}\n{done.console[-20000:]}\n{done.complaint}"
    found = re.search(rf"^{READY} ([0-9a-f]+) ([0-9a-f]+) [0-9a-f]+\r?$", done.console, re.MULTILINE)
    assert found is not None, done.console[-20000:]
    code, tree = (int(frame, 16) for frame in found.groups())
    assert code, "the guest's page has a frame of the host's"
    own_code, own_tree = (image[at - RAM : at - RAM + PAGE] for at in (CODE, TREE))
    assert len(set(own_code)) > 100, "a page of code"
    assert read_by_device(done.console, code) == [own_code]
    assert f"hostile: dma-write {tree:x}: done" in done.console, done.console[-20000:]
    assert read_by_device(done.console, tree) == [own_tree, b"QEMU" + own_tree[4:]]
    by_cpu = re.search(r"^by the CPU: ([0-9a-f]+)\r?$", done.console, re.MULTILINE)
    assert by_cpu is not None, done.console[-20000:]
    seen = bytes.fromhex(by_cpu[1])
    assert len(seen) == PAGE
    assert not any(seen[at : at + 16] == own_code[at : at + 16] for at in range(0, PAGE, 16) if len(set(own_code[at : at + 16])) > 1)
    assert bare_guest.has_passed(done.console, 2), "the guest goes on with what it had"
    for word in TROUBLE:
        assert word not in done.console, f"{word}\n{done.console[-20000:]}"


def read_by_device(console: str, frame: int) -> list[bytes]:
    """A frame as the device read it, each time."""
    lines = re.findall(r"^hostile: dma ([0-9a-f]+): ([0-9a-f]+)\r?$", console, re.MULTILINE)
    pieces = [bytes.fromhex(content) for at, content in lines if frame <= int(at, 16) < frame + PAGE]
    content = b"".join(pieces)
    return [content[at : at + PAGE] for at in range(0, len(content), PAGE)]


def test_what_a_killed_vmm_leaves_is_zero_at_the_hosts_touch(built: Built, guest: guest_build.Guest) -> None:
    """H15: the device sees what lies in the frames of a guest whose VMM is killed in the middle of it, once the host has touched them."""
    image = protected_bare.image(guest.image.read_bytes())
    run = host_python.command("bare_guest", "--wait", "--protected", f"/{bare_guest.IMAGE}", "2", "3", "take-4kx4")
    machine = qemu.Machine(cpu="cortex-a57", cpus=2, memory=1024, extra=("-device", "vmcoreinfo"))
    files = (("hostile.ko", kmodule.build("hostile", "6.1").read_bytes()),)
    ready = bare_guest.prepared(host.Host(kernel="6.1", machine=machine, files=files), guest, KILLED % run, protected=True)
    done = host.run(ready, built.image, timeout=120.0)
    assert done.ending is qemu.Ending.OFF, f"{done.ending.value}\n{done.console[-20000:]}\n{done.complaint}"
    found = re.search(rf"^{READY} ([0-9a-f]+) ([0-9a-f]+) [0-9a-f]+\r?$", done.console, re.MULTILINE)
    assert found is not None, done.console[-20000:]
    code, tree = (int(frame, 16) for frame in found.groups())
    assert read_by_device(done.console, code) == [image[CODE - RAM : CODE - RAM + PAGE], bytes(PAGE)]
    assert read_by_device(done.console, tree) == [bytes(PAGE)]
    for word in TROUBLE:
        assert word not in done.console, f"{word}\n{done.console[-20000:]}"
