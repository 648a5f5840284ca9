# SPDX-License-Identifier: Apache-2.0
"""Runs compiled functions at EL2 in QEMU, many calls in one boot.

`build` links objects with the small start-up code of this folder and a table of calls; `run` boots the image and reports, for each call,
the value, the trap (site and operands) or the exception that ended it, the instructions it took where `icount` is set, and the bytes of
the buffer that was named. Calls run one after the other on one machine: statics and buffers keep what earlier calls left.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

HERE = Path(__file__).parent
AS = "aarch64-linux-gnu-as"
LD = "aarch64-linux-gnu-ld"
QEMU = "qemu-system-aarch64"
PACKAGES = {
    AS: "binutils-aarch64-linux-gnu",
    LD: "binutils-aarch64-linux-gnu",
    "aarch64-linux-gnu-objdump": "binutils-aarch64-linux-gnu",
    "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu",
    QEMU: "qemu-system-arm",
}
ARGUMENTS = 8


class BareError(Exception):
    """A tool is missing, an image does not link, or the machine died; the text is one message for the user."""


@dataclass(frozen=True, slots=True)
class Buffer:
    """Memory that a call may be given: its symbol, its contents and its alignment in bytes."""

    name: str
    data: bytes
    align: int = 16


@dataclass(frozen=True, slots=True)
class Case:
    """One call. An argument is a 64-bit number or a symbol expression such as `"page + 8"`; `dump` names a symbol and a byte count."""

    symbol: str
    args: Sequence[int | str] = ()
    dump: tuple[str, int] | None = None


class Ending(Enum):
    """How a call ended."""

    VALUE = "V"
    TRAP = "T"
    EXCEPTION = "X"


@dataclass(frozen=True, slots=True)
class Outcome:
    """`numbers` are x0 and x1 of a VALUE; site and the two operands of a TRAP; ESR, ELR and FAR of an EXCEPTION.

    `instructions` counts those of the call, its `ret` included; it means something only under `icount`."""

    ending: Ending
    numbers: tuple[int, ...]
    instructions: int
    dump: bytes = b""


@dataclass(slots=True)
class Machine:
    """How QEMU is started."""

    cpu: str = "cortex-a57"
    icount: bool = False
    timeout: float = 120.0
    extra: list[str] = field(default_factory=list)


def tool(arguments: Sequence[str | Path], timeout: float = 120.0) -> str:
    """Run a tool and return its output; raises BareError with one line about what is missing, or with what the tool said."""
    name = str(arguments[0])
    try:
        done = subprocess.run([str(a) for a in arguments], capture_output=True, text=True, timeout=timeout, check=False)
    except FileNotFoundError:
        raise BareError(f"{name} is missing: install the Debian package {PACKAGES.get(name, name)}") from None
    except subprocess.TimeoutExpired:
        raise BareError(f"{name} did not end within {timeout:.0f} s") from None
    if done.returncode != 0:
        raise BareError(f"{name} failed: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def table(cases: Sequence[Case], buffers: Sequence[Buffer]) -> str:
    """Assembly text of the table of calls and of the buffers. An empty call comes first: it tells what a call itself costs."""
    lines = ['.section .data.cases, "aw"', ".balign 8", ".globl bare_cases, bare_cases_end", "bare_cases:"]
    for case in [Case("bare_nothing"), *cases]:
        if len(case.args) > ARGUMENTS:
            raise BareError(f"{case.symbol}: {len(case.args)} arguments, at most {ARGUMENTS} fit in registers")
        words = [f'"{case.symbol}"', *map(str, case.args), *["0"] * (ARGUMENTS - len(case.args))]
        words += map(str, case.dump or ("0", 0))
        lines.append(".quad " + ", ".join(words))
    lines.append("bare_cases_end:")
    for buffer in buffers:
        lines += [f".balign {buffer.align}", f".globl {buffer.name}", f"{buffer.name}:"]
        lines += [".byte " + ",".join(map(str, buffer.data[at : at + 64])) for at in range(0, len(buffer.data), 64)]
    return "\n".join(lines) + "\n"


def build(objects: Sequence[Path], cases: Sequence[Case], out: Path, *, buffers: Sequence[Buffer] = (), trap_symbol: str = "__trap") -> Path:
    """Link `objects` and the calls into the ELF image `out`. `trap_symbol` is what compiled code calls to trap."""
    calls = out.with_suffix(".calls.S")
    calls.write_text(table(cases, buffers))
    sources = [HERE / "start.S", calls, HERE / "library.S"]
    parts = [out.with_suffix(f".{source.name}.o") for source in sources]
    for source, part in zip(sources, parts, strict=True):
        tool([AS, "-march=armv8-a", "-o", part, source])
    defines = [f"--defsym={trap_symbol}=bare_trap"] if trap_symbol else []
    tool([LD, "-o", out, "-T", HERE / "bare.ld", "--no-warn-rwx-segments", *defines, *parts, *objects])
    return out


def command(image: Path, machine: Machine) -> list[str]:
    """The QEMU command line that runs `image`."""
    line = [QEMU, "-M", "virt,virtualization=on", "-cpu", machine.cpu, "-m", "256", "-display", "none", "-monitor", "none"]
    line += ["-serial", "stdio", "-net", "none", "-semihosting", "-kernel", str(image)]
    if machine.icount:
        line += ["-icount", "shift=0"]
    return line + machine.extra


def run(image: Path, machine: Machine | None = None) -> list[Outcome]:
    """Boot `image` and return the outcome of each call, in order."""
    machine = machine or Machine()
    lines = tool(command(image, machine), machine.timeout).splitlines()
    outcomes = [_outcome(line) for line in lines]
    if not outcomes or outcomes[0].ending is not Ending.VALUE:
        raise BareError(f"the bare machine printed {lines[:1]} where the empty call was expected")
    cost = outcomes[0].instructions - 1
    return [Outcome(o.ending, o.numbers, o.instructions - cost, o.dump) for o in outcomes[1:]]


def _outcome(line: str) -> Outcome:
    letter, *words = line.split()
    ending = Ending(letter)
    count = 2 if ending is Ending.VALUE else 3
    numbers = [int(word, 16) for word in words[: count + 1]]
    return Outcome(ending, tuple(numbers[:count]), numbers[count], bytes.fromhex("".join(words[count + 1 :])))
