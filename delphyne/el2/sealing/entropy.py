# SPDX-License-Identifier: Apache-2.0
"""What the machine's generator of random bytes is seeded with, once, before the host runs.

The firmware's generator, the processor's, and the seed that the boot loader put into the device tree: all of those there are, each of which is
enough alone. Without any of them no key is ever made, but on a machine that is marked as development: there the counter and the device tree
make do, and keys protect nothing.

Invariants: SOURCES is written at boot only, and says of the generator whether it has a seed. No lock is taken but the generator's.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch import entropy, timer
from delphyne.el2.arch.machine import MACHINE
from delphyne.el2.arch.psci import Conduit
from delphyne.el2.sealing import engine, generator
from delphyne.lang import Array, Level, SimdArea, Slice, View, boot, cold, frozen, log, store_le64, struct, u8, u64, wipe

ENOUGH: Final = u64(32)
"""Bytes of a seed from elsewhere that count as a source."""


@struct
class Sources:
    """What the generator was seeded with; `weak` alone is worth nothing. No key may be made where none is True."""

    firmware: bool
    processor: bool
    tree: bool
    weak: bool
    development: bool
    """The machine is marked so: what is not signed may be protected there."""


SOURCES: Final = frozen(Sources())


@boot
@cold
def seed(area: SimdArea, given: Slice[u8], tree: View[u8], development: bool) -> None:
    """Seed the generator. `given` is the device tree's seed, of any length, and is zero afterwards; `tree` is what differs from machine to machine.
    `area` is this CPU's."""
    material = Array[u8, 136]()
    SOURCES.firmware = MACHINE.conduit is Conduit.SMC and entropy.of_firmware(material[:48])
    SOURCES.processor = entropy.of_processor(material[48:96])
    SOURCES.tree = given.length >= ENOUGH and not _is_wiped(given)
    strong = SOURCES.firmware or SOURCES.processor or SOURCES.tree
    SOURCES.development = development
    SOURCES.weak = development and not strong
    if SOURCES.weak:
        engine.digest(area, tree, material[96:128])
        store_le64(material[:], 128, timer.now())
    if strong or SOURCES.weak:
        generator.seed(area, material[:], given)
    given.fill(u8(0))
    wipe(material)
    if strong:
        log(Level.INFO, f"randomness: firmware {SOURCES.firmware}, processor {SOURCES.processor}, device tree {SOURCES.tree}")
    elif SOURCES.weak:
        log(Level.WARNING, "randomness: none, but the machine is marked as development: keys can be guessed")
    else:
        log(Level.WARNING, "randomness: none: no guest can be protected on this machine")


def _is_wiped(given: View[u8]) -> bool:
    """Whether somebody took this seed already."""
    for i in u64.range(given.length):
        if given[i] != 0:
            return False
    return True
