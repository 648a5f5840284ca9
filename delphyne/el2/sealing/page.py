# SPDX-License-Identifier: Apache-2.0
"""Export and import of one page of a protected guest, in place and in pieces: what the host keeps is encrypted, and measured with its place.

The digest is over a header of one block (whose page this is, where it belongs, what the record says of it) and then over what the host gets to
see. Encryption is AES-256 in counter mode (SP 800-38A); the counter block is the version, then the number of the block in the page. A clean page,
whose content is public, is measured as it is.

Invariants: no lock is taken; a job, its page and its record belong to the caller from `begin_*` to the end, and nobody else reaches the page
meanwhile. The caller never uses a version twice under one key, so that no key stream is used twice, and keeps records where only EL2 writes.
Nothing is decrypted before all of it was verified; a page that fails stays as it came. A job holds nothing secret.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch.err import Err
from delphyne.el2.arch.pagetable import PAGE_SIZE
from delphyne.el2.sealing import aes256, engine, sha256
from delphyne.lang import Array, Bits64, Enum8, Ipa, SimdArea, Slice, bits, store_be64, struct, text, u8, u64, unreachable

PIECE: Final = u64(64)
"""Pieces are whole multiples of this many bytes: the block of the digest, and whole blocks of the cipher."""


class Terms(Bits64):
    """What a record says of its page beside the digest: the version it was exported under, what the guest may do to it, whether it is clean."""

    version: u64 = bits(55, 0)
    read: bool = bits(56)
    write: bool = bits(57)
    execute: bool = bits(58)
    clean: bool = bits(59)


@struct
class Record:
    """All that EL2 keeps of an exported page: 40 bytes."""

    digest: Array[u8, 32]
    terms: Terms


class Phase(Enum8):
    """What a job does next."""

    NOTHING = 0
    EXPORT = 1
    VERIFY = 2
    DECRYPT = 3


@struct
class Job:
    """An export or import under way: `position` bytes of its phase are done. `record` is what an export results in, once it is done."""

    phase: Phase
    position: u64
    record: Record
    hash: sha256.Sha256


def begin_export(job: Job, area: SimdArea, identity: u64, ipa: Ipa, terms: Terms) -> None:
    """Begin to export the page at `ipa` of the VM called `identity`. `terms.version` was never used under its key; a clean page is not writable."""
    assert not (terms.clean and terms.write), "a page that the guest may write is not clean"
    job.record.terms = terms
    _begin(job, area, identity, ipa, Phase.EXPORT)


def begin_import(job: Job, area: SimdArea, identity: u64, ipa: Ipa, record: Record) -> None:
    """Begin to import a page to `ipa` of the VM called `identity`, by the record of its export."""
    job.record.copy_from(record)
    _begin(job, area, identity, ipa, Phase.VERIFY)


def _begin(job: Job, area: SimdArea, identity: u64, ipa: Ipa, phase: Phase) -> None:
    """The header: 40 bytes that no other digest of EL2 begins with, then identity, address and terms."""
    header = Array[u8, 64]()
    header[:40].copy_from(text(b"Delphyne: a page of a protected guest, 1"))
    store_be64(header[:], 40, identity)
    store_be64(header[:], 48, ipa.raw)
    store_be64(header[:], 56, job.record.terms.raw)
    engine.start(job.hash)
    sha256.update(job.hash, area, header[:])
    job.phase = phase
    job.position = u64(0)


def step(job: Job, area: SimdArea, key: aes256.Key, page: Slice[u8], limit: u64) -> bool | Err:
    """Go on by at most `limit` bytes, a multiple of PIECE and not 0; True once all is done. `page` is the whole page, `area` this CPU's.

    An import goes over the page twice: it is verified, then decrypted. INTEGRITY where the page is not what the record says: the job is over,
    and the page is as it came."""
    assert job.phase is not Phase.NOTHING, "no job"
    assert page.length == PAGE_SIZE, "a page"
    assert limit != 0 and limit % PIECE == 0, "whole blocks"
    end = job.position + min(limit, PAGE_SIZE - job.position)
    piece = page[job.position : end]
    match job.phase:
        case Phase.EXPORT:
            if not job.record.terms.clean:
                _crypt(job, area, key, piece)
            sha256.update(job.hash, area, piece)
        case Phase.VERIFY:
            sha256.update(job.hash, area, piece)
        case Phase.DECRYPT:
            _crypt(job, area, key, piece)
        case Phase.NOTHING:
            unreachable()
    job.position = end
    return _end_phase(job, area) if end == PAGE_SIZE else False


def _crypt(job: Job, area: SimdArea, key: aes256.Key, piece: Slice[u8]) -> None:
    engine.crypt(area, key, aes256.Counter(job.record.terms.version, job.position // aes256.BLOCK_SIZE), piece)


def _end_phase(job: Job, area: SimdArea) -> bool | Err:
    """All of the page was gone over: what comes next."""
    phase = job.phase
    job.phase = Phase.NOTHING
    match phase:
        case Phase.EXPORT:
            sha256.finish(job.hash, area, job.record.digest[:])
            return True
        case Phase.VERIFY:
            digest = Array[u8, 32]()
            sha256.finish(job.hash, area, digest[:])
            if not engine.same(digest[:], job.record.digest[:]):
                return Err.INTEGRITY
            if job.record.terms.clean:
                return True
            job.phase = Phase.DECRYPT
            job.position = u64(0)
            return False
        case Phase.DECRYPT | Phase.NOTHING:
            return True
    unreachable()
