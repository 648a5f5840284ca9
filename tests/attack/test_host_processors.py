# SPDX-License-Identifier: Apache-2.0
"""A host takes its processors away and gives them back, the first one among them, and sleeps, beside a protected guest whose CPUs run on them:
catalogue line H3. What EL2 has of a guest's CPU, the guest finds again on whichever processor it goes on."""

from __future__ import annotations

import pytest
from guest_session import machine, session

from delphyne.board.host import Host
from delphyne.board.vmm import Guest
from delphyne.compiler.back.image import Built

pytestmark = pytest.mark.system

ROUNDS = 6
SLEEPS = 3
OFF_AND_ON = (
    "cd /sys/devices/system/cpu; for round in $(seq {rounds}); do for cpu in 0 1; do"
    " echo 0 > cpu$cpu/online && echo 1 > cpu$cpu/online || echo failed; done; done"
)
SLEEP = "for round in $(seq {rounds}); do echo +2 > /sys/class/rtc/rtc0/wakealarm; echo freeze > /sys/power/state || echo failed; done"
CHECK = "self-check 4 256 4"


@pytest.mark.parametrize("kernel", ["6.1", "6.12"])
def test_a_guest_survives_what_its_host_does_to_its_processors(built: Built, kernel: str) -> None:
    """H3: every processor off and on in turn, then sleep, while both CPUs of the guest compare all that they wrote. Then another guest begins."""
    shape = Guest(kernel, 256, 2, arguments="quiet", protected=True)
    with session(Host(kernel=kernel, machine=machine()), built.image, kernels=(kernel,), protected=(shape,)) as host:
        guest = host.boot_guest(shape)
        for doing, times, seen in ((OFF_AND_ON, ROUNDS, "psci: CPU0 killed"), (SLEEP, SLEEPS, "PM: suspend exit")):
            count = f"dmesg | grep -c '{seen}'; true"
            before = int(host.run(count))
            work = guest.shell.start(f"({CHECK}) > /tmp/other & {CHECK}; wait; cat /tmp/other")
            assert host.run(doing.format(rounds=times), 240.0) == ""
            said = guest.shell.finish(work, 300.0)
            assert said.count(" 0 bad") == 2, f"{said}\n{guest.run('dmesg | tail -n 60')}"
            assert int(host.run(count)) - before == times
        assert host.run("cat /sys/devices/system/cpu/online") == "0-1"
        assert host.boot_guest(shape, 1).run("self-check 4 256 1", 240.0).endswith("0 bad")
        assert guest.shell.trouble() == []
        assert host.shell.trouble() == []
