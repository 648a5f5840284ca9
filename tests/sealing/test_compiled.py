# SPDX-License-Identifier: Apache-2.0
"""The compiled cryptography at EL2: published vectors, every length about the edges of a batch, and no key left on the stack."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from delphyne.board.bare.bare import AS, Buffer, Case, Ending, Outcome, build, run, tool
from delphyne.compiler.back.ir import AARCH64, emit
from delphyne.compiler.back.lower import lower
from delphyne.compiler.front import compile_modules

SEALING = "delphyne.el2.sealing"
KEY = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
COUNTER = (0xF0F1F2F3F4F5F6F7, 0xFFFFFFFFFFFFFFFA)
DATA = bytes(n * 13 & 0xFF for n in range(300))
LENGTHS = (0, 1, 15, 16, 63, 64, 65, 127, 128, 129, 271, 300)
STACK = 8192
CALLED = ("aes256.expand", "aes256.apply", "aes256_ce.apply", "sha256.start", "sha256.update", "sha256.finish")
PAGE_CALLS = ("engine.choose", "page.begin_export", "page.begin_import", "page.step")
DRBG_CALLS = ("drbg.instantiate", "drbg.generate")
PAGE = 4096
IDENTITY, IPA, TERMS = 7, 0x4000_3000, 9 | 3 << 56
INTEGRITY = 15
RECORD = "job + 16"
"""Where a job holds its record."""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = compile_modules([f"{SEALING}.{name}" for name in ("aes256", "aes256_ce", "sha256", "engine", "page", "drbg")])
    for name in (*CALLED, *PAGE_CALLS, *DRBG_CALLS):
        program.functions[f"{SEALING}.{name}"].exported = True
    out = tmp_path_factory.mktemp("sealing") / "program.o"
    out.write_bytes(lower(emit(program, AARCH64).text, AARCH64).data)
    support = out.with_name("support.S")
    support.write_text(".globl simd_enter, simd_leave\nsimd_enter: ret\nsimd_leave: ret\n")
    return out


def outcomes(compiled: Path, cases: list[Case], buffers: list[Buffer]) -> list[Outcome]:
    support = compiled.with_name("support.o")
    tool([AS, "-o", support, compiled.with_name("support.S")])
    return run(build([compiled, support], cases, compiled.with_name("image.elf"), buffers=buffers))


@pytest.mark.parametrize("name", ["aes256.apply", "aes256_ce.apply"])
def test_ciphers_equal_the_library_at_every_edge(compiled: Path, name: str) -> None:
    cases = [Case(f"{SEALING}.aes256.expand", ("key", "material", 32))]
    buffers = [Buffer("key", bytes(240)), Buffer("material", KEY)]
    for length in LENGTHS:
        cases.append(Case(f"{SEALING}.{name}", ("key", *COUNTER, f"data{length}", length), dump=(f"data{length}", length + 1)))
        buffers.append(Buffer(f"data{length}", DATA[:length] + b"\xa5"))
    encryptor = Cipher(algorithms.AES(KEY), modes.CTR(struct.pack(">QQ", *COUNTER))).encryptor()
    stream = encryptor.update(DATA)
    results = outcomes(compiled, cases, buffers)
    assert [outcome.ending for outcome in results] == [Ending.VALUE] * len(cases)
    assert [outcome.dump for outcome in results[1:]] == [stream[:length] + b"\xa5" for length in LENGTHS]


@pytest.mark.parametrize("extensions", [0, 1])
def test_digests_equal_hashlib_at_every_edge(compiled: Path, extensions: int) -> None:
    cases: list[Case] = []
    for length in LENGTHS:
        cases.append(Case(f"{SEALING}.sha256.start", ("context", extensions)))
        cases.append(Case(f"{SEALING}.sha256.update", ("context", "area", "data", length // 3)))
        cases.append(Case(f"{SEALING}.sha256.update", ("context", "area", f"data + {length // 3}", length - length // 3)))
        cases.append(Case(f"{SEALING}.sha256.finish", ("context", "area", "digest", 32), dump=("digest", 32)))
    buffers = [Buffer("context", bytes(128)), Buffer("area", bytes(1024)), Buffer("data", DATA), Buffer("digest", bytes(32))]
    results = outcomes(compiled, cases, buffers)
    assert [outcome.dump for outcome in results[3::4]] == [hashlib.sha256(DATA[:length]).digest() for length in LENGTHS]


def page_cases(extensions: bool, limit: int) -> tuple[list[Case], Case, list[Buffer]]:
    """Key and export of a page of DATA, what goes on with a job, and the buffers. The key's schedule is the first case's dump."""
    go_on = Case(f"{SEALING}.page.step", ("job", "area", "key", "page", PAGE, limit), dump=("page", PAGE))
    cases = [Case(f"{SEALING}.engine.choose")] if extensions else []
    cases.append(Case(f"{SEALING}.aes256.expand", ("key", "material", 32), dump=("key", 240)))
    cases.append(Case(f"{SEALING}.page.begin_export", ("job", "area", IDENTITY, IPA, TERMS)))
    cases += [go_on] * -(-PAGE // limit)
    buffers = [Buffer("key", bytes(240)), Buffer("material", KEY), Buffer("job", bytes(256)), Buffer("area", bytes(1024)), Buffer("page", plain())]
    return cases, go_on, buffers


def plain() -> bytes:
    return (DATA * 14)[:PAGE]


@pytest.mark.parametrize("limit", [1024, 4032, PAGE])
@pytest.mark.parametrize("extensions", [False, True])
def test_pages_are_exported_as_the_libraries_say_and_come_back(compiled: Path, extensions: bool, limit: int) -> None:
    export, go_on, buffers = page_cases(extensions, limit)
    export[-1] = Case(go_on.symbol, go_on.args, dump=("page", PAGE))
    shown = Case("bare_nothing", dump=(RECORD, 40))
    back = [Case(f"{SEALING}.page.begin_import", ("job", "area", IDENTITY, IPA, RECORD)), *[go_on] * (2 * -(-PAGE // limit))]
    results = outcomes(compiled, [*export, shown, *back], buffers)
    assert [outcome.ending for outcome in results] == [Ending.VALUE] * len(results)
    secret = Cipher(algorithms.AES(KEY), modes.CTR(struct.pack(">QQ", 9, 0))).encryptor().update(plain())
    header = b"Delphyne: a page of a protected guest, 1" + struct.pack(">QQQ", IDENTITY, IPA, TERMS)
    assert results[len(export) - 1].dump == secret
    assert results[len(export)].dump == hashlib.sha256(header + secret).digest() + struct.pack("<Q", TERMS)
    assert results[-1].dump == plain()


@pytest.mark.parametrize("extensions", [False, True])
def test_a_page_that_was_changed_stays_as_it_is(compiled: Path, extensions: bool) -> None:
    export, go_on, buffers = page_cases(extensions, PAGE)
    begin = Case(f"{SEALING}.page.begin_import", ("job", "area", IDENTITY, IPA + PAGE, RECORD))
    results = outcomes(compiled, [*export, begin, go_on], buffers)
    assert INTEGRITY in results[-1].numbers
    assert results[-1].dump == results[-3].dump != plain()


@pytest.mark.parametrize("extensions", [False, True])
def test_no_round_key_of_a_page_stays_on_the_stack(compiled: Path, extensions: bool) -> None:
    cases, go_on, buffers = page_cases(extensions, PAGE)
    cases[-1] = Case(go_on.symbol, go_on.args, dump=(f"bare_stack_top - {STACK}", STACK))
    results = outcomes(compiled, cases, buffers)
    schedule = results[-3].dump
    assert schedule[:32] == KEY
    stack = {results[-1].dump[at : at + 8] for at in range(0, STACK, 8)}
    assert not stack & ({schedule[at : at + 8] for at in range(0, 240, 8)} | sliced_words(schedule))


@pytest.mark.parametrize("name", ["aes256.apply", "aes256_ce.apply"])
def test_no_round_key_stays_on_the_stack(compiled: Path, name: str) -> None:
    cases = [
        Case(f"{SEALING}.aes256.expand", ("key", "material", 32), dump=("key", 240)),
        Case(f"{SEALING}.{name}", ("key", *COUNTER, "data", 300), dump=(f"bare_stack_top - {STACK}", STACK)),
    ]
    buffers = [Buffer("key", bytes(240)), Buffer("material", KEY), Buffer("data", DATA)]
    schedule, call = outcomes(compiled, cases, buffers)
    stack = {call.dump[at : at + 8] for at in range(0, STACK, 8)}
    assert not stack & {schedule.dump[at : at + 8] for at in range(0, 240, 8)}
    assert not stack & sliced_words(schedule.dump)


def test_the_key_schedule_leaves_nothing_on_the_stack(compiled: Path) -> None:
    expand = Case(f"{SEALING}.aes256.expand", ("key", "material", 32), dump=(f"bare_stack_top - {STACK}", STACK))
    shown = Case("bare_nothing", dump=("key", 240))
    call, schedule = outcomes(compiled, [expand, shown], [Buffer("key", bytes(240)), Buffer("material", KEY)])
    assert schedule.dump[:32] == KEY
    stack = {call.dump[at : at + 8] for at in range(0, STACK, 8)}
    assert not stack & {schedule.dump[at : at + 8] for at in range(0, 240, 8)}


DRBG_BYTES = 72
"""Key, V and the number of requests."""


@pytest.mark.parametrize("extensions", [False, True])
def test_the_generator_gives_the_published_answer_and_leaves_nothing_on_the_stack(compiled: Path, extensions: bool) -> None:
    """COUNT = 0 of CAVS 14.3, HMAC_DRBG.rsp of `drbgvectors_no_reseed`, [SHA-256]."""
    entropy = bytes.fromhex("ca851911349384bffe89de1cbdc46e6831e44d34a4fb935ee285dd14b71a7488659ba96c601dc69fc902940805ec0ca8")
    answer = "e528e9abf2dece54d47c7e75e5fe302149f817ea9fb4bee6f4199697d04d5b89d54fbb978a15b5c443c9ec21036d2460b6f73ebad0dc2aba6e624abf07745bc1"
    none, state = ("entropy", 0), Case("bare_nothing", dump=("state", DRBG_BYTES))
    cases = [Case(f"{SEALING}.engine.choose")] if extensions else []
    cases += [Case(f"{SEALING}.drbg.instantiate", ("state", "area", "entropy", 32, "entropy + 32", 16, *none)), state]
    cases += [Case(f"{SEALING}.drbg.generate", ("state", "area", *none, "out", 128), dump=(f"bare_stack_top - {STACK}", STACK)), state]
    cases += [Case(f"{SEALING}.drbg.generate", ("state", "area", *none, "out", 128), dump=("out", 128))]
    buffers = [Buffer("state", bytes(DRBG_BYTES)), Buffer("area", bytes(1024)), Buffer("entropy", entropy), Buffer("out", bytes(128))]
    *_, before, call, after, second = outcomes(compiled, cases, buffers)
    assert second.dump[:64].hex() == answer
    stack = {call.dump[at : at + 4] for at in range(0, STACK, 4)}
    assert not stack & (padded_words(before.dump[:64]) | padded_words(after.dump[:64]))


def padded_words(data: bytes) -> set[bytes]:
    """The words of a secret as HMAC and SHA-256 hold them: as they are and with both pads, in both byte orders."""
    words = {bytes(byte ^ pad for byte in data[at : at + 4]) for at in range(0, len(data), 4) for pad in (0, 0x36, 0x5C)}
    return words | {word[::-1] for word in words}


def sliced_words(schedule: bytes) -> set[bytes]:
    """The words of the bitsliced round keys: bit 16 * row + 4 * column + block of word n is bit n of the byte at that row and column."""
    words = set()
    for start in range(0, 240, 16):
        for bit in range(8):
            word = 0
            for place in range(64):
                row, column = place >> 4, place >> 2 & 3
                word |= (schedule[start + 4 * column + row] >> bit & 1) << place
            words.add(word.to_bytes(8, "little"))
    return words
