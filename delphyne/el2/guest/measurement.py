# SPDX-License-Identifier: Apache-2.0
"""The launch measurement of a protected guest, and the fresh seeds that its device tree gets (docs/guest-abi.md). No lock, no state of its own."""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch.cpu import CPUS
from delphyne.el2.arch.err import Err
from delphyne.el2.arch.pagetable import PAGE_SIZE
from delphyne.el2.guest import abi, manifest
from delphyne.el2.sealing import engine, generator, sha256
from delphyne.lang import Array, Ipa, SimdArea, Slice, View, store_le32, u8, u32, u64

NOT_ISOLATED: Final = u32(0)
"""`dma-isolated`: EL2 drives no SMMU yet."""


def take(area: SimdArea, copy: View[u8], out: Slice[u8]) -> None:
    """The launch measurement, 32 bytes into `out`; `copy` is EL2's own of the manifest, `area` this CPU's."""
    tail = Array[u8, 8]()
    store_le32(tail[:], u64(0), abi.EL2_VERSION)
    store_le32(tail[:], u64(4), NOT_ISOLATED)
    hash = sha256.Sha256()
    engine.start(hash)
    sha256.update(hash, area, copy[: abi.SIGNED_BYTES])
    sha256.update(hash, area, tail[:])
    sha256.finish(hash, area, out)


def write_seeds(copy: View[u8], page: Ipa, content: Slice[u8]) -> None:
    """Fresh random bytes for the seeds that begin in the page at `page`, whose digest was taken. A seed that reaches into the next page is left as
    it is."""
    _write(manifest.rng_seed(copy), u64(32), page, content)
    _write(manifest.kaslr_seed(copy), u64(8), page, content)


def _write(at: Ipa, size: u64, page: Ipa, content: Slice[u8]) -> None:
    if at.raw == 0 or at < page or at - page > PAGE_SIZE - size:
        return
    drawn = generator.fill(CPUS.mine().simd, content[at - page : at - page + size])
    assert not isinstance(drawn, Err), "a generator that has made a key"
