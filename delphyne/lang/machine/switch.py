# SPDX-License-Identifier: Apache-2.0
"""What the assembly file's switch between a host and a guest does, on the simulated machine.

`places`, `asked` and `world` are the structures of those names (el2/arch/world.py); here they are known by the names of their fields only. The
tables below are those of the assembly file, row for row, which a test compares.

The guest itself is whatever `Machine.guest` does. Where EL2's own access would trap by what it has in CPTR_EL2, MachineError is raised.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from delphyne.lang import current
from delphyne.lang.machine.core import Machine
from delphyne.lang.machine.errors import MachineError

SHARED = (
    ("csselr", "CSSELR_EL1"), ("cpacr", "CPACR_EL1"), ("ttbr0", "TTBR0_EL1"), ("ttbr1", "TTBR1_EL1"), ("esr", "ESR_EL1"),
    ("afsr0", "AFSR0_EL1"), ("afsr1", "AFSR1_EL1"), ("far", "FAR_EL1"), ("mair", "MAIR_EL1"), ("vbar", "VBAR_EL1"),
    ("contextidr", "CONTEXTIDR_EL1"), ("amair", "AMAIR_EL1"), ("cntkctl", "CNTKCTL_EL1"), ("par", "PAR_EL1"), ("tpidr1", "TPIDR_EL1"),
    ("sp1", "SP_EL1"), ("elr1", "ELR_EL1"), ("spsr1", "SPSR_EL1"), ("mdscr", "MDSCR_EL1"), ("tpidr0", "TPIDR_EL0"),
)  # fmt: skip
"""Field of Places and of World -> register that both worlds have (`shared_registers`)."""
ALONE = (("tpidrro", "TPIDRRO_EL0"), ("sctlr", "SCTLR_EL1"), ("tcr", "TCR_EL1"))
"""The same, of those that the assembly moves one by one."""
CONTROLS = (
    ("hcr", "HCR_EL2"), ("vtcr", "VTCR_EL2"), ("vttbr", "VTTBR_EL2"), ("cptr", "CPTR_EL2"), ("mdcr", "MDCR_EL2"), ("cnthctl", "CNTHCTL_EL2"),
)  # fmt: skip
"""Field of World, and with `host_` before it the field for the host's -> register of EL2."""
ONLY32 = (
    ("spsr_abt", "SPSR_ABT"), ("spsr_und", "SPSR_UND"), ("spsr_irq", "SPSR_IRQ"), ("spsr_fiq", "SPSR_FIQ"), ("dacr32", "DACR32_EL2"),
    ("ifsr32", "IFSR32_EL2"), ("fpexc32", "FPEXC32_EL2"), ("dbgvcr32", "DBGVCR32_EL2"),
)  # fmt: skip
"""`shared_registers32`."""
KEYS = tuple(
    (f"ap{key}_{half}", f"S3_0_C2_C{crm}_{op2}")
    for key, crm, first in (("ia", 1, 0), ("ib", 1, 2), ("da", 2, 0), ("db", 2, 2), ("ga", 3, 0))
    for half, op2 in (("low", first), ("high", first + 1))
)
"""`each_key`."""
ASKED_BYTES = {"iflags": 1, "cflags": 1, "gic_hcr": 4, "gic_sre": 4, "used_lrs": 4}
"""Fields of Asked that are narrower than 64 bits in memory."""
OF_MMU = ("mmu_pgd", "mmu_vmid")
"""Fields of Asked that lie in the kernel's kvm_s2_mmu."""
DEBUG_ROWS = ("DBGBCR", "DBGBVR", "DBGWCR", "DBGWVR")
DEBUG_LIMIT = 16
HSTR_T15 = 1 << 15
TRAP_FP, TRAP_SVE = 1 << 10, 1 << 8
"""CPTR_EL2.TFP and TZ."""
PENDING_SERROR = 1 << 8
"""ISR_EL1.A."""
QUADWORD = 16
FP_STATUS = 512


def _machine() -> Machine:
    return current.machine()


def load(at: int, size: int = 8) -> int:
    """One load of EL2's."""
    return _machine().el2_read(at, size)


def store(at: int, value: int, size: int = 8) -> None:
    """One store of EL2's, of the low bytes of `value`."""
    _machine().el2_write(at, value & (1 << 8 * size) - 1, size)


def _into_processor(base: int, places: Any, rows: Iterable[tuple[str, str]]) -> None:
    for name, register in rows:
        _machine().write_register(register, load(base + int(getattr(places, name))))


def _into_memory(base: int, places: Any, rows: Iterable[tuple[str, str]]) -> None:
    for name, register in rows:
        store(base + int(getattr(places, name)), _machine().read_register(register))


def _keep(world: Any, rows: Iterable[tuple[str, str]], prefix: str = "") -> None:
    for name, register in rows:
        _set(world, prefix + name, _machine().read_register(register))


def _bring(world: Any, rows: Iterable[tuple[str, str]], prefix: str = "") -> None:
    for name, register in rows:
        _machine().write_register(register, int(getattr(world, prefix + name)))


def _set(struct: Any, name: str, value: int) -> None:
    setattr(struct, name, type(getattr(struct, name))(value))


def _untrapped(trap: int, what: str) -> None:
    if _machine().read_register("CPTR_EL2") & trap:
        raise MachineError(f"EL2 touches {what} while CPTR_EL2 traps that")


def ask(base: int, places: Any, asked: Any, mmu: int) -> None:
    """Every field of `asked`."""
    for name in type(asked).__annotations__:
        _set(asked, name, load((mmu if name in OF_MMU else base) + int(getattr(places, name)), ASKED_BYTES.get(name, 8)))


def to_guest(base: int, places: Any, world: Any) -> None:
    """The host's registers are kept, the guest's and what traps are loaded."""
    _keep(world, (*SHARED, *ALONE, ("vmpidr", "VMPIDR_EL2")))
    _keep(world, CONTROLS, "host_")
    _into_processor(base, places, (*SHARED, *ALONE, ("mpidr", "VMPIDR_EL2")))
    _bring(world, (*CONTROLS, ("elr", "ELR_EL2"), ("spsr", "SPSR_EL2")))
    _machine().write_register("HSTR_EL2", HSTR_T15)


def to_host(base: int, places: Any, world: Any) -> None:
    """And the other way."""
    _into_memory(base, places, (*SHARED, *ALONE))
    _bring(world, CONTROLS, "host_")
    _machine().write_register("HSTR_EL2", 0)
    _bring(world, (*SHARED, *ALONE, ("vmpidr", "VMPIDR_EL2")))


def registers32_load(base: int, places: Any) -> None:
    """Those that only AArch32 has. FPEXC32_EL2 is among them, which CPTR_EL2.TFP traps."""
    _untrapped(TRAP_FP, "FPEXC32_EL2")
    _into_processor(base, places, ONLY32)


def registers32_save(base: int, places: Any) -> None:
    """The same, back."""
    _untrapped(TRAP_FP, "FPEXC32_EL2")
    _into_memory(base, places, ONLY32)


def vectors_load(at: int, length: int, fp: int) -> None:
    """Vectors of `length` bytes in a row, and the status behind those of `fp`; what lies above `length` in a register becomes zero."""
    _untrapped(TRAP_FP if length == QUADWORD and at == fp else TRAP_FP | TRAP_SVE, "vectors")
    for number in range(32):
        _machine().write_register(f"Z{number}", load(at + number * length, length))
    for name, offset in (("FPSR", FP_STATUS), ("FPCR", FP_STATUS + 4)):
        _machine().write_register(name, load(fp + offset, 4))


def vectors_save(at: int, length: int, fp: int) -> None:
    """The same, back."""
    _untrapped(TRAP_FP if length == QUADWORD and at == fp else TRAP_FP | TRAP_SVE, "vectors")
    for number in range(32):
        store(at + number * length, _machine().read_register(f"Z{number}"), length)
    for name, offset in (("FPSR", FP_STATUS), ("FPCR", FP_STATUS + 4)):
        store(fp + offset, _machine().read_register(name), 4)


def predicates(length: int) -> list[tuple[str, int]]:
    """P0 to P15 and FFR, and how far behind Z0 each lies."""
    return [(name, (32 * length) + number * length // 8) for number, name in enumerate([*(f"P{number}" for number in range(16)), "FFR"])]


def predicates_load(at: int, length: int) -> None:
    """The predicates behind the vectors."""
    for name, offset in predicates(length):
        _machine().write_register(name, load(at + offset, length // 8))


def predicates_save(at: int, length: int) -> None:
    """The same, back."""
    for name, offset in predicates(length):
        store(at + offset, _machine().read_register(name), length // 8)


def keys_of_guest(base: int, places: Any, save: bool) -> None:
    """Pointer-authentication keys."""
    (_into_memory if save else _into_processor)(base, places, KEYS)


def keys_of_host(keys: Any, save: bool) -> None:
    """The same, in an array of EL2's own."""
    for index, (_, register) in enumerate(KEYS):
        if save:
            keys[index] = keys._item(_machine().read_register(register))
        else:
            _machine().write_register(register, int(keys[index]))


def debug_registers(breakpoints: int, watchpoints: int) -> list[tuple[int, str]]:
    """The debug registers that there are, and which of the 64 words each has."""
    counts = (breakpoints, breakpoints, watchpoints, watchpoints)
    return [
        (row * DEBUG_LIMIT + number, f"{name}{number}_EL1")
        for row, (name, count) in enumerate(zip(DEBUG_ROWS, counts, strict=True))
        for number in range(count)
    ]


def list_registers(count: int) -> list[str]:
    """The list registers in use."""
    return [f"ICH_LR{number}_EL2" for number in range(count)]


def take_serror() -> bool:
    """A pending SError is taken here."""
    pending = _machine().read_register("ISR_EL1")
    _machine().write_register("ISR_EL1", pending & ~PENDING_SERROR)
    return pending & PENDING_SERROR != 0
