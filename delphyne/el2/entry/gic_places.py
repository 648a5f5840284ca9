# SPDX-License-Identifier: Apache-2.0
"""Where the registers of the host's GICv3 lie that name memory, found at boot (`gic_guard.prepare`).

LOCK (8) is the lock of all that EL2 knows of this controller (`gic_guard`, `its_queue`, `its_tables`); it comes before `frames.LOCK` (10). PLACES is
written at boot only.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch import gic_tables
from delphyne.el2.arch.gic_tables import GitsCtlr, read32
from delphyne.el2.arch.pagetable import PAGE_SIZE
from delphyne.lang import Array, Enum8, Lock, Pa, frozen, struct, u64

LOCK: Final = Lock("gic tables", rank=8)

PLACES_LIMIT: Final = u64(128)
"""Redistributors, their frames for virtual LPIs, and ITSes, all together."""


class Kind(Enum8):
    """What a page of registers belongs to."""

    REDISTRIBUTOR = 0
    VIRTUAL_LPIS = 1
    ITS = 2
    SHUT = 3
    """An ITS that nobody is to use."""


@struct
class Place:
    """A page of registers. `its` numbers the ITSes. Of a redistributor: its processor's number and affinity, as GICR_TYPER has them."""

    page: Pa
    kind: Kind
    its: u64
    processor: u64
    affinity: u64


@struct
class Places:
    """All of them, and of how many bits this distributor's interrupt numbers are."""

    places: Array[Place, 128]
    count: u64
    its_count: u64
    number_bits: u64


PLACES: Final = frozen(Places())


def touches(base: u64, size: u64) -> bool:
    """Whether any of these bytes lies in a page of registers that the host does not reach by itself."""
    for number in u64.range(PLACES.count):
        page = PLACES.places[number].page.raw
        if page < base + size and base < page + PAGE_SIZE:
            return True
    return False


def place_of(page: Pa) -> u64 | None:
    """The number of the place with this page."""
    for number in u64.range(PLACES.count):
        if PLACES.places[number].page == page:
            return number
    return None


def is_quiet(page: Pa) -> bool:
    """Whether an ITS is off and has stopped using its tables and its queue."""
    control = GitsCtlr.of(read32(page, gic_tables.GITS_CTLR))
    return control.quiescent and not control.enabled
