# SPDX-License-Identifier: Apache-2.0
"""Export and import of a page in CPython, against hashlib and the library `cryptography`: whatever the cut, and what was changed is refused."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from bytes_of_the_language import array, piece
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from delphyne.el2.arch.err import Err
from delphyne.el2.sealing import aes256, engine, page
from delphyne.lang import Ipa, SimdArea, u64
from delphyne.lang.machine import Machine
from delphyne.lang.machine.layout import size_of

MATERIAL = bytes(range(32))
IDENTITY = 7
IPA = 0x4000_3000
PLAIN = b"".join(hashlib.sha256(bytes([n])).digest() for n in range(128))
FLAGS = ("read", "write", "execute", "clean")
WRITABLE = page.Terms(version=u64(9), read=True, write=True)
CLEAN = page.Terms(version=u64(9), read=True, execute=True, clean=True)

TERMS = st.builds(
    lambda version, read, write, execute, clean: page.Terms(
        version=u64(version), read=read, write=write and not clean, execute=execute, clean=clean
    ),
    st.integers(0, 2**56 - 1),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
WORDS = st.integers(0, 2**64 - 1)
FEW = settings(deadline=None, max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
"""By general registers a page takes CPython a second or two."""


@pytest.fixture(params=[2 << 12 | 2 << 4, 0], ids=["extensions", "general"])
def processor(request: pytest.FixtureRequest) -> Iterator[None]:
    with Machine(registers={"ID_AA64ISAR0_EL1": request.param, "ID_AA64PFR0_EL1": 0}):
        engine.choose()
        yield
    engine.CHOICE.copy_from(engine.Choice())


@pytest.fixture
def quick() -> Iterator[None]:
    """The crypto extensions: in CPython too the fewest steps."""
    with Machine(registers={"ID_AA64ISAR0_EL1": 2 << 12 | 2 << 4, "ID_AA64PFR0_EL1": 0}):
        engine.choose()
        yield
    engine.CHOICE.copy_from(engine.Choice())


def key_of(material: bytes) -> aes256.Key:
    key = aes256.Key()
    aes256.expand(key, piece(material))
    return key


def run(job: page.Job, held: Any, limit: int = 4096, material: bytes = MATERIAL) -> Err | None:
    """All of the job's pieces."""
    key, area = key_of(material), SimdArea()
    while True:
        done = page.step(job, area, key, held[:], u64(limit))
        assert area.depth == 0
        if isinstance(done, Err):
            return done
        if done:
            return None


def exported(plain: bytes, identity: int, ipa: int, terms: page.Terms, limit: int = 4096) -> tuple[bytes, page.Record]:
    job, held = page.Job(), array(plain)
    page.begin_export(job, SimdArea(), u64(identity), Ipa(u64(ipa)), terms)
    assert run(job, held, limit) is None
    return bytes(held), job.record


def imported(data: bytes, identity: int, ipa: int, record: page.Record, limit: int = 4096) -> tuple[bytes, Err | None]:
    job, held = page.Job(), array(data)
    page.begin_import(job, SimdArea(), u64(identity), Ipa(u64(ipa)), record)
    result = run(job, held, limit)
    return bytes(held), result


def expected(plain: bytes, identity: int, ipa: int, terms: page.Terms) -> tuple[bytes, bytes]:
    word = int(terms.version) | sum(getattr(terms, name) << 56 + bit for bit, name in enumerate(FLAGS))
    encryptor = Cipher(algorithms.AES(MATERIAL), modes.CTR(struct.pack(">QQ", terms.version, 0))).encryptor()
    shown = plain if terms.clean else encryptor.update(plain)
    header = b"Delphyne: a page of a protected guest, 1" + struct.pack(">QQQ", identity, ipa, word)
    return shown, hashlib.sha256(header + shown).digest()


@FEW
@given(seed=st.binary(min_size=1, max_size=64), identity=WORDS, ipa=WORDS, terms=TERMS)
def test_equals_the_libraries_and_comes_back(processor: None, seed: bytes, identity: int, ipa: int, terms: page.Terms) -> None:
    plain = (seed * 4096)[:4096]
    shown, record = exported(plain, identity, ipa, terms)
    assert (shown, bytes(record.digest)) == expected(plain, identity, ipa, terms)
    assert record.terms == terms
    assert imported(shown, identity, ipa, record) == (plain, None)


@pytest.mark.parametrize("limit", [64, 192, 1024, 2048, 4032, 4096, 2**64 - 64])
def test_pieces_of_every_size_give_the_same(quick: None, limit: int) -> None:
    shown, record = exported(PLAIN, IDENTITY, IPA, WRITABLE, limit)
    assert (shown, bytes(record.digest)) == expected(PLAIN, IDENTITY, IPA, WRITABLE)
    assert imported(shown, IDENTITY, IPA, record, limit) == (PLAIN, None)


def test_a_step_does_no_more_than_it_may(quick: None) -> None:
    job, held, key = page.Job(), array(PLAIN), key_of(MATERIAL)
    page.begin_export(job, SimdArea(), u64(IDENTITY), Ipa(u64(IPA)), WRITABLE)
    for done in range(1024, 4096, 1024):
        assert page.step(job, SimdArea(), key, held[:], u64(1024)) is False
        assert bytes(held)[done:] == PLAIN[done:]
        assert bytes(held)[done - 64 : done] != PLAIN[done - 64 : done]
    assert page.step(job, SimdArea(), key, held[:], u64(1024)) is True


def test_a_record_has_40_bytes() -> None:
    assert size_of(page.Record) == 40


def test_a_clean_page_is_shown_as_it_is(quick: None) -> None:
    shown, record = exported(PLAIN, IDENTITY, IPA, CLEAN)
    assert shown == PLAIN
    assert imported(shown, IDENTITY, IPA, record) == (PLAIN, None)


def test_versions_share_no_key_stream(quick: None) -> None:
    streams = set()
    for version in (0, 1, 2**56 - 1):
        shown, _ = exported(bytes(4096), IDENTITY, IPA, page.Terms(version=u64(version), write=True))
        streams |= {shown[at : at + 16] for at in range(0, 4096, 16)}
    assert len(streams) == 3 * 256


@settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(bit=st.integers(0, 4096 * 8 - 1), terms=st.sampled_from([WRITABLE, CLEAN]))
def test_a_flipped_bit_of_the_page_is_refused_and_nothing_decrypted(quick: None, bit: int, terms: page.Terms) -> None:
    shown, record = exported(PLAIN, IDENTITY, IPA, terms)
    wrong = bytearray(shown)
    wrong[bit >> 3] ^= 1 << (bit & 7)
    assert imported(bytes(wrong), IDENTITY, IPA, record, 1024) == (bytes(wrong), Err.INTEGRITY)


@settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(bit=st.integers(0, 63), where=st.sampled_from(["digest", "terms", "identity", "ipa"]), terms=st.sampled_from([WRITABLE, CLEAN]))
def test_a_flipped_bit_of_record_or_place_is_refused(quick: None, bit: int, where: str, terms: page.Terms) -> None:
    shown, record = exported(PLAIN, IDENTITY, IPA, terms)
    identity, ipa = IDENTITY, IPA
    match where:
        case "digest":
            record.digest[bit >> 1] = record.digest[bit >> 1] ^ (1 << (bit & 7))
        case "terms":
            record.terms = page.Terms.of(record.terms.raw ^ (1 << bit))
        case "identity":
            identity ^= 1 << bit
        case "ipa":
            ipa ^= 1 << bit
    assert imported(shown, identity, ipa, record) == (shown, Err.INTEGRITY)


def test_an_older_page_is_refused_by_the_newer_record(quick: None) -> None:
    older, _ = exported(PLAIN, IDENTITY, IPA, WRITABLE)
    _, newer = exported(PLAIN, IDENTITY, IPA, WRITABLE.replace(version=u64(10)))
    assert imported(older, IDENTITY, IPA, newer) == (older, Err.INTEGRITY)


@pytest.mark.parametrize(("size", "limit"), [(4096, 0), (4096, 100), (4032, 4096)])
def test_what_is_no_page_or_no_whole_block_traps(quick: None, size: int, limit: int) -> None:
    job = page.Job()
    page.begin_export(job, SimdArea(), u64(IDENTITY), Ipa(u64(IPA)), WRITABLE)
    with pytest.raises(AssertionError):
        page.step(job, SimdArea(), key_of(MATERIAL), piece(PLAIN[:size]), u64(limit))


def test_a_job_that_is_over_goes_no_further(quick: None) -> None:
    shown, record = exported(PLAIN, IDENTITY, IPA, WRITABLE)
    job, held = page.Job(), array(bytes(1) + shown[1:])
    page.begin_import(job, SimdArea(), u64(IDENTITY), Ipa(u64(IPA)), record)
    assert run(job, held) is Err.INTEGRITY
    with pytest.raises(AssertionError, match="no job"):
        run(job, held)


def test_a_page_that_may_be_written_is_not_clean(quick: None) -> None:
    with pytest.raises(AssertionError):
        page.begin_export(page.Job(), SimdArea(), u64(IDENTITY), Ipa(u64(IPA)), CLEAN.replace(write=True))
