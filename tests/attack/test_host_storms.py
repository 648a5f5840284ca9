# SPDX-License-Identifier: Apache-2.0
"""A host that does to a protected guest's memory all at once what a kernel can do to memory, while the guest compares every word of it: swap, KSM,
compaction, reservation of huge pages, the dirty log (delphyne/client/hostile_storm.py). Catalogue line H23.

Memory that a machine was booted with cannot be unplugged on arm64 (arch/arm64/mm/mmu.c, prevent_bootmem_remove_notifier), and QEMU's virt machine
with a device tree has no other: what reserves huge pages moves pages by the same function.
"""

from __future__ import annotations

import re

import pytest
from hostile_kvm import TROUBLE

from delphyne.board import bare_guest, host, host_python, hostimage, kernel_modules, qemu, soak
from delphyne.board.guest import build as guest_build
from delphyne.board.kernels import kernel_file
from delphyne.compiler.back.image import Built

pytestmark = pytest.mark.system

KSM = "/sys/kernel/mm/ksm"
DISTURB = f"""
echo 5000 > {KSM}/pages_to_scan; echo 1 > {KSM}/sleep_millisecs; echo 1 > {KSM}/run
touch /tmp/storm
while [ -e /tmp/storm ]; do
    echo 1 > /proc/sys/vm/compact_memory
    echo 64 > /proc/sys/vm/nr_hugepages
    echo 0 > /proc/sys/vm/nr_hugepages
done &
"""


@pytest.mark.parametrize(("kernel", "exports"), [("6.1", 1500), pytest.param("6.12", 10_000, marks=pytest.mark.slow)])
def test_a_guest_keeps_its_memory_while_its_host_moves_merges_and_logs_it(built: Built, guest: guest_build.Guest, kernel: str, exports: int) -> None:
    """H23: nothing is lost, nothing is seen, and each of these has happened."""
    run = host_python.command("hostile_storm", f"/{bare_guest.IMAGE}", "3", "1", str(exports))
    script = f"{bare_guest.NO_POLLING}{soak.SWAP}{DISTURB}{run}\nrm /tmp/storm; wait\ndmesg\n"
    modules = kernel_modules.image_files(kernel_file(kernel), ("zram",)) | {hostimage.SETUP: kernel_modules.LOAD.encode()}
    machine = qemu.Machine(cpu="cortex-a57", cpus=2, memory=1024)
    ready = bare_guest.prepared(host.Host(kernel=kernel, machine=machine, files=tuple(modules.items())), guest, script, protected=True)
    done = host.run(ready, built.image, timeout=120.0 + exports / 20)
    assert done.ending is qemu.Ending.OFF, f"{done.ending.value}\n{done.console[-20000:]}\n{done.complaint}"
    line = re.search(r"^hostile storm: (.*)$", done.console, re.MULTILINE)
    assert line is not None, done.console[-20000:]
    seen = {name: int(x) for name, x in re.findall(r"(\w+) (\d+)", line[1])}
    assert (seen["failures"], seen["plaintext"]) == (0, 0), f"{seen}\n{done.console[-20000:]}"
    assert seen["exports"] >= exports, seen
    for happened in ("logs", "dirty", "scans", "pswpout", "pgmigrate_success", "compact_migrate_scanned"):
        assert seen[happened] > 0, f"{happened}: {seen}"
    for word in TROUBLE:
        assert word not in done.console, f"{word}\n{done.console[-20000:]}"
