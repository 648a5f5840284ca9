# SPDX-License-Identifier: Apache-2.0
"""Which instructions the cryptography uses: decided once, at boot, from what the processor says it has.

Where it has FEAT_DIT, secrets are worked on with PSTATE.DIT set, which makes the time of each instruction independent of its data.

Invariants: CHOICE is written at boot only; every CPU of the machine is taken to have what the boot CPU has; PSTATE.DIT is on return what it
was on entry. No lock is taken.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch.identification import ID_AA64ISAR0_EL1, ID_AA64PFR0_EL1
from delphyne.el2.sealing import aes256, aes256_ce, sha256
from delphyne.lang import Bits64, SimdArea, Slice, SysReg, View, bits, boot, frozen, secret_equal, simd, struct, u8


class Timing(Bits64):
    """DIT (Arm ARM C5.2.4)."""

    independent: bool = bits(24)


DIT: Final = SysReg(Timing, "DIT", 3, 3, 4, 2, 5)


@struct
class Choice:
    """Whether the crypto extensions are used, for each algorithm, and whether there is PSTATE.DIT."""

    sha256: bool
    aes256: bool
    timing: bool


CHOICE: Final = frozen(Choice())


@boot
def choose() -> None:
    """Take the crypto extensions where the boot CPU has them: ID_AA64ISAR0_EL1.SHA2 and .AES (Arm ARM D17.2.61) are not zero."""
    features = ID_AA64ISAR0_EL1.read()
    CHOICE.sha256 = features.sha2 >= 1
    CHOICE.aes256 = features.aes >= 1
    CHOICE.timing = ID_AA64PFR0_EL1.read().dit >= 1


@boot
def forgo() -> None:
    """Use general registers alone, whatever the processor has."""
    CHOICE.sha256 = False
    CHOICE.aes256 = False


def is_quick() -> bool:
    """Whether a page is a matter of one stay at EL2: some 17,000 instructions with both extensions, 457,000 with none."""
    return CHOICE.sha256 and CHOICE.aes256


def begin() -> Timing:
    """Make timing independent of data where the processor can; returns what was, for `end`."""
    if not CHOICE.timing:
        return Timing()
    before = DIT.read()
    DIT.write(Timing(independent=True))
    return before


def end(before: Timing) -> None:
    """Work on secrets is over."""
    if CHOICE.timing:
        DIT.write(before)


def start(hash: sha256.Sha256) -> None:
    """Begin a digest by the chosen instructions."""
    sha256.start(hash, CHOICE.sha256)


def digest(area: SimdArea, data: View[u8], out: Slice[u8]) -> None:
    """The SHA-256 of `data`: 32 bytes into `out`, traps INDEX where it is shorter. `area` is this CPU's."""
    hash = sha256.Sha256()
    start(hash)
    sha256.update(hash, area, data)
    sha256.finish(hash, area, out)


def expand(key: aes256.Key, material: View[u8]) -> None:
    """The key schedule from 32 bytes of key; traps INDEX on fewer."""
    before = begin()
    aes256.expand(key, material)
    end(before)


def crypt(area: SimdArea, key: aes256.Key, counter: aes256.Counter, data: Slice[u8]) -> None:
    """AES-256 in counter mode over `data` in place, by the chosen instructions. `area` is this CPU's."""
    before = begin()
    if CHOICE.aes256:
        with simd(area):
            aes256_ce.apply(key, counter, data)
    else:
        aes256.apply(key, counter, data)
    end(before)


def same(a: View[u8], b: View[u8]) -> bool:
    """Whether both hold the same bytes, in a time that does not depend on them; traps INDEX where their lengths differ."""
    before = begin()
    equal = secret_equal(a, b)
    end(before)
    return equal
