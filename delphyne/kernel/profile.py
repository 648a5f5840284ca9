# SPDX-License-Identifier: Apache-2.0
"""What EL2 will read from a kernel image at boot, found by EL2's own code run in CPython.

`python -m delphyne.kernel.profile IMAGE [--json]`. The image is an uncompressed arm64 Image, which is what Debian calls vmlinuz; it takes some ten
seconds.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from delphyne.el2.arch.err import Err
from delphyne.el2.kvm import layout as layouts
from delphyne.el2.kvm import names
from delphyne.el2.kvm.layout import Layout, Reading
from delphyne.el2.kvm.names import Call, Field, Register, Subject
from delphyne.lang import Array, Hostile, Pa, u32, u64
from delphyne.lang.machine import Machine

ARM64_MAGIC = b"ARM\x64"
_REASONS = {
    Err.NOT_FOUND: "it carries no type information (CONFIG_DEBUG_INFO_BTF)",
    Err.TRUNCATED: "its type information is cut off",
    Err.MALFORMED: "its type information contradicts itself",
    Err.UNSUPPORTED: "its type information has a form that is not known here",
    Err.NO_MEMORY: "it has more types than EL2 has room for",
}


class ProfileError(Exception):
    """An image that cannot be read; the message says why."""


class KernelMachine(Machine):
    """A machine whose RAM is an image: the bytes of a file, without a copy. Nothing is written to it."""

    BASE = 0x4000_0000
    ROOM = 1 << 28

    def __init__(self) -> None:
        super().__init__(self.BASE, self.ROOM)
        self.data = b""

    def load(self, data: bytes) -> Hostile:
        """The bytes as EL2's code sees memory that is not its own, in place of those before."""
        self.data = data
        return Hostile(Pa(u64(self.BASE)), u64(len(data)))

    def _read(self, address: int, size: int) -> bytes:
        at = address - self.BASE
        return self.data[at : at + size]


def read(data: bytes, made: Layout, room: int = 16384) -> Err | None:
    """EL2's reading of a whole image; `room` is the number of its checkpoints."""
    reading = Reading()
    with KernelMachine() as machine:
        layouts.begin(reading, machine.load(data))
        return layouts.read(reading, Array[u32, room]()[:], made)


@dataclass(frozen=True, slots=True)
class Profile:
    """What was found: offsets of members and sizes of structures in bytes, numbers of calls, indices of registers; None where absent."""

    kernel: str
    offsets: dict[str, int | None]
    sizes: dict[str, int]
    calls: dict[str, int | None]
    registers: dict[str, int | None]
    complete: bool

    def as_json(self) -> dict[str, Any]:
        """All of it, for programs."""
        return {name: getattr(self, name) for name in ("kernel", "complete", "sizes", "offsets", "calls", "registers")}

    def render(self) -> str:
        """A table for people."""
        parts: list[tuple[str, dict[str, int] | dict[str, int | None]]] = [
            ("structures (bytes)", self.sizes),
            ("members (offset in bytes)", self.offsets),
            ("host calls (number)", self.calls),
            ("registers (index in sys_regs)", self.registers),
        ]
        lines = [f"{self.kernel}: {'complete' if self.complete else 'something that EL2 needs is absent'}"]
        for title, table in parts:
            lines += ["", title]
            lines += [f"  {name:<40} {'-' if number is None else number}" for name, number in table.items()]
        return "\n".join(lines)


def profile(image: bytes, name: str) -> Profile:
    """What EL2 finds in this image; ProfileError where it finds nothing."""
    if image[56:60] != ARM64_MAGIC:
        raise ProfileError(f"{name} is no arm64 Image: no magic number at byte 56 (a compressed one has to be unpacked first)")
    made = Layout()
    error = read(image, made)
    if error is not None:
        raise ProfileError(f"{name} cannot be profiled: {_REASONS.get(error, error.name)}")
    structures = {Subject.VCPU: "kvm_vcpu", Subject.MMU: "kvm_s2_mmu", Subject.ARCH: "kvm_arch", Subject.VGIC: "vgic_v3_cpu_if"}
    return Profile(
        kernel=name,
        offsets={f"{structures[subject]}.{path}": _present(layouts.offset(made, field), layouts.ABSENT) for field, subject, path in members()},
        sizes={called: int(made.sizes[u64(subject.raw)]) for subject, called in structures.items()},
        calls={call.name: _call_number(made, call) for call in Call if call is not Call.UNKNOWN},
        registers={register.name: _present(made.registers[u64(register.raw)], layouts.NO_REGISTER) for register in Register},
        complete=layouts.is_complete(made),
    )


def members() -> list[tuple[Field, Subject, str]]:
    """Every member that EL2 looks for: field, structure, path."""
    text, ends = bytes(names.PATHS), [int(names.PATH_ENDS[i]) for i in range(len(names.PATH_ENDS))]
    found = []
    for field in Field:
        number = int(field.raw)
        subject = Subject.of(names.PATH_SUBJECTS[number])
        assert subject is not None
        found.append((field, subject, text[ends[number] : ends[number + 1]].decode()))
    return found


def _present(number: Any, absent: Any) -> int | None:
    return None if number == absent else int(number)


def _call_number(made: Layout, call: Call) -> int | None:
    numbers = [number for number in range(int(layouts.CALL_NUMBERS)) if made.calls[number] == call.raw]
    return numbers[0] if numbers else None


def main(arguments: list[str] | None = None) -> int:
    """The command; the exit code is 0 for a complete profile, 1 otherwise."""
    parser = argparse.ArgumentParser(description="Print what EL2 finds in a kernel image.")
    parser.add_argument("image", type=Path)
    parser.add_argument("--json", action="store_true", help="output for programs")
    given = parser.parse_args(arguments)
    try:
        found = profile(given.image.read_bytes(), given.image.name)
    except (OSError, ProfileError) as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(found.as_json(), indent=2) if given.json else found.render())
    return 0 if found.complete else 1


if __name__ == "__main__":
    sys.exit(main())
