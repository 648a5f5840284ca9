# SPDX-License-Identifier: Apache-2.0
"""The end of the machine: no page and no key of a protected guest outlives it (DESIGN.md 6).

Where the host wants it off or anew, guests give back what they have in pieces, zeroed, before the firmware hears of the call; the host executes its
call again after each, and takes its interrupts in between. Where EL2 itself can go on with no more, its report comes here last: no other CPU is at
EL2 then, and keys, registers and pages are overwritten where they lie.

Locks: `frames.LOCK`, HOST_LOCK, GUESTS_LOCK, in this order, for the host's call; none in `el2_farewell`, since whoever failed may hold any.
"""

from __future__ import annotations

from typing import Final, Never

from delphyne.el2.arch import psci
from delphyne.el2.arch.caches import clean_range
from delphyne.el2.arch.frame import Frame
from delphyne.el2.control import report, stop
from delphyne.el2.entry import firmware, vendor
from delphyne.el2.guest import ending, guards, registers
from delphyne.el2.memory import frames
from delphyne.el2.memory.graveyard import GUESTS_LOCK
from delphyne.el2.memory.host_map import HOST_LOCK
from delphyne.el2.sealing import aes256, drbg, generator
from delphyne.lang import Array, Pa, Va, address_of, boot, cold, entry, frozen, owned, struct, u64, wipe


@struct
class Secret:
    """`size` bytes of EL2's memory that nobody may read after EL2."""

    at: Pa
    size: u64


@struct
class Secrets:
    """All that are kept, but for guests' pages, which the frame table names."""

    places: Array[Secret, 40]
    count: u64


SECRETS: Final = frozen(Secrets())


@boot
def prepare() -> None:
    """Where keys, the generator and guests' registers lie, which no report shows from now on."""
    report.hide_registers()
    SECRETS.count = u64(0)
    with generator.LOCK:
        _keep(Pa(address_of(generator.GENERATOR).raw), drbg.STATE_BYTES)
    with GUESTS_LOCK:
        for index in u64.range(guards.LIMIT):
            _keep(Pa(address_of(guards.GUARDS.slots[index].key).raw), aes256.KEY_BYTES)
    _keep(registers.MEMORY.base, registers.memory_bytes())


@boot
def _keep(at: Pa, size: u64) -> None:
    place = SECRETS.places[SECRETS.count]
    place.at = at
    place.size = size
    SECRETS.count += 1


def ends_machine(frame: Frame) -> bool:
    """Whether the host's SMC turns the machine off or begins it anew."""
    return firmware.ends_machine(frame) or vendor.ends_machine(frame)


@cold
def wipe_next() -> bool:
    """One piece of what comes before such a call; True where it may be made."""
    with frames.LOCK, HOST_LOCK, GUESTS_LOCK:
        guards.close(True)
        return ending.wipe_next()


@cold
def go_on() -> None:
    """The firmware did not do it: guests may begin again."""
    with GUESTS_LOCK:
        guards.close(False)


@cold
@entry("el2_farewell")
def farewell() -> Never:
    """What EL2 does last on the CPU that failed, after its report."""
    for number in u64.range(SECRETS.count):
        place = SECRETS.places[number]
        with owned(place.at, place.size) as window:
            wipe(window)
        clean_range(Va(place.at.raw), place.size)
    ending.wipe_frames()
    psci.system_off()
    stop.stopped()
