# SPDX-License-Identifier: Apache-2.0
"""Compiled functions over secrets run the same instructions on the same addresses whatever the secrets are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import traces

from delphyne.board.bare.bare import AS, Buffer, Case, build, tool
from delphyne.compiler.back.ir import AARCH64, emit
from delphyne.compiler.back.lower import lower
from delphyne.compiler.front import compile_modules
from delphyne.el2.sealing.page import Phase

SEALING = "delphyne.el2.sealing"
EL2 = Path(__file__).resolve().parents[2] / "delphyne" / "el2"
LENGTH = 150
"""Two batches of the bitsliced cipher and a rest; one batch of eight blocks, a single block and a rest by the extensions."""

KEEPS = {
    "expand": Case(f"{SEALING}.aes256.expand", ("schedule", "secret", 32)),
    "bitsliced": Case(f"{SEALING}.aes256.apply", ("secret", 1, 2, "data", LENGTH)),
    "extensions": Case(f"{SEALING}.aes256_ce.apply", ("secret", 1, 2, "data", LENGTH)),
    "forget": Case(f"{SEALING}.aes256.forget", ("secret",)),
    "digest": Case(f"{SEALING}.sha256.compress", ("state", "secret", 128)),
    "digest by extensions": Case(f"{SEALING}.sha256_ce.compress", ("state", "secret", 128)),
    "export of a piece": Case(f"{SEALING}.page.step", ("exporting", "area", "secret", "page", 4096, 128)),
    "import of a piece": Case(f"{SEALING}.page.step", ("decrypting", "area", "secret", "page", 4096, 128)),
    "random bytes": Case(f"{SEALING}.drbg.generate", ("generator", "area", "data", 0, "data", 40)),
    "comparison": Case("leaky.same", ("secret", 64, "data", 64)),
}
LEAKS = {
    "table look-up": Case("leaky.looks_up", ("secret", 8)),
    "secret branch": Case("leaky.branches", ("secret", 8, "data", 8)),
    "secret number of rounds": Case("leaky.counts", ("secret", 8)),
}
JOBS = {"exporting": Phase.EXPORT, "decrypting": Phase.DECRYPT}
"""Jobs in the middle of a page: the phase is their first byte."""
COVERED = {"sealing/aes256.py", "sealing/aes256_ce.py"}
"""The files of EL2 that handle secrets; all of their functions are reached by the calls above."""

Trace = Callable[[Case, bytes], list[tuple[int, int | None]]]


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    folder = tmp_path_factory.mktemp("constant_time")
    modules = [f"{SEALING}.{name}" for name in ("aes256", "aes256_ce", "sha256", "sha256_ce", "page", "drbg")]
    program = compile_modules([*modules, "leaky"])
    for case in (*KEEPS.values(), *LEAKS.values()):
        program.functions[case.symbol].exported = True
    compiled = folder / "program.o"
    compiled.write_bytes(lower(emit(program, AARCH64).text, AARCH64).data)

    support = folder / "support.o"
    support.with_suffix(".S").write_text(".globl simd_enter, simd_leave\nsimd_enter: ret\nsimd_leave: ret\n")
    tool([AS, "-o", support, support.with_suffix(".S")])

    def run(case: Case, secret: bytes) -> list[tuple[int, int | None]]:
        buffers = [Buffer("secret", secret), Buffer("schedule", bytes(240)), Buffer("state", bytes(32)), Buffer("data", bytes(range(LENGTH)))]
        buffers += [Buffer(name, bytes([phase.raw]) + bytes(255)) for name, phase in JOBS.items()]
        buffers += [Buffer("area", bytes(256)), Buffer("page", (secret * 16)[:4096]), Buffer("generator", secret[:64] + bytes([1, *bytes(7)]))]
        return traces.trace(build([compiled, support], [case], folder / "image.elf", buffers=buffers))

    return run


SECRETS = (bytes(256), bytes(range(256)), bytes(255 - n for n in range(256)))


@pytest.mark.parametrize("case", KEEPS.values(), ids=KEEPS)
def test_secrets_decide_neither_instructions_nor_addresses(trace: Trace, case: Case) -> None:
    first, *others = (trace(case, secret) for secret in SECRETS)
    assert len(first) > 20
    assert any(address is not None for _, address in first)
    for other in others:
        different = next((number for number, pair in enumerate(zip(first, other, strict=False)) if pair[0] != pair[1]), None)
        assert different is None, f"step {different}: {first[different]} and {other[different]}"
        assert len(first) == len(other)


@pytest.mark.parametrize("case", LEAKS.values(), ids=LEAKS)
def test_leaks_are_seen(trace: Trace, case: Case) -> None:
    assert trace(case, SECRETS[0]) != trace(case, SECRETS[1][1:] + bytes(1))


def test_every_file_over_secrets_is_covered() -> None:
    over_secrets = {str(path.relative_to(EL2)) for path in EL2.rglob("*.py") if "Secret[" in path.read_text() or "declassify(" in path.read_text()}
    assert over_secrets == COVERED
