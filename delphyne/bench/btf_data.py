# SPDX-License-Identifier: Apache-2.0
"""BTF of a made-up kernel: types in about the proportions of a real one, for the benchmark of the scan."""

from __future__ import annotations

import random
import struct

NAMES = (
    b"kvm_vcpu",
    b"kvm_vcpu_arch",
    b"kvm_cpu_context",
    b"kvm_s2_mmu",
    b"kvm_nvhe_init_params",
    b"vgic_v3_cpu_if",
    b"vgic_dist",
    b"user_pt_regs",
    b"arch_timer_kvm",
    b"kvm_vcpu_fault_info",
    b"kvm_arch",
    b"kvm",
)
"""The names that the scan looks for; each is the name of one structure."""
TYPES = 6000

_PTR, _STRUCT, _ENUM, _TYPEDEF, _CONST, _FUNC, _PROTO, _INT, _ARRAY = 2, 4, 6, 8, 10, 12, 13, 1, 3
_SHARES = ((_PTR, 25), (_STRUCT, 10), (_ENUM, 3), (_TYPEDEF, 6), (_CONST, 5), (_FUNC, 28), (_PROTO, 19), (_INT, 1), (_ARRAY, 3))


def sections(seed: int = 1) -> tuple[bytes, bytes]:
    """The type section and the string section."""
    dice = random.Random(seed)
    kinds = dice.choices([kind for kind, _ in _SHARES], [share for _, share in _SHARES], k=TYPES)
    places = dice.sample([n for n, kind in enumerate(kinds) if kind == _STRUCT], len(NAMES))
    wanted = dict(zip(places, NAMES, strict=True))
    strings = bytearray(b"\0")
    types = bytearray()
    for number, kind in enumerate(kinds):
        at = len(strings)
        strings += wanted.get(number) or b"kvm_" + bytes(dice.choices(b"abcdefghijklmnopqrstuvwxyz_", k=dice.randrange(3, 20)))
        strings.append(0)
        types += _record(dice, kind, at)
    return bytes(types), bytes(strings)


def _record(dice: random.Random, kind: int, name: int) -> bytes:
    items = {_STRUCT: dice.randrange(1, 20), _ENUM: dice.randrange(1, 12), _PROTO: dice.randrange(5)}.get(kind, 0)
    record = struct.pack("<III", name, kind << 24 | items, dice.randrange(1, TYPES))
    each = {_STRUCT: 12, _ENUM: 8, _PROTO: 8}.get(kind, 0)
    extra = {_INT: 4, _ARRAY: 12}.get(kind, 0)
    return record + bytes(dice.randrange(256) for _ in range(extra + each * items))


def names() -> tuple[bytes, bytes]:
    """The names in a row, and where each begins and the last ends, as u16."""
    ends = [sum(map(len, NAMES[:n])) for n in range(len(NAMES) + 1)]
    return b"".join(NAMES), struct.pack(f"<{len(ends)}H", *ends)
