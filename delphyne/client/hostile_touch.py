# SPDX-License-Identifier: Apache-2.0
"""The bare guest's monitor, as root, touches its protected guest's pages in every way that a host has: by its own instructions at EL0, by a fetch of
them, by its kernel for it, and by its kernel's instructions (modules/hostile). One process: `IMAGE GIC`.

What only reads gets ciphertext, and the guest goes on with what it had; what writes ends that guest, one for each way. One line each of what came of
it. Threads: those of the monitor alone; a child process for what may crash it.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import struct
import sys
from collections.abc import Callable

from delphyne.client.hostile_means import protect
from delphyne.client.hostile_monitor import plaintext
from delphyne.client.memory import PAGE, Memory
from delphyne.client.module import tell
from delphyne.client.soak import MARK
from delphyne.client.steps import Steps, ending, once, stays_stopped

RET = 0xD65F_03C0
CODE = {
    "load": (0xF940_0001,),  # LDR X1, [X0]
    "pair": (0xA940_0801,),  # LDP X1, X2, [X0]
    "span": (0xF85F_C001,),  # LDUR X1, [X0, #-4]
    "acquire": (0xC8DF_FC01,),  # LDAR X1, [X0]
    "vector": (0x4C40_7000,),  # LD1 {V0.16B}, [X0]
    "prefetch": (0xF980_0000,),  # PRFM PLDL1KEEP, [X0]
    "store": (0xF900_0000,),  # STR X0, [X0]
    "store-pair": (0xA900_0000,),  # STP X0, X0, [X0]
    "store-span": (0xF81F_C000,),  # STUR X0, [X0, #-4]
    "release": (0xC89F_FC00,),  # STLR X0, [X0]
    "exclusive": (0xC85F_7C01, 0x9100_0421, 0xC802_7C01, 0x35FF_FFA2),  # LDXR X1, [X0]; ADD X1, X1, #1; STXR W2, X1, [X0]; CBNZ W2, .-12
    "zero": (0xD50B_7420, 0xD503_3F9F),  # DC ZVA, X0; DSB SY
}
READS = ("load", "pair", "span", "acquire", "vector", "prefetch")
WRITES = ("store", "store-pair", "store-span", "release", "exclusive", "zero")
KERNEL_READS = ("load", "pair", "span", "walk", "probe", "root")
KERNEL_WRITES = ("store", "exclusive", "zero")
SECONDS = 2
"""For a child that executes ciphertext, if it does not die of it before."""
FIRST = 16
"""The first page that is touched."""


class Instructions:
    """Functions of a few instructions at EL0, each with one address."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, PAGE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        self._places: dict[str, int] = {}
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        at = 0
        for name, words in CODE.items():
            self._memory[at : at + 4 * len(words) + 4] = struct.pack(f"<{len(words) + 1}I", *words, RET)
            self._places[name] = start + at
            at += 64
        libc = ctypes.CDLL(None)
        child = os.fork()  # a new process has had its instruction cache cleaned by the kernel; the barrier of this one's is the system call
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        self._libc = libc

    def run(self, name: str, address: int) -> None:
        """One of CODE."""
        ctypes.CFUNCTYPE(None, ctypes.c_uint64)(self._places[name])(address)


def fetch(memory: Memory, at: int) -> bool:
    """A child executes the page, whatever that is; whether it came to an end that a process has."""
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(SECONDS)
        ctypes.CFUNCTYPE(None)(memory.address + at)()
        os._exit(0)
    return os.waitpid(child, 0)[0] == child


def by_system_call(memory: Memory, at: int, data: bytes | None) -> bytes:
    """The kernel copies eight bytes from the page for this process, or `data` to it; and what it read."""
    reader, writer = os.pipe()
    view = (ctypes.c_char * 8).from_address(memory.address + at)
    if data is None:
        os.write(writer, view)
    else:
        os.write(writer, data)
        os.readv(reader, [view])
    os.close(writer)
    rest = os.read(reader, 8)
    os.close(reader)
    return rest


def by_module(memory: Memory, way: str, at: int) -> None:
    """The host's kernel touches the frame of a page (modules/hostile)."""
    tell("/dev/hostile", f"{way} {memory.frame(at):x} 1")


Touch = Callable[[Memory, int], object]


def reads(instructions: Instructions) -> dict[str, Touch]:
    """Every way that changes nothing."""
    return {
        **{f"el0-{name}": lambda memory, at, name=name: instructions.run(name, memory.address + at) for name in READS},  # type: ignore[misc]
        "el0-fetch": fetch,
        "el0-system-call": lambda memory, at: by_system_call(memory, at, None),
        **{f"el1-{name}": lambda memory, at, name=name: by_module(memory, name, at) for name in KERNEL_READS},  # type: ignore[misc]
    }


def writes(instructions: Instructions) -> dict[str, Touch]:
    """Every way that changes something."""
    return {
        **{f"el0-{name}": lambda memory, at, name=name: instructions.run(name, memory.address + at) for name in WRITES},  # type: ignore[misc]
        "el0-system-call": lambda memory, at: by_system_call(memory, at, b"hostile."),
        **{f"el1-{name}": lambda memory, at, name=name: by_module(memory, name, at) for name in KERNEL_WRITES},  # type: ignore[misc]
    }


def main(arguments: list[str]) -> int:
    """`IMAGE GIC`."""
    path, gic = arguments
    with open(path, "rb") as file:
        image = file.read()
    instructions = Instructions()
    shown = 0

    def read_all(steps: Steps) -> None:
        nonlocal shown
        for number, touch in enumerate(reads(instructions).values()):
            touch(steps.kept, (FIRST + number) * PAGE)
        for number in range(len(reads(instructions))):
            shown += MARK in steps.kept.read((FIRST + number) * PAGE, PAGE)

    steps = Steps(image, int(gic), [once("soak", 2), once("soak", 2)], [read_all])
    protect(steps.kept, mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    print(f"hostile touch: reads {ending(steps)} ways {len(reads(instructions))} shown {shown} plaintext {plaintext(steps.kept)}", flush=True)
    for name, touch in writes(instructions).items():
        steps = Steps(image, int(gic), [once("soak", 2), once("soak")], [lambda steps, touch=touch: touch(steps.kept, FIRST * PAGE)])  # type: ignore[misc]
        end = ending(steps)
        print(f"hostile touch: {name} {end} stays {end == 'stopped' and stays_stopped(steps):d}", flush=True)
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)  # the guests that were stopped are never ended
