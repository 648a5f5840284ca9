# SPDX-License-Identifier: Apache-2.0
"""What a guest is booted with: a stock Debian arm64 kernel, a small userland as its initramfs, and a disk with a file system.

The guest's `/init` loads the kernel's own virtio modules, mounts the disk, asks the network for an address, and gives a login shell on the console,
or runs `/report.sh` and powers off where the kernel's command line says `delphyne.report`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from delphyne.board import disk, kernel_modules
from delphyne.board.debian import CACHE, AptRoot
from delphyne.board.userland import MOUNTS, initramfs

MODULES = ("crc32c_generic", "virtio_pci", "virtio_mmio", "virtio_blk", "virtio_net", "virtio_balloon", "ext4")
"""ext4 asks for crc32c by name, which no dependency says."""

DHCP = """#!/bin/sh
case "$1" in
bound|renew)
    ip addr add "$ip/24" dev "$interface"
    [ -z "$router" ] || ip route add default via "$router"
    ;;
esac
"""
"""What udhcpc runs when it has an answer."""

SELF_CHECK = """#!/bin/sh
# self-check FILES KIB ROUNDS: fills FILES files of KIB KiB in memory with patterns, then ROUNDS times writes one of them anew and compares the
# checksum of all. Every second file repeats its neighbour's pattern, so that there are equal pages to merge. Prints what is bad.
files=$1 kib=$2 rounds=$3 bad=0
place=/tmp/self-check.$$
mkdir $place
pattern() {
    awk -v number="$1" -v lines=$((kib * 8)) 'BEGIN { for (i = 0; i < lines; i++) printf "%09d%-118d\\n", number, i }'
}
write() {
    pattern $2 > $place/$1
    echo "$(pattern $2 | md5sum | cut -d' ' -f1)  $place/$1" > $place/$1.sum
}
i=0
while [ $i -lt $files ]; do write $i $((i / 2)); i=$((i + 1)); done
round=0
while [ $round -lt $rounds ]; do
    write $((round % files)) $((1000 + round))
    found=$(cat $place/*.sum | md5sum -c 2>/dev/null | grep FAILED)
    if [ -n "$found" ]; then
        echo "bad in round $round: $found"
        bad=$((bad + 1))
    fi
    round=$((round + 1))
done
rm -r $place
echo "self-check: $files files of $kib KiB, $rounds rounds, $bad bad"
[ $bad = 0 ]
"""

REPORT = """uname -a
echo "CPUs: $(nproc)"
head -n 1 /proc/meminfo
grep ' /mnt ' /proc/mounts
cat /mnt/hello
ip -4 -o addr show eth0
ping -c 1 -W 10 10.0.2.2 | grep transmitted
self-check 4 256 2
"""
"""What a guest shows where nobody is there to type."""

SECRET_WORD = "delphyne.secret"
"""On the guest kernel's command line: it holds a secret and waits for a line on its console."""
HOLDS = "The guest holds a secret, 4 MiB of it, and waits."
WHOLE = "The guest's secret is whole, and so is the rest of its memory."

SECRET = f"""word=sec
word=${{word}}ret
awk -v word=$word 'BEGIN {{
    for (i = 0; i < 65536; i++) printf "this is a %s of the guest%cs, line %06d ............ %c", word, 39, i, 10
}}' > /tmp/held
before=$(md5sum < /tmp/held)
echo "{HOLDS}"
read -r line
if [ "$(md5sum < /tmp/held)" = "$before" ] && self-check 4 256 2; then echo "{WHOLE}"; else echo 'The guest lost something: this is a bug.'; fi
rm /tmp/held
"""
"""What a protected guest does where its host is to look for what it holds (showing.py)."""

INIT = f"""{MOUNTS}hostname guest
{kernel_modules.LOAD}mount -o ro /dev/vda /mnt
ip link set lo up
if ip link set eth0 up 2>/dev/null; then
    udhcpc -i eth0 -q -n -s /dhcp.sh >/dev/null 2>&1 || echo 'the network gave no address'
fi
if grep -q {SECRET_WORD} /proc/cmdline; then
    sh /secret.sh
fi
if grep -q delphyne.report /proc/cmdline; then
    sh /report.sh
    poweroff -f
fi
echo "Debian's kernel $(uname -r) as a guest of KVM, $(nproc) CPUs. \\`poweroff -f\\` ends it."
while true; do setsid -c sh -l; done
"""

DISK_FILES = {"hello": b"hello from the guest's disk\n", "many": bytes(range(256)) * 4096}
"""`many` is 1 MiB to be read and summed."""


@dataclass(frozen=True, slots=True)
class Image:
    """A kernel and its initramfs."""

    kernel: Path
    initrd: Path


def build(
    kernel: Path,
    *,
    first: tuple[kernel_modules.Foreign, ...] = (),
    modules: tuple[str, ...] = MODULES,
    report: str = REPORT,
    files: dict[str, bytes] | None = None,
    folder: Path = CACHE,
    apt: AptRoot | None = None,
) -> Image:
    """What boots the guest kernel `kernel` (a vmlinuz beside the `modules` of its Debian package), with programs from `apt`. Modules that are `first`
    are loaded before the kernel's own; `report` is the script that it runs where nobody is there to type; `files` (path -> content) are there too."""
    own = {"dhcp.sh": DHCP.encode(), "bin/self-check": SELF_CHECK.encode(), "report.sh": report.encode(), "secret.sh": SECRET.encode()}
    return Image(kernel, initramfs("guest", INIT, own | kernel_modules.image_files(kernel, modules, first) | (files or {}), folder=folder, apt=apt))


def build_disk(*, folder: Path = CACHE) -> Path:
    """The guest's disk, as a raw image with an ext2 file system and 1 MiB free."""
    return disk.build("guest", DISK_FILES, free=1 << 20, folder=folder)
