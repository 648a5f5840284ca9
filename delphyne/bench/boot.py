# SPDX-License-Identifier: Apache-2.0
"""What the boot of a stock host costs above Delphyne.

QEMU's `-icount shift=0` gives every instruction one nanosecond, so the counter that a program reads (62.5 MHz on `virt`) is a count of
instructions to within sixteen; idle time is skipped up to the next timer, and counted. Two tiny programs print it on the PL011: one in the
place of the kernel's own first instructions, in a copy of the kernel that has its BTF and everything else, and one as the first process of the
host.
"""

from __future__ import annotations

import json as json_module
import struct
import subprocess
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from delphyne.bench.language import Row, row, show
from delphyne.board import host, kernels, qemu
from delphyne.board.cpio import Archive
from delphyne.compiler.back.image import Built
from delphyne.el2.arch.cpu import MAX_CPUS, SLOT_BYTES
from delphyne.el2.arch.machine import Machine
from delphyne.el2.entry import own_map
from delphyne.el2.memory import frames
from delphyne.lang import u64, wipe

ENTRY_LIMIT = 30.0
BOOT_LIMIT = 1.01
MEMORY_LIMIT = 1.0
IMAGE_LIMIT = 256.0
MEMORY_MIB = 2048
MACHINES = ((2, 4), (4, 4), (8, 8))
"""GiB and CPUs of the machines that it is said for what EL2 takes of them."""
TICK = 16
"""Nanoseconds, and with that instructions, of one step of the counter of `virt`."""
PORT = 0x0900_0000
FRAME = 4096
ARGUMENTS = "console=ttyAMA0 nokaslr quiet cryptomgr.notests initramfs_async=0"
"""Without the kernel's threads for self-tests and unpacking: which of them waits for which, and how long, hangs on the time of day."""

COUNT = """
        .text
        .globl  _start
_start: {prologue}
        isb
        mrs     x20, cntvct_el0
        mov     w22, #64
1:      sub     w22, w22, #4
        lsr     x23, x20, x22
        and     w23, w23, #15
        add     w24, w23, #'0'
        add     w25, w23, #('a' - 10)
        cmp     w23, #10
        csel    w23, w24, w25, lo
        {put}
        cbnz    w22, 1b
        mov     w23, #10
        {put}
        {off}
        b       .
"""
AT_EL1 = COUNT.format(
    prologue=f"movz x21, #{PORT >> 16:#x}, lsl #16",
    put="str w23, [x21]",
    off="movz w0, #0x8400, lsl #16\n add w0, w0, #8\n smc #0",
)
"""The program in the kernel's place: its own port, PSCI SYSTEM_OFF."""
AS_INIT = COUNT.format(
    prologue="sub sp, sp, #16",
    put="strb w23, [sp]\n mov x0, #1\n mov x1, sp\n mov x2, #1\n mov x8, #64\n svc #0",
    off="ldr w0, =0xfee1dead\n ldr w1, =0x28121969\n ldr w2, =0x4321fedc\n mov x8, #142\n svc #0",
)
"""The first process: write(1, ..) and reboot(.., POWER_OFF)."""


def _tool(name: str, *arguments: str) -> None:
    try:
        done = subprocess.run([f"aarch64-linux-gnu-{name}", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise qemu.BoardError(f"aarch64-linux-gnu-{name} is not installed; install the Debian package binutils-aarch64-linux-gnu") from None
    if done.returncode:
        raise qemu.BoardError(f"aarch64-linux-gnu-{name}: {done.stderr.strip()}")


def _assembled(source: str, folder: Path, name: str) -> Path:
    """The linked program."""
    (folder / f"{name}.S").write_text(source)
    _tool("as", "-o", str(folder / f"{name}.o"), str(folder / f"{name}.S"))
    _tool("ld", "-o", str(folder / name), str(folder / f"{name}.o"))
    return folder / name


def counting_kernel(kernel: bytes, folder: Path) -> Path:
    """A copy of `kernel` that prints the counter at its first instruction and turns the machine off.

    The second word of an Image with an EFI stub branches to the kernel's entry; the program takes the place of what is there."""
    elf = _assembled(AT_EL1, folder, "first")
    _tool("objcopy", "-O", "binary", "-j", ".text", str(elf), str(folder / "first.bin"))
    code = (folder / "first.bin").read_bytes()
    (branch,) = struct.unpack_from("<I", kernel, 4)
    if branch >> 26 != 0b000101:
        raise qemu.BoardError("the kernel's second word is no branch: it is not laid out as the bench needs it")
    entry = 4 + (branch & 0x3FF_FFFF) * 4
    made = folder / "kernel-that-counts"
    made.write_bytes(kernel[:entry] + code + kernel[entry + len(code) :])
    return made


def counting_initrd(folder: Path) -> Path:
    """An initramfs whose only process prints the counter."""
    content = Archive()
    content.directory("dev")
    content.device("dev/console", 5, 1)
    content.file("init", _assembled(AS_INIT, folder, "init").read_bytes(), 0o755)
    made = folder / "initrd.gz"
    made.write_bytes(content.pack())
    return made


def _machine() -> qemu.Machine:
    exact = ("-machine", "dtb-randomness=off", "-icount", "shift=0,sleep=off", "-rtc", "base=2026-01-01,clock=vm")
    return qemu.Machine(cpu="cortex-a57", cpus=1, memory=MEMORY_MIB, extra=exact)


def _instructions(line: list[str], timeout: float) -> int:
    """What the program that prints the counter printed, as instructions since the machine was switched on."""
    done = qemu.run_command(line, timeout=timeout)
    counts = [said for said in done.console.splitlines() if len(said) == 16 and set(said) <= set("0123456789abcdef")]
    if done.ending is not qemu.Ending.OFF or not counts:
        raise qemu.BoardError(f"the measured boot did not end: {done.ending.value} {done.complaint}\n{done.console[-500:]}".rstrip())
    return int(counts[-1], 16) * TICK


def _above(image: Path, kernel: Path, initrd: Path, arguments: str) -> list[str]:
    loaded = (
        "-device", f"guest-loader,addr={host.KERNEL_AT:#x},kernel={kernel},bootargs={arguments.replace(',', ',,')}",
        "-device", f"guest-loader,addr={host.INITRD_AT:#x},initrd={initrd}",
    )
    machine = _machine()
    return qemu.command(image, replace(machine, extra=(*machine.extra, *loaded)))


@dataclass(frozen=True, slots=True)
class OwnMemory:
    """What EL2 takes of a machine's RAM, and how much of it can be private to guests."""

    taken: int
    """Bytes, the image among them."""
    tables: int
    """Bytes of them from the first table on: what does not belong to the image."""
    private: int
    """Bytes that may be private at a time."""


def own_memory(image: Path, ram: int, cpus: int) -> OwnMemory:
    """By EL2's own calculation, for a machine with `ram` bytes in one bank, no reserved regions, and so many CPUs."""
    whole = int.from_bytes(image.read_bytes()[16:24], "little")
    kept = whole - int(MAX_CPUS - cpus) * int(SLOT_BYTES)
    machine = Machine()
    machine.bank_count, machine.cpu_count = u64(1), u64(cpus)
    before = frames.LAYOUT.frames
    frames.LAYOUT.frames = u64(ram // FRAME)
    try:
        own_map.plan(machine, u64(kept))
        tables = int(own_map.own_bytes())
        return OwnMemory(kept + tables, tables, int(own_map.record_count()) * FRAME)
    finally:
        frames.LAYOUT.frames = before
        wipe(own_map.PLAN)


def memory_rows(image: Path) -> list[Row]:
    """What EL2 takes of machines of several sizes, and what may be private there."""
    rows = []
    for gib, cpus in MACHINES:
        own, ram = own_memory(image, gib << 30, cpus), gib << 30
        rows.append(row(f"memory that EL2 takes of {gib} GiB with {cpus} CPUs", own.taken / ram * 100, "%", MEMORY_LIMIT))
        rows.append(row(f"of {gib} GiB with {cpus} CPUs may be private at a time", own.private / ram * 100, "%"))
    return rows


def measure(built: Built, folder: Path, kernel_name: str = "6.1") -> list[Row]:
    """Every figure; `folder` takes what is made on the way."""
    kernel = kernels.kernel_file(kernel_name)
    initrd = counting_initrd(folder)
    first = counting_kernel(kernel.read_bytes(), folder)
    plain = replace(_machine(), arguments=f"{ARGUMENTS} kvm-arm.mode=nvhe")
    native_start = _instructions(qemu.command(first, plain), 60)
    start = _instructions(_above(built.image, first, initrd, ARGUMENTS), 60)
    native = _instructions(qemu.command(kernel, replace(plain, extra=(*plain.extra, "-initrd", str(initrd)))), 240)
    above = _instructions(_above(built.image, kernel, initrd, ARGUMENTS), 240)
    return [
        row(f"entry to the first instruction of {kernel_name}, {MEMORY_MIB} MiB", (start - native_start) / 1e6, "million instructions", ENTRY_LIMIT),
        row(f"{kernel_name} from its first instruction to /init, alone at EL2 (nVHE)", (native - native_start) / 1e6, "million instructions"),
        row(f"{kernel_name} from its first instruction to /init, above / alone", (above - start) / (native - native_start), "x", BOOT_LIMIT),
        *memory_rows(built.image),
        row("text and constants", (built.text_bytes + built.constant_bytes) / 1024, "KiB", IMAGE_LIMIT),
    ]


def run(json: bool = False) -> list[Row]:
    """Build, measure and print."""
    with tempfile.TemporaryDirectory(prefix="delphyne-bench-") as name:
        folder = Path(name)
        rows = measure(host.build(folder / "image", quiet=True), folder)
    if json:
        print(json_module.dumps({"rows": rows}, indent=2))
    else:
        show(rows)
    return rows
