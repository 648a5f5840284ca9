# SPDX-License-Identifier: Apache-2.0
"""A deterministic generator of random bytes: HMAC_DRBG of SP 800-90A Rev. 1, section 10.1.2, on SHA-256, for a strength of 256 bits.

HMAC_DRBG and not Hash_DRBG, because it needs nothing but the digest (no sums of 440 bits), and its security rests on HMAC as a pseudo-random
function alone. Without prediction resistance.

Invariants: no lock is taken; a generator belongs to its caller. `requests` is 0 where it has no seed. Each request ends with a new key, so that
who reads the state learns nothing of what was generated before. Timing depends on lengths only.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch.err import Err
from delphyne.el2.sealing import engine, residue, sha256
from delphyne.lang import Array, SimdArea, Slice, View, apart, cold, load_le64, store_le64, struct, u8, u64, wipe

REQUEST_LIMIT: Final = u64(1 << 48)
"""Requests after one seed (SP 800-90A, table 2)."""
BYTES_LIMIT: Final = u64(1 << 16)
"""Bytes in one request (the same)."""

INNER: Final = u64(0x3636_3636_3636_3636)
OUTER: Final = u64(0x5C5C_5C5C_5C5C_5C5C)
"""The paddings of HMAC (FIPS 198-1)."""


@struct
class Drbg:
    """Key and V of the specification, and the request that comes next, from 1 on: its reseed counter."""

    key: Array[u8, 32]
    value: Array[u8, 32]
    requests: u64


STATE_BYTES: Final = u64(72)


@cold
def instantiate(state: Drbg, area: SimdArea, entropy: View[u8], nonce: View[u8], personalization: View[u8]) -> None:
    """Seed a generator. `entropy` and `nonce` together hold at least 384 bits of entropy, or what is generated is worth no more than they are."""
    state.key.fill(u8(0))
    state.value.fill(u8(1))
    _seed(state, area, entropy, nonce, personalization)


@cold
def reseed(state: Drbg, area: SimdArea, entropy: View[u8], additional: View[u8]) -> None | Err:
    """Add at least 256 bits of new entropy; STATE where there was no seed."""
    if state.requests == 0:
        return Err.STATE
    _seed(state, area, entropy, additional, entropy[:0])
    return None


def _seed(state: Drbg, area: SimdArea, first: View[u8], second: View[u8], third: View[u8]) -> None:
    before = engine.begin()
    _update(state, area, first, second, third)
    engine.end(before)
    state.requests = u64(1)
    residue.scrub()


@cold
def generate(state: Drbg, area: SimdArea, additional: View[u8], out: Slice[u8]) -> None | Err:
    """Fill `out` with random bytes. `area` is this CPU's.

    Errors: STATE where there was no seed, or one has served REQUEST_LIMIT requests; RANGE for more than BYTES_LIMIT bytes."""
    if state.requests == 0 or state.requests > REQUEST_LIMIT:
        return Err.STATE
    if out.length > BYTES_LIMIT:
        return Err.RANGE
    before = engine.begin()
    hash = sha256.Sha256()
    if additional.length != 0:
        _update(state, area, additional, additional[:0], additional[:0])
    done = u64(0)
    while done < out.length:
        _begin(state, area, hash)
        _end(state, area, hash, state.value[:])
        taken = min(out.length - done, state.value.length)
        out[done : done + taken].copy_from(state.value[:taken])
        done += taken
    _update(state, area, additional, additional[:0], additional[:0])
    engine.end(before)
    state.requests += 1
    residue.scrub()
    return None


def uninstantiate(state: Drbg) -> None:
    """Forget the seed."""
    wipe(state)


def _update(state: Drbg, area: SimdArea, first: View[u8], second: View[u8], third: View[u8]) -> None:
    """HMAC_DRBG_Update (section 10.1.2.2) with the three pieces one after the other, any of them empty."""
    hash = sha256.Sha256()
    mark = Array[u8, 1]()
    for number in u8.range(2):
        mark[0] = number
        _begin(state, area, hash)
        sha256.update(hash, area, mark[:])
        sha256.update(hash, area, first)
        sha256.update(hash, area, second)
        sha256.update(hash, area, third)
        _end(state, area, hash, state.key[:])
        _begin(state, area, hash)
        _end(state, area, hash, state.value[:])
        if first.length == 0 and second.length == 0 and third.length == 0:
            return


@apart
def _begin(state: Drbg, area: SimdArea, hash: sha256.Sha256) -> None:
    """HMAC under the key, of V and of what the caller adds."""
    _start(state, area, hash, INNER)
    sha256.update(hash, area, state.value[:])


@apart
def _end(state: Drbg, area: SimdArea, hash: sha256.Sha256, out: Slice[u8]) -> None:
    """The 32 bytes of HMAC."""
    inner = Array[u8, 32]()
    sha256.finish(hash, area, inner[:])
    _start(state, area, hash, OUTER)
    sha256.update(hash, area, inner[:])
    sha256.finish(hash, area, out)
    wipe(inner)


def _start(state: Drbg, area: SimdArea, hash: sha256.Sha256, pad: u64) -> None:
    """A digest that begins with the key, padded; `pad` is eight times the padding's byte."""
    block = Array[u8, 64]()
    for at in u64.range(0, 64, 8):
        store_le64(block[:], at, pad)
    for at in u64.range(0, 32, 8):
        store_le64(block[:], at, load_le64(state.key[:], at) ^ pad)
    engine.start(hash)
    sha256.update(hash, area, block[:])
    wipe(block)
