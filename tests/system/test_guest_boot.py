# SPDX-License-Identifier: Apache-2.0
"""Guests of every shape in Debian's own QEMU with KVM: kernels, CPUs, memory, interrupt controllers, transports, backings; both ways."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from guest_session import HostSession, RunningGuest, machine, session
from guest_table import HOSTS, SELECTION, SHAPES, On, Shape
from guest_ways import WAYS

from delphyne.board import guestimage
from delphyne.board.host import Host

pytestmark = pytest.mark.system

MANY = hashlib.md5(guestimage.DISK_FILES["many"], usedforsecurity=False).hexdigest()
WEB = "mkdir -p /tmp/www; head -c 200000 /dev/urandom > /tmp/www/file; httpd -p 127.0.0.1:8080 -h /tmp/www; md5sum < /tmp/www/file"
"""The host's web server, which guests reach by the gateway of QEMU's network; says the file's checksum."""
FIRST_FREE = 0.5
"""How much of its memory a guest sees at least, beside what kernel and initramfs take."""


def _prepare(host: HostSession, shape: Shape) -> None:
    """The host's memory as `shape` wants it."""
    host.run(f"echo {'always' if shape.huge else 'never'} > /sys/kernel/mm/transparent_hugepage/enabled")
    if shape.guest.backing == "hugetlbfs":
        pages = shape.guest.memory // 2
        host.run(f"echo {pages} > /proc/sys/vm/nr_hugepages; mkdir -p /hugepages; mount -t hugetlbfs hugetlbfs /hugepages")
        assert int(host.run("cat /proc/sys/vm/nr_hugepages")) == pages


def _look(guest: RunningGuest, shape: Shape, on: On, web: str) -> None:
    """The guest has what it was given, reads its disk and the network without an error, and keeps what it writes."""
    wanted = shape.guest
    assert guest.run("uname -r").startswith(f"{wanted.kernel}.")
    assert guest.run("nproc") == str(wanted.cpus)
    total = int(guest.run("sed -n 's/^MemTotal: *//p' /proc/meminfo").split()[0]) // 1024
    assert FIRST_FREE * wanted.memory < total <= wanted.memory, total
    assert guest.run("md5sum < /mnt/many").split()[0] == MANY
    assert "inet 10.0.2.15/24" in guest.run("ip -4 -o addr show eth0")
    assert "1 packets received" in guest.run("ping -c 1 -W 20 10.0.2.2 | grep transmitted")
    assert guest.run("wget -q -O - http://10.0.2.2:8080/file | md5sum").split() == web.split()
    assert {2: " GIC-0 ", 3: " GICv3 "}[on.gic] in guest.run("grep arch_timer /proc/interrupts")
    if wanted.transport == "pci":
        interrupts = guest.run("grep virtio /proc/interrupts")
        assert ("ITS-" in interrupts) == (on.gic == 3 and wanted.its), interrupts
    assert guest.run("self-check 4 256 2", 120.0).endswith("0 bad")
    assert guest.shell.trouble() == []


def _boot_all(image: Path, way: str, on: On, shapes: tuple[Shape, ...]) -> None:
    with session(Host(kernel=on.kernel, machine=machine(on.cpu, gic=on.gic), plain=way == "plain"), image) as host:
        web = host.run(WEB)
        for shape in shapes:
            _prepare(host, shape)
            guest = host.boot_guest(shape.guest)
            _look(guest, shape, on, web)
            guest.end()
            host.run("umount /hugepages 2>/dev/null; echo 0 > /proc/sys/vm/nr_hugepages")
        assert host.shell.trouble() == []


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("on", "shapes"), SELECTION, ids=[str(on) for on, _ in SELECTION])
def test_guests_of_the_selection(image: Path, way: str, on: On, shapes: tuple[Shape, ...]) -> None:
    _boot_all(image, way, on, shapes)


@pytest.mark.slow
@pytest.mark.parametrize("shapes", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("on", HOSTS, ids=str)
def test_the_whole_product_of_guests(image: Path, on: On, shapes: tuple[Shape, ...]) -> None:
    _boot_all(image, "delphyne", on, shapes)
