# SPDX-License-Identifier: Apache-2.0
"""HMAC_DRBG in CPython: published answers, another implementation beside it, its limits; and the machine's generator.

The answers are the first ones of their sections in NIST's DRBG test vectors (CAVS 14.3, HMAC_DRBG.rsp, [SHA-256], no prediction resistance):
`drbgvectors_no_reseed` and `drbgvectors_pr_false`. The second of two requests of 1024 bits is compared, as there.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator

import pytest
from bytes_of_the_language import array, piece
from hypothesis import given, settings
from hypothesis import strategies as st

from delphyne.el2.arch.err import Err
from delphyne.el2.sealing import drbg, engine, generator, sha256
from delphyne.lang import SimdArea, u64
from delphyne.lang.machine import Machine

NO_RESEED = [
    (
        "ca851911349384bffe89de1cbdc46e6831e44d34a4fb935ee285dd14b71a7488",
        "659ba96c601dc69fc902940805ec0ca8",
        "",
        ("", ""),
        "e528e9abf2dece54d47c7e75e5fe302149f817ea9fb4bee6f4199697d04d5b89d54fbb978a15b5c443c9ec21036d2460b6f73ebad0dc2aba6e624abf07745bc1"
        "07694bb7547bb0995f70de25d6b29e2d3011bb19d27676c07162c8b5ccde0668961df86803482cb37ed6d5c0bb8d50cf1f50d476aa0458bdaba806f48be9dcb8",
    ),
    (
        "79737479ba4e7642a221fcfd1b820b134e9e3540a35bb48ffae29c20f5418ea3",
        "3593259c092bef4129bc2c6c9e19f343",
        "",
        ("", ""),
        "cf5ad5984f9e43917aa9087380dac46e410ddc8a7731859c84e9d0f31bd43655b924159413e2293b17610f211e09f770f172b8fb693a35b85d3b9e5e63b1dc25"
        "2ac0e115002e9bedfb4b5b6fd43f33b8e0eafb2d072e1a6fee1f159df9b51e6c8da737e60d5032dd30544ec51558c6f080bdbdab1de8a939e961e06b5f1aca37",
    ),
    (
        "5d3286bc53a258a53ba781e2c4dcd79a790e43bbe0e89fb3eed39086be34174b",
        "c5422294b7318952ace7055ab7570abf",
        "2dba094d008e150d51c4135bb2f03dcde9cbf3468a12908a1b025c120c985b9d",
        ("793a7ef8f6f0482beac542bb785c10f8b7b406a4de92667ab168ecc2cf7573c6", "2238cdb4e23d629fe0c2a83dd8d5144ce1a6229ef41dabe2a99ff722e510b530"),
        "d04678198ae7e1aeb435b45291458ffde0891560748b43330eaf866b5a6385e74c6fa5a5a44bdb284d436e98d244018d6acedcdfa2e9f499d8089e4db86ae89a"
        "6ab2d19cb705e2f048f97fb597f04106a1fa6a1416ad3d859118e079a0c319eb95686f4cbcce3b5101c7a0b010ef029c4ef6d06cdfac97efb9773891688c37cf",
    ),
]
RESEED = [
    (
        "06032cd5eed33f39265f49ecb142c511da9aff2af71203bffaf34a9ca5bd9c0d",
        "0e66f71edc43e42a45ad3c6fc6cdc4df",
        ("01920a4e669ed3a85ae8a33b35a74ad7fb2a6bb4cf395ce00334a9c9a5a5d552", ""),
        ("", ""),
        "76fc79fe9b50beccc991a11b5635783a83536add03c157fb30645e611c2898bb2b1bc215000209208cd506cb28da2a51bdb03826aaf2bd2335d576d519160842"
        "e7158ad0949d1a9ec3e66ea1b1a064b005de914eac2e9d4f2d72a8616a80225422918250ff66a41bd2f864a6a38cc5b6499dc43f7f2bd09e1e0f8f5885935124",
    ),
    (
        "05ac9fc4c62a02e3f90840da5616218c6de5743d66b8e0fbf833759c5928b53d",
        "2b89a17904922ed8f017a63044848545",
        ("2791126b8b52ee1fd9392a0a13e0083bed4186dc649b739607ac70ec8dcecf9b", "43bac13bae715092cf7eb280a2e10a962faf7233c41412f69bc74a35a584e54c"),
        ("3f2fed4b68d506ecefa21f3f5bb907beb0f17dbc30f6ffbba5e5861408c53a1e", "529030df50f410985fde068df82b935ec23d839cb4b269414c0ede6cffea5b68"),
        "02ddff5173da2fcffa10215b030d660d61179e61ecc22609b1151a75f1cbcbb4363c3a89299b4b63aca5e581e73c860491010aa35de3337cc6c09ebec8c91a62"
        "87586f3a74d9694b462d2720ea2e11bbd02af33adefb4a16e6b370fa0effd57d607547bdcfbb7831f54de7073ad2a7da987a0016a82fa958779a168674b56524",
    ),
]
FAST = 2 << 12
"""ID_AA64ISAR0_EL1 of a processor with SHA-256."""


class Other:
    """The generator once more, in plain Python, as SP 800-90A section 10.1.2 has it."""

    def __init__(self, seed: bytes) -> None:
        self.key, self.value = bytes(32), b"\1" * 32
        self.update(seed)

    def mac(self, data: bytes) -> bytes:
        return hmac.digest(self.key, data, "sha256")

    def update(self, data: bytes) -> None:
        for mark in (b"\0", b"\1") if data else (b"\0",):
            self.key = self.mac(self.value + mark + data)
            self.value = self.mac(self.value)

    def generate(self, additional: bytes, length: int) -> bytes:
        if additional:
            self.update(additional)
        out = b""
        while len(out) < length:
            self.value = self.mac(self.value)
            out += self.value
        self.update(additional)
        return out[:length]


@pytest.fixture(params=[FAST, 0], ids=["extensions", "general"])
def processor(request: pytest.FixtureRequest) -> Iterator[None]:
    with Machine(registers={"ID_AA64ISAR0_EL1": request.param, "ID_AA64PFR0_EL1": 0}):
        engine.choose()
        yield
    engine.CHOICE.copy_from(engine.Choice())


def instantiated(entropy: bytes, nonce: bytes = b"", personalization: bytes = b"") -> drbg.Drbg:
    state = drbg.Drbg()
    drbg.instantiate(state, SimdArea(), piece(entropy), piece(nonce), piece(personalization))
    return state


def generated(state: drbg.Drbg, length: int, additional: bytes = b"") -> bytes:
    out = array(bytes(length))
    assert drbg.generate(state, SimdArea(), piece(additional), out[:length]) is None
    return bytes(out)[:length]


@pytest.mark.parametrize("vector", NO_RESEED)
def test_published_answers(processor: None, vector: tuple[str, str, str, tuple[str, str], str]) -> None:
    entropy, nonce, personalization, additional, answer = vector
    state = instantiated(bytes.fromhex(entropy), bytes.fromhex(nonce), bytes.fromhex(personalization))
    outputs = [generated(state, 128, bytes.fromhex(more)) for more in additional]
    assert outputs[1].hex() == answer


@pytest.mark.parametrize("vector", RESEED)
def test_published_answers_after_a_new_seed(processor: None, vector: tuple[str, str, tuple[str, str], tuple[str, str], str]) -> None:
    entropy, nonce, (new, with_it), additional, answer = vector
    state = instantiated(bytes.fromhex(entropy), bytes.fromhex(nonce))
    assert drbg.reseed(state, SimdArea(), piece(bytes.fromhex(new)), piece(bytes.fromhex(with_it))) is None
    outputs = [generated(state, 128, bytes.fromhex(more)) for more in additional]
    assert outputs[1].hex() == answer


@settings(deadline=None, max_examples=15)
@given(
    seed=st.tuples(st.binary(min_size=1, max_size=100), st.binary(max_size=40), st.binary(max_size=40)),
    requests=st.lists(st.tuples(st.booleans(), st.binary(max_size=70), st.integers(0, 100)), max_size=3),
)
def test_equals_the_other_implementation(seed: tuple[bytes, bytes, bytes], requests: list[tuple[bool, bytes, int]]) -> None:
    state, other = instantiated(*seed), Other(b"".join(seed))
    for again, more, length in requests:
        if again:
            assert drbg.reseed(state, SimdArea(), piece(b"new" + more), piece(more)) is None
            other.update(b"new" + more + more)
        assert generated(state, length, more) == other.generate(more, length)
    assert (bytes(state.key), bytes(state.value)) == (other.key, other.value)


def test_nothing_without_a_seed() -> None:
    state, out = drbg.Drbg(), array(bytes(8))
    assert drbg.generate(state, SimdArea(), piece(b""), out[:]) is Err.STATE
    assert drbg.reseed(state, SimdArea(), piece(bytes(32)), piece(b"")) is Err.STATE
    assert bytes(out) == bytes(8)
    assert (bytes(state.key), int(state.requests)) == (bytes(32), 0)


def test_the_seed_is_forgotten() -> None:
    state = instantiated(b"entropy")
    drbg.uninstantiate(state)
    assert (bytes(state.key), bytes(state.value), int(state.requests)) == (bytes(32), bytes(32), 0)
    assert drbg.generate(state, SimdArea(), piece(b""), piece(bytes(8))) is Err.STATE


def test_a_seed_serves_so_many_requests_and_no_more() -> None:
    state, out = instantiated(b"entropy"), array(bytes(8))
    assert int(state.requests) == 1
    state.requests = u64(1 << 48)
    generated(state, 8)
    before = bytes(state.key)
    assert drbg.generate(state, SimdArea(), piece(b""), out[:]) is Err.STATE
    assert (bytes(out), bytes(state.key)) == (bytes(8), before)
    assert drbg.reseed(state, SimdArea(), piece(b"new"), piece(b"")) is None
    assert int(state.requests) == 1
    generated(state, 8)


def test_a_request_has_so_many_bytes_and_no_more() -> None:
    state, other = instantiated(b"entropy"), Other(b"entropy")
    assert drbg.generate(state, SimdArea(), piece(b""), array(bytes(65537))[:]) is Err.RANGE
    assert int(state.requests) == 1
    assert generated(state, 100) == other.generate(b"", 100)


def test_the_machine_has_one_generator(processor: None) -> None:
    drbg.uninstantiate(generator.GENERATOR)
    out = array(bytes(40))
    assert generator.fill(SimdArea(), out[:]) is Err.STATE
    assert bytes(out) == bytes(40)
    generator.seed(SimdArea(), piece(b"entropy"), piece(b"nonce"))
    other = Other(b"entropynonceDelphyne")
    for _ in range(2):
        assert generator.fill(SimdArea(), out[:]) is None
        assert bytes(out) == other.generate(b"", 40)
    assert not generator.LOCK.held
    drbg.uninstantiate(generator.GENERATOR)


def test_seeds_are_worked_on_with_independent_timing_where_it_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[int] = set()
    update = sha256.update
    with Machine(registers={"ID_AA64ISAR0_EL1": FAST, "ID_AA64PFR0_EL1": 1 << 48, "DIT": 0}) as machine:
        monkeypatch.setattr(sha256, "update", lambda *given: (seen.add(machine.read_register("DIT")), update(*given)))
        engine.choose()
        generated(instantiated(b"entropy"), 8)
        assert machine.read_register("DIT") == 0
    engine.CHOICE.copy_from(engine.Choice())
    assert seen == {1 << 24}
