# SPDX-License-Identifier: Apache-2.0
"""A hostile VMM against its protected guest, by KVM's own calls alone (delphyne/client/hostile_monitor.py): registers and reset of a running vCPU,
and memory that is somewhere else as well; and what it changes of the manifest (hostile_manifest.py). Catalogue lines H24, H35, H8 and G4.

What came of it is seen in the guest, which goes on with what it had or is stopped, and in what the VMM sees.
"""

from __future__ import annotations

import re

import pytest
from hostile_kvm import TROUBLE

from delphyne.board import bare_guest, host, host_python, qemu
from delphyne.board.guest import build as guest_build
from delphyne.client.hostile_manifest import CHANGES
from delphyne.client.hostile_monitor import REWRITTEN
from delphyne.compiler.back.image import Built

pytestmark = pytest.mark.system

ATTACKS = ("initialise", "alias", "identity", "share")
WELL = "take-4kx4"


def numbers(console: str, attack: str) -> dict[str, int]:
    """What the monitor said of one attack."""
    line = re.search(rf"^hostile monitor: {attack} (.*)$", console, re.MULTILINE)
    assert line is not None, console[-20000:]
    return {name: int(x) for name, x in re.findall(r"(\w+) (\d+)", line[1])}


@pytest.mark.parametrize("kernel", ["6.1", pytest.param("6.12", marks=pytest.mark.slow)])
def test_a_vmm_gets_nothing_by_kvms_own_calls(built: Built, guest: guest_build.Guest, kernel: str) -> None:
    """Afterwards a guest whose VMM behaves is well."""
    runs = [host_python.command("hostile_monitor", attack, f"/{bare_guest.IMAGE}", "3") for attack in ATTACKS]
    runs.append(host_python.command("bare_guest", "--protected", f"/{bare_guest.IMAGE}", "2", "3", WELL))
    machine = qemu.Machine(cpu="cortex-a57", cpus=2, memory=1024)
    script = f"{bare_guest.NO_POLLING}{chr(10).join(runs)}\ndmesg\n"
    done = host.run(bare_guest.prepared(host.Host(kernel=kernel, machine=machine), guest, script, protected=True), built.image, timeout=240.0)
    console = done.console
    assert done.ending is qemu.Ending.OFF, f"{done.ending.value}\n{console[-20000:]}\n{done.complaint}"

    seen = numbers(console, "initialise")
    assert (seen["leaks"], seen["failures"]) == (0, 0), console[-20000:]
    assert seen["rounds"] > 4 * len(REWRITTEN), seen
    assert seen["registers"] > 60, seen

    assert numbers(console, "alias") == {"stopped": 1, "plaintext": 0}, console[-20000:]
    assert re.search(r"protected guest \d+ is stopped: its page 0x80000000 cannot come back", console), console[-20000:]

    seen = numbers(console, "identity")
    assert (seen["shown"], seen["protected"], seen["failures"]) == (16, 0, 0), f"{seen}\n{console[-20000:]}"
    assert seen["changed"] > 0, seen
    assert kernel != "6.12" or seen["ordinary"] > 2, f"an ordinary guest is told what its VMM says: {seen}"

    seen = numbers(console, "share")
    assert (seen["before"], seen["after"], seen["failures"], seen["plaintext"]) == (1, 0, 0, 0), f"{seen}\n{console[-20000:]}"

    assert f"bare guest: 0{bare_guest.END}" in console, console[-20000:]
    for word in TROUBLE:
        assert word not in console, f"{word}\n{console[-20000:]}"


def test_no_manifest_but_a_sound_one_protects(built: Built, guest: guest_build.Guest) -> None:
    """G4: manifests changed in each field, a signature that nobody could check, another vCPU that runs or begins too. The VM stays an ordinary one,
    or it is protected and the other vCPU runs no more; and the next guest is well."""
    runs = [
        host_python.command("hostile_manifest", f"/{bare_guest.IMAGE}", "3"),
        host_python.command("bare_guest", "--protected", f"/{bare_guest.IMAGE}", "2", "3", WELL),
    ]
    machine = qemu.Machine(cpu="cortex-a57", cpus=2, memory=1024)
    script = f"{bare_guest.NO_POLLING}{chr(10).join(runs)}\ndmesg\n"
    done = host.run(bare_guest.prepared(host.Host(kernel="6.1", machine=machine), guest, script, protected=True), built.image, timeout=120.0)
    console = done.console
    assert done.ending is qemu.Ending.OFF, f"{done.ending.value}\n{console[-20000:]}\n{done.complaint}"
    ends = dict(re.findall(r"^hostile manifest: (\S+) (.*?)\r?$", console, re.MULTILINE))
    assert {name for name, end in ends.items() if end == "refused"} == set(CHANGES), f"{ends}\n{console[-20000:]}"
    assert ends["other-runs"] in ("passed refused 1", "refused refused 0"), ends
    assert ends["both-begin"].split()[0] in ("passed", "refused", "stopped"), ends
    assert f"bare guest: 0{bare_guest.END}" in console, console[-20000:]
    for word in TROUBLE:
        assert word not in console, f"{word}\n{console[-20000:]}"
