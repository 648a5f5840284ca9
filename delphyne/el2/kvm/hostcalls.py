# SPDX-License-Identifier: Apache-2.0
"""The calls by which a stock nVHE kernel asks its EL2 half: HVC #0 with the function in x0 (arch/arm64/include/asm/virt.h and kvm_asm.h).

Numbers below 4 are the boot stub's. From 0xC6000000 on they are KVM's, and differ between kernels: the layout that was read from the kernel's
own BTF says which is which. A kernel whose layout could not be read is refused every call of KVM's, so that it boots without /dev/kvm.

Arguments are the host's and hostile: numbers are bounded, and addresses checked by who follows them. A call that EL2 cannot finish in one stay
leaves the host before its HVC, so that it calls again after its interrupts were served. No lock is held here.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch import gic
from delphyne.el2.arch.cpu import CPUS
from delphyne.el2.arch.err import Err
from delphyne.el2.arch.exception import MODE_EL1H, Spsr
from delphyne.el2.arch.frame import Frame
from delphyne.el2.arch.gic import ICH_VMCR_EL2
from delphyne.el2.arch.hypervisor import CNTVOFF_EL2, MDCR_EL2
from delphyne.el2.arch.translation import SCTLR_EL1, SCTLR_EL1_RES1, Sctlr
from delphyne.el2.arch.world import Places
from delphyne.el2.kvm import flushes, host_state, seats, vcpu_run, vgic_calls
from delphyne.el2.kvm.layout import CALL_NUMBERS, Layout
from delphyne.el2.kvm.names import Call
from delphyne.lang import Level, cold, log, nospec, u8, u64, wrap_sub

STUB_SET_VECTORS: Final = u64(0)
STUB_SOFT_RESTART: Final = u64(1)
STUB_RESET_VECTORS: Final = u64(2)
STUB_FINALISE_EL2: Final = u64(3)
STUB_ERROR: Final = u64(0xBAD_CA11)
"""HVC_STUB_ERR: what the kernel's own stub answers where it will not do a thing."""
KVM_CALLS: Final = u64(0xC600_0000)
LAST_OF_START: Final = u8(4)
"""Calls up to this one belong to KVM's initialisation (names.Call)."""
KVM_HYP_INIT: Final = u64(0)
"""__kvm_hyp_init, the one call that BTF does not number."""
SUCCESS: Final = u64(0)
NOT_SUPPORTED: Final = u64(0xFFFF_FFFF_FFFF_FFFF)


def serve(frame: Frame, layout: Layout, places: Places, known: bool) -> None:
    """One call of the host. `known` says that `layout` and `places` are complete."""
    function = frame.x[0]
    if function < KVM_CALLS or function - KVM_CALLS >= CALL_NUMBERS:
        _serve_stub(frame, layout, known)
        return
    number = function - KVM_CALLS
    if not known:
        _refuse(frame)
    elif number == KVM_HYP_INIT:
        frame.x[0] = SUCCESS
    else:
        call = Call.of(layout.calls[nospec(number, CALL_NUMBERS)])
        if call is None:
            _refuse(frame)
        elif call is Call.VCPU_RUN:
            _finish(frame, vcpu_run.serve(frame, layout, places))
        elif call.raw <= LAST_OF_START:
            _serve_start(frame, call)
        else:
            _serve_guests(frame, call, layout, places)


@cold
def _serve_stub(frame: Frame, layout: Layout, known: bool) -> None:
    """What the kernel asks before KVM is there, at kexec, and when KVM goes."""
    function = frame.x[0]
    if function == STUB_RESET_VECTORS and known and not seats.bury_dead(layout):
        frame.elr = wrap_sub(frame.elr, 4)
    elif function == STUB_SET_VECTORS or function == STUB_RESET_VECTORS:
        frame.x[0] = SUCCESS
    elif function == STUB_SOFT_RESTART:
        _restart(frame, known)
    else:
        frame.x[0] = STUB_ERROR


def _restart(frame: Frame, known: bool) -> None:
    """The next kernel, or what leads to it, begins at x1 with x2 to x4 as its first arguments, its MMU off; it will ask for its mode again."""
    SCTLR_EL1.write(Sctlr.of(SCTLR_EL1_RES1))
    host_state.await_boot_mode(known)
    CPUS.mine().restarted = True
    frame.elr = frame.x[1]
    frame.spsr = Spsr(mode=MODE_EL1H, debug_masked=True, serror_masked=True, irq_masked=True, fiq_masked=True).raw
    frame.x[0] = frame.x[2]
    frame.x[1] = frame.x[3]
    frame.x[2] = frame.x[4]
    frame.x[3] = u64(0)


def _serve_guests(frame: Frame, call: Call, layout: Layout, places: Places) -> None:
    """What KVM asks around the runs of its guests."""
    match call:
        case Call.TIMER_SET_CNTVOFF:
            CNTVOFF_EL2.write(frame.x[1])
            _answer(frame, u64(0))
        case Call.TLB_FLUSH_VMID_IPA | Call.TLB_FLUSH_VMID_IPA_NSH:
            _finish_flush(frame, flushes.address(frame.x[1], frame.x[2], frame.x[3]))
        case Call.TLB_FLUSH_VMID_RANGE:
            _finish_flush(frame, flushes.pages(frame.x[1], frame.x[2], frame.x[3]))
        case Call.TLB_FLUSH_VMID:
            _finish_flush(frame, flushes.everything(frame.x[1]))
        case Call.FLUSH_CPU_CONTEXT:
            flushes.this_cpu(frame.x[1])
            _answer(frame, u64(0))
        case Call.FLUSH_VM_CONTEXT:
            # The host begins to give out its VMIDs anew. EL2's own are never used twice, and a VM whose host number changes loses its shadow.
            _answer(frame, u64(0))
        case Call.ADJUST_PC:
            _finish(frame, vcpu_run.adjust_only(frame, layout, places))
        case Call.VGIC_V3_READ_VMCR:
            _answer(frame, ICH_VMCR_EL2.read() if gic.is_enabled() else u64(0))
        case Call.VGIC_V3_WRITE_VMCR:
            if gic.is_enabled():
                ICH_VMCR_EL2.write(frame.x[1] & u64(0xFFFF_FFFF))
            _answer(frame, u64(0))
        case Call.VGIC_V3_SAVE_APRS:
            _finish(frame, vgic_calls.save(layout, places, frame.x[1], False))
        case Call.VGIC_V3_RESTORE_APRS:
            _finish(frame, vgic_calls.restore(layout, places, frame.x[1], False))
        case Call.VGIC_V3_SAVE_VMCR_APRS:
            _finish(frame, vgic_calls.save(layout, places, frame.x[1], True))
        case Call.VGIC_V3_RESTORE_VMCR_APRS:
            _finish(frame, vgic_calls.restore(layout, places, frame.x[1], True))
        case _:
            _refuse(frame)


def _finish(frame: Frame, result: u64 | Err) -> None:
    """The answer to a call that may have to be made again: then the host finds itself before its HVC, with all that it had in its registers."""
    if isinstance(result, Err):
        _put_off(frame, result)
    else:
        _answer(frame, result)


def _finish_flush(frame: Frame, result: None | Err) -> None:
    """The same for a call that has no result."""
    if isinstance(result, Err):
        _put_off(frame, result)
    else:
        _answer(frame, u64(0))


@cold
def _put_off(frame: Frame, why: Err) -> None:
    if why is Err.BUSY or why is Err.NO_MEMORY:
        frame.elr = wrap_sub(frame.elr, 4)
    else:
        log(Level.WARNING, f"host call {frame.x[0]:#x} for {frame.x[1]:#x} cannot be served ({why})")
        frame.x[0] = NOT_SUPPORTED


@cold
def _serve_start(frame: Frame, call: Call) -> None:
    """KVM's initialisation."""
    match call:
        case Call.GET_MDCR_EL2:
            _answer(frame, MDCR_EL2.read().raw)
        case Call.ENABLE_SSBS:
            # Stores that loads may overtake at EL2 are a risk of EL2's and its guests', and not the host's to take.
            _answer(frame, u64(0))
        case Call.VGIC_V3_INIT_LRS:
            if gic.is_enabled():
                gic.clear_list_registers()
            _answer(frame, u64(0))
        case Call.VGIC_V3_GET_GIC_CONFIG:
            _answer(frame, gic.describe() if gic.is_enabled() else u64(0))
        case _:
            _refuse(frame)


def _answer(frame: Frame, x: u64) -> None:
    """SMCCC: success in x0, the result in x1."""
    frame.x[0] = SUCCESS
    frame.x[1] = x


@cold
def _refuse(frame: Frame) -> None:
    log(Level.WARNING, f"host call {frame.x[0]:#x} is not served")
    frame.x[0] = NOT_SUPPORTED
