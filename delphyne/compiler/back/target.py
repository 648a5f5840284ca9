# SPDX-License-Identifier: Apache-2.0
"""The two machines that code is made for: AArch64 at EL2, and the machine the compiler itself runs on."""

from __future__ import annotations

from dataclasses import dataclass

import llvmlite.binding as llvm  # type: ignore[import-untyped]

GENERAL_FEATURES = "-fp-armv8,-neon,+reserve-x18"
SIMD_FEATURES = "+fp-armv8,+neon,+aes,+sha2,+fuse-aes,+reserve-x18"


@dataclass(frozen=True, slots=True)
class Target:
    """Where code runs. `hardware` is False where system registers, barriers and assembly functions do not exist."""

    name: str
    triple: str
    data_layout: str
    hardware: bool


AARCH64 = Target(
    "aarch64",
    "aarch64-none-elf",
    "e-m:e-p270:32:32-p271:32:32-p272:64:64-i8:8:32-i16:16:32-i64:64-i128:128-n32:64-S128-Fn32",
    hardware=True,
)
"""ARMv8.0, little-endian, freestanding, position independent."""


def _native() -> Target:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    triple = llvm.get_default_triple()
    machine = llvm.Target.from_triple(triple).create_target_machine(reloc="pic", codemodel="small")
    return Target("native", triple, str(machine.target_data), hardware=False)


NATIVE = _native()
"""The compiler's own machine, for code that CPython calls."""
