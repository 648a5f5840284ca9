# SPDX-License-Identifier: Apache-2.0
"""Instructions that compiled typed Python takes, against C with the same checks and against itself without checks.

Every subject runs on the bare EL2 machine under `-icount shift=0`, where the cycle counter counts instructions. A subject that gives
another result than its C twin is an error, not a figure.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from delphyne.bench import btf_data
from delphyne.board.bare import bare
from delphyne.board.bare.bare import Buffer, Case, Ending, Machine, Outcome
from delphyne.compiler.back.ir import AARCH64, emit
from delphyne.compiler.back.lower import lower
from delphyne.compiler.front import compile_modules

GCC = "aarch64-linux-gnu-gcc"
SOURCES = Path(__file__).resolve().parents[2] / "bench"
C_FLAGS = ["-O2", "-mgeneral-regs-only", "-ffreestanding", "-march=armv8-a", "-Wall", "-Wextra", "-Werror"]
PAGE = 4096
TABLES = 0x4800_0000
"""Where the tables of the walk lie: RAM beyond the image."""
SEALING = "delphyne.el2.sealing"
SUBJECTS = "subjects"


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured: the typed function, its C twin where there is one, the arguments of both, what runs before, and what to compare."""

    name: str
    symbol: str
    twin: str | None
    args: tuple[int | str, ...]
    prepare: tuple[int | str, ...] | None = None
    dump: tuple[str, int] | None = None
    amount: int = PAGE
    """Bytes or look-ups in one call."""

    def cases(self, python: bool) -> list[Case]:
        """The calls of one side: the preparation, if any, then the one that is measured."""
        symbol = self.symbol if python else str(self.twin)
        first = [Case(symbol.replace("_many", "_prepare"), self.prepare)] if self.prepare is not None else []
        return [*first, Case(symbol, self.args, self.dump)]


def _whole(buffer: str) -> tuple[str, str]:
    """Address and length of a buffer."""
    return buffer, f"{buffer}_end - {buffer}"


COUNTER = (0xF0F1F2F3F4F5F6F7, 0xF8F9FAFBFCFDFEFF)
AGAINST_C = (
    Subject("SHA-256", f"{SEALING}.sha256.compress", "c_sha256_compress", ("sha_state", "sha_page", PAGE), dump=("sha_state", 32)),
    Subject("bitsliced AES-256-CTR", f"{SEALING}.aes256.apply", "c_aes256_apply", ("aes_key", *COUNTER, "aes_page", PAGE), dump=("aes_page", PAGE)),
    Subject("page-table walk", f"{SUBJECTS}.walk_many", "c_walk_many", ("space", 1000), prepare=("space", TABLES, 16), amount=1000),
    Subject(
        "BTF scan",
        f"{SUBJECTS}.btf_scan",
        "c_btf_scan",
        ("btf_sections", *map(len, btf_data.sections()), *_whole("btf_names"), "btf_ends", len(btf_data.NAMES) + 1),
        amount=btf_data.TYPES,
    ),
    Subject("radix look-up", f"{SUBJECTS}.radix_many", "c_radix_many", (1000,), prepare=(), amount=1000),
)
BY_EXTENSIONS = (
    Subject("SHA-256, crypto extensions", f"{SEALING}.sha256_ce.compress", None, AGAINST_C[0].args, dump=AGAINST_C[0].dump),
    Subject("AES-256-CTR, crypto extensions", f"{SEALING}.aes256_ce.apply", None, AGAINST_C[1].args, dump=AGAINST_C[1].dump),
)
MODULES = ("delphyne.el2.sealing.sha256", "delphyne.el2.sealing.aes256", "delphyne.el2.sealing.aes256_ce", SOURCES / "subjects.py")


def buffers() -> list[Buffer]:
    """What the subjects work on, the same for every image."""
    types, strings = btf_data.sections()
    names, ends = btf_data.names()
    page = bytes(n * 7 & 0xFF for n in range(PAGE))
    initial = struct.pack("<8I", *(int(math.sqrt(p) % 1 * 2**32) for p in (2, 3, 5, 7, 11, 13, 17, 19)))
    parts = [
        ("sha_state", initial),
        ("sha_page", page),
        ("aes_key", hashlib.shake_256(b"round keys").digest(240)),
        ("aes_page", page),
        ("space", bytes(256)),
        ("btf_sections", types + strings),
        ("btf_names", names),
        ("btf_ends", ends),
    ]
    return [item for name, data in parts for item in (Buffer(name, data), Buffer(f"{name}_end", b"", align=1))]


def python_object(folder: Path, *, checked: bool) -> Path:
    """The object of all typed subjects, with or without the language's checks."""
    program = compile_modules(list(MODULES))
    for subject in (*AGAINST_C, *BY_EXTENSIONS):
        for case in subject.cases(python=True):
            program.functions[case.symbol].exported = True
    out = folder / ("checked.o" if checked else "unchecked.o")
    out.write_bytes(lower(emit(program, AARCH64, checked=checked, debug=False).text, AARCH64).data)
    return out


def c_objects(folder: Path) -> list[Path]:
    """The objects of the C twins."""
    out = []
    for source in sorted(SOURCES.glob("*.c")):
        out.append(folder / f"{source.stem}.o")
        bare.tool([GCC, *C_FLAGS, "-c", source, "-o", out[-1]])
    return out


def measure(folder: Path, name: str, objects: Sequence[Path], subjects: Sequence[Subject], *, python: bool) -> dict[str, Outcome]:
    """The outcome of each subject's measured call. Each subject has an image of its own, so that none finds what another left."""
    outcomes = {}
    for number, subject in enumerate(subjects):
        image = bare.build(objects, subject.cases(python), folder / f"{name}.{number}.elf", buffers=buffers())
        outcome = bare.run(image, Machine(icount=True))[-1]
        if outcome.ending is not Ending.VALUE:
            raise bare.BareError(f"{subject.name}: the call ended in {outcome.ending.name} {[hex(n) for n in outcome.numbers]}")
        outcomes[subject.name] = outcome
    return outcomes


def results_differ(subject: Subject, one: Outcome, other: Outcome) -> bool:
    """Whether two runs of a subject computed different things."""
    return one.dump != other.dump if subject.dump else one.numbers[0] != other.numbers[0]


def agree(checked: Mapping[str, Outcome], unchecked: Mapping[str, Outcome], c: Mapping[str, Outcome]) -> None:
    """Raise BareError where two sides of a subject, or the two ways of an algorithm, computed different things."""
    for subject in AGAINST_C:
        for side in (unchecked, c):
            if results_differ(subject, checked[subject.name], side[subject.name]):
                raise bare.BareError(f"{subject.name}: compiled Python and its twin computed different things")
    for subject, general in zip(BY_EXTENSIONS, AGAINST_C, strict=False):
        if results_differ(subject, checked[subject.name], checked[general.name]):
            raise bare.BareError(f"{subject.name}: the crypto extensions computed something else than general registers")


@dataclass(frozen=True, slots=True)
class Counts:
    """Instructions of each subject by name."""

    checked: dict[str, int]
    unchecked: dict[str, int]
    c: dict[str, int]
    text_bytes: int
    """Of the object with all typed subjects, checked."""


def count(folder: Path) -> Counts:
    """Measure everything; raises BareError where two sides disagree."""
    every = (*AGAINST_C, *BY_EXTENSIONS)
    checked_object = python_object(folder, checked=True)
    checked = measure(folder, "checked", [checked_object], every, python=True)
    unchecked = measure(folder, "unchecked", [python_object(folder, checked=False)], AGAINST_C, python=True)
    c = measure(folder, "c", c_objects(folder), AGAINST_C, python=False)
    agree(checked, unchecked, c)
    sizes = bare.tool(["aarch64-linux-gnu-size", checked_object]).splitlines()[1].split()
    return Counts(
        {name: outcome.instructions for name, outcome in checked.items()},
        {name: outcome.instructions for name, outcome in unchecked.items()},
        {name: outcome.instructions for name, outcome in c.items()},
        int(sizes[0]),
    )


def geometric_mean(ratios: Sequence[float]) -> float:
    """The n-th root of the product."""
    return math.exp(sum(map(math.log, ratios)) / len(ratios))
