# SPDX-License-Identifier: Apache-2.0
"""A frame of a protected guest's as each pointer of KVM's calls, and as a page, a block and a table of a hostile kernel's own VM
(modules/hostile_kvm): catalogue lines H5 and H11, as far as they need a protected guest."""

from __future__ import annotations

import pytest
from guest_session import machine, session
from hostile_kvm import outcomes
from test_protected_attacks import PAGE, RAM_MIB, TEXT, frames_of

from delphyne.board import kmodule
from delphyne.board.host import Host
from delphyne.board.vmm import Guest
from delphyne.compiler.back.image import Built

pytestmark = pytest.mark.system

NOTHING = 0x0B00_0000
COUNT = 4
"""Pages of the guest's that are tried."""
ROUTES = ("page", "fetch", "block", "giant", "last-table", "middle-table", "root")


def test_a_private_frame_is_nothing_to_other_guests(built: Built) -> None:
    """The guest's kernel runs from the frames that are tried, and goes on."""
    shape = Guest("6.1", RAM_MIB, 1, arguments="quiet", protected=True)
    files = (("hostile_kvm.ko", kmodule.build("hostile_kvm", "6.1").read_bytes()),)
    with session(Host(kernel="6.1", machine=machine(), files=files), built.image, kernels=("6.1",), protected=(shape,)) as host:
        host.run("insmod /hostile_kvm.ko")
        guest = host.boot_guest(shape)
        frames = [frame for frame in frames_of(host, TEXT, COUNT) if frame]
        assert frames, "none of the guest's pages is in memory"
        for frame in frames:
            host.run(f"echo target {frame:x} 1 > /dev/hostile_kvm; echo calls {NOTHING:x} > /dev/hostile_kvm; echo reach > /dev/hostile_kvm")
        said = host.run("cat /dev/hostile_kvm")
        found = outcomes(said)
        assert [one.numbers["served"] for one in found if one.what == "calls"] == [0] * len(frames), said
        for route in ROUTES:
            assert [one.numbers["reached"] for one in found if one.what == f"reach {route}"] == [0] * len(frames), said
        assert "alive" in guest.run("uname -r > /dev/null && echo alive")
        assert [frame for frame in frames_of(host, TEXT, COUNT) if frame] == frames, f"a page of {PAGE} bytes was moved"
