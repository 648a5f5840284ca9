# SPDX-License-Identifier: Apache-2.0
"""The machine's one generator of random bytes: keys, seeds and all else at EL2 that nobody may guess come from here.

Lock: LOCK (40), above all locks under which keys are made; nothing but the log's is taken inside. Invariant: it has no seed, and so gives
nothing, until `entropy` found a source that keys may be made of.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch.err import Err
from delphyne.el2.sealing import drbg
from delphyne.lang import Lock, SimdArea, Slice, View, boot, guarded, text, u8

LOCK: Final = Lock("random", rank=40)
GENERATOR: Final = guarded(LOCK, drbg.Drbg())


@boot
def seed(area: SimdArea, entropy: View[u8], nonce: View[u8]) -> None:
    """Seed the generator; `area` is this CPU's. How much both must hold, `drbg.instantiate` says."""
    with LOCK:
        drbg.instantiate(GENERATOR, area, entropy, nonce, text(b"Delphyne"))


def fill(area: SimdArea, out: Slice[u8]) -> None | Err:
    """Random bytes into all of `out`, which has BYTES_LIMIT bytes at most. `area` is this CPU's.

    Errors: STATE where no key may be made on this machine; RANGE for too many bytes."""
    with LOCK:
        return drbg.generate(GENERATOR, area, out[:0], out)

