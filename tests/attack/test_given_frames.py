# SPDX-License-Identifier: Apache-2.0
"""A hostile host gives a protected guest frames that are not to be a guest's, by what it writes into KVM's own table (modules/hostile_table,
delphyne/client/hostile_table.py). Catalogue lines H8 and H33; what a host writes meanwhile (H9) is in test_hostile_pages.py.

Of a VM's structure that part is offered which EL2 uses; in Debian's 6.1 the same frame has all of it. A host that gives another part of it away stops
itself.
"""

from __future__ import annotations

import re

import pytest
from hostile_kvm import TROUBLE

from delphyne.board import bare_guest, host, host_python, kmodule, qemu
from delphyne.board.guest import build as guest_build
from delphyne.compiler.back.image import Built
from delphyne.el2.arch.err import Err

pytestmark = pytest.mark.system

SAID = {
    "vcpu": r"passed frames [2-6] offers 6 held 6",
    "mmu": r"passed frames [12] of \d+ offers 6 held 6",
    "self": r"passed left 0",
    "own": r"stopped stays 1 plaintext 0",
    "el2": r"stopped stays 1",
    "other": r"stopped stays 1 waited parked passed plaintext 0",
    "root": r"passed left 0",
}
"""What comes of each offer. A table that became the guest's is zero when it comes back."""
STOPPED = re.compile(r"protected guest \d+ is stopped: its page 0x80001000 cannot come back \((\d+)\)")


@pytest.mark.parametrize(("kernel", "cpu"), [("6.1", "cortex-a57"), pytest.param("6.12", "max", marks=pytest.mark.slow)])
def test_no_frame_that_is_somebodys_is_given(built: Built, guest: guest_build.Guest, kernel: str, cpu: str) -> None:
    """H33: frames of the vCPU that runs and of its VM are nobody's to take; tables of the host's are, and lead nowhere then. H8: a frame of EL2's, of
    the guest's own or of another guest's stops who is given it, and the others go on."""
    runs = [
        host_python.command("hostile_table", f"/{bare_guest.IMAGE}", "3", f"{qemu.VIRT_IMAGE_BASE:x}"),
        host_python.command("bare_guest", "--protected", f"/{bare_guest.IMAGE}", "2", "3", "take-4kx4"),
    ]
    machine = qemu.Machine(cpu=cpu, cpus=2, memory=1024)
    files = (("hostile_table.ko", kmodule.build("hostile_table", kernel).read_bytes()),)
    script = f"{bare_guest.NO_POLLING}insmod /hostile_table.ko\n{chr(10).join(runs)}\ndmesg\n"
    done = host.run(
        bare_guest.prepared(host.Host(kernel=kernel, machine=machine, files=files), guest, script, protected=True), built.image, timeout=120.0
    )
    assert done.ending is qemu.Ending.OFF, f"{done.ending.value}\n{done.console[-20000:]}\n{done.complaint}"
    for name, wanted in SAID.items():
        assert re.search(rf"^hostile table: {name} {wanted}\r?$", done.console, re.MULTILINE), f"{name}\n{done.console[-20000:]}"
    assert [int(why) for why in STOPPED.findall(done.console)] == [Err.OWNER.raw] * 3, done.console[-20000:]
    assert f"bare guest: 0{bare_guest.END}" in done.console, done.console[-20000:]
    for word in TROUBLE:
        assert word not in done.console, f"{word}\n{done.console[-20000:]}"
