# SPDX-License-Identifier: Apache-2.0
"""Which guests are booted, as data: the covering selection of the test command, and the product of `make nightly`.

Hosts are what takes long to come, so shapes of guests are grouped by host. The selection has every value of every column at least once, both kernels
as host crossed with both as guest, and each interrupt controller with each transport.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from delphyne.board.vmm import Guest

KERNELS = ("6.1", "6.12")
PROCESSORS = ("cortex-a57", "neoverse-n1", "max")


@dataclass(frozen=True, slots=True)
class On:
    """What a host is: its kernel, processor and GIC."""

    kernel: str
    cpu: str
    gic: int

    def __str__(self) -> str:
        return f"{self.kernel}-{self.cpu}-gic{self.gic}"


@dataclass(frozen=True, slots=True)
class Shape:
    """A guest, and whether its host gives transparent huge pages."""

    guest: Guest
    huge: bool = True

    def __str__(self) -> str:
        guest = self.guest
        its = "" if guest.its else "-noits"
        return f"{guest.kernel}-{guest.cpus}cpu-{guest.memory}m-{guest.transport}{its}-{guest.backing or ('thp' if self.huge else '4k')}"


SELECTION: tuple[tuple[On, tuple[Shape, ...]], ...] = (
    (
        On("6.1", "cortex-a57", 3),
        (Shape(Guest("6.1", 256, 2)), Shape(Guest("6.12", 4096, 4, transport="pci", backing="memfd"))),
    ),
    (
        On("6.12", "neoverse-n1", 3),
        (Shape(Guest("6.12", 512, 1, backing="hugetlbfs")), Shape(Guest("6.1", 128, 2, transport="pci", its=False), huge=False)),
    ),
    (
        On("6.1", "cortex-a57", 2),
        (Shape(Guest("6.12", 1024, 2)), Shape(Guest("6.1", 128, 1, transport="pci"), huge=False)),
    ),
    (
        On("6.12", "max,pauth-impdef=on", 3),  # pointer authentication by a hash that is quick to emulate
        (Shape(Guest("6.12", 2048, 2, transport="pci")), Shape(Guest("6.1", 4096, 1, backing="memfd"))),
    ),
)
"""For the test command."""

HOSTS = tuple(On(kernel, cpu, gic) for kernel, cpu, gic in itertools.product(KERNELS, PROCESSORS, (2, 3)))
SHAPES = {
    f"{kernel}-{cpus}cpu-{memory}m": tuple(
        Shape(Guest(kernel, memory, cpus, transport=transport, backing=backing), huge=huge)
        for transport, (backing, huge) in itertools.product(("mmio", "pci"), (("", True), ("", False), ("memfd", True), ("hugetlbfs", True)))
        if not (backing == "hugetlbfs" and memory > 512)  # a host of 2 GiB has no 4 GiB of huge pages
    )
    for kernel, (cpus, memory) in itertools.product(KERNELS, ((1, 128), (2, 512), (4, 4096)))
}
"""For `make nightly`: every shape on every host, those of one kernel and size together."""
