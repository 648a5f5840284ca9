# SPDX-License-Identifier: Apache-2.0
"""A small program at EL1 under a stage-2 map of its own, and the calls that EL2 serves it: what `make run` shows of the switch.

The program is one page of el2.S (`demo_page`). It passes a message, touches an address that is not mapped, and asks for a sum that EL2 adds
without looking, which is a bug on purpose: it shows what a trap of EL2 looks like.

Lock: DEMO_LOCK (21), under which the program's map is made and looked up.
"""

from __future__ import annotations

from typing import Final, Never

from delphyne.el2.arch import image
from delphyne.el2.arch.err import Err
from delphyne.el2.arch.exception import MODE_EL1H, AbortIss, Esr, Spsr
from delphyne.el2.arch.frame import Frame
from delphyne.el2.arch.hypervisor import HCR_EL2, Hcr
from delphyne.el2.arch.pagetable import PAGE_SIZE, VTTBR_EL2, Stage2Memory
from delphyne.el2.arch.translation import SCTLR_EL1, SCTLR_EL1_RES1, VTCR_EL2, Sctlr, physical_bits, physical_size
from delphyne.el2.control.log import show_text
from delphyne.el2.memory import stage2, tables
from delphyne.el2.memory.pages import PoolName
from delphyne.el2.memory.stage2 import Rights
from delphyne.lang import Array, Enum64, Hostile, Ipa, Level, Lock, Pa, assembly, boot, guarded, holds, isb, log, u8, u16, u64

DEMO_IPA: Final = u64(0x1000_0000)
"""Where the program finds itself."""
DEMO_VMID: Final = u16(1)
MESSAGE_BYTES: Final = u64(64)
"""The longest message that is taken."""
NOTHING: Final = u64(0xFFFF_FFFF_FFFF_FFFF)
"""What a call that was refused answers."""

DEMO_LOCK: Final = Lock("demo map", rank=21)
DEMO_SPACE: Final = guarded(DEMO_LOCK, tables.Space())


class DemoCall(Enum64):
    """The function in x0."""

    SAY = 1
    TOUCHED = 2
    ADD = 3


@assembly
def demo_page_address() -> Pa:
    """The page that holds the program."""
    return Pa(u64(0x4020_1000))


@boot
def prepare() -> None | Err:
    """Makes the program's map and lets this CPU use it."""
    with DEMO_LOCK:
        made = _make_map()
        if isinstance(made, Err):
            return made
        VTCR_EL2.write(stage2.vtcr(DEMO_SPACE, physical_size()))
        VTTBR_EL2.write(tables.vttbr_of(DEMO_SPACE))
    HCR_EL2.write(Hcr(vm=True, swio=True, tsc=True, rw=True))
    SCTLR_EL1.write(Sctlr.of(SCTLR_EL1_RES1))
    isb()
    return None


def run() -> Never:
    """Runs the program on this CPU, at EL1 with every interrupt masked."""
    frame = Frame()
    frame.elr = DEMO_IPA
    frame.spsr = Spsr(mode=MODE_EL1H, debug_masked=True, serror_masked=True, irq_masked=True, fiq_masked=True).raw
    image.enter_lower(frame)


@holds(DEMO_LOCK)
def _make_map() -> None | Err:
    bits = min(max(physical_bits(), u64(39)), u64(48))
    created = stage2.create(DEMO_SPACE, bits, PoolName.STARTS, PoolName.HOST, DEMO_VMID)
    if isinstance(created, Err):
        return created
    return stage2.map_page(DEMO_SPACE, Ipa(DEMO_IPA), demo_page_address(), Stage2Memory.NORMAL, Rights(True, False, True))


def serve_call(frame: Frame) -> None:
    """An HVC of the program: x0 is the function, and takes the answer."""
    call = DemoCall.of(frame.x[0])
    if call is None:
        log(Level.WARNING, f"EL1 calls an unknown function {frame.x[0]:#x}")
        frame.x[0] = NOTHING
        return
    match call:
        case DemoCall.SAY:
            frame.x[0] = _say(Ipa(frame.x[1]), frame.x[2])
        case DemoCall.TOUCHED:
            log(Level.INFO, f"EL1 goes on; its load gave {frame.x[1]:#x}")
            frame.x[0] = u64(0)
        case DemoCall.ADD:
            log(Level.INFO, f"EL1 asks for {frame.x[1]:#x} + {frame.x[2]:#x}, which EL2 adds without looking")
            frame.x[0] = frame.x[1] + frame.x[2]


def _say(at: Ipa, length: u64) -> u64:
    """Shows a message of the program; 0, or NOTHING where it is too long or not all in memory that the program has."""
    if length > MESSAGE_BYTES:
        return NOTHING
    with DEMO_LOCK:
        found = stage2.translate(DEMO_SPACE, at)
    if found is None:
        return NOTHING
    rest = PAGE_SIZE - (found.pa.raw & (PAGE_SIZE - 1))
    message = Array[u8, 64]()
    if not Hostile(found.pa, rest).copy_in(message[:length], u64(0)):
        return NOTHING
    show_text(message[:length])
    return u64(0)


def serve_abort(frame: Frame, syndrome: Esr) -> None:
    """A data abort that stage 2 raised: it is reported, a load gives 0, and the program goes on behind the access."""
    iss = AbortIss.of(u64(syndrome.iss))
    ipa = ((frame.hpfar >> 4) << 12) | (frame.far & (PAGE_SIZE - 1))
    log(Level.INFO, f"stage-2 abort: EL1 at {frame.elr:#x} accesses {ipa:#x}, write {iss.wnr}, fault status {iss.fsc:#x}")
    if iss.isv and not iss.wnr and iss.srt < 31:
        frame.x[u64(iss.srt)] = u64(0)
    frame.elr += 4
