# SPDX-License-Identifier: Apache-2.0
"""A guest's accesses to its interrupt interface, where ICH_HCR_EL2.TALL0, TALL1, TC or TDIR trap them: done on the virtual interface's registers as
the processor would have (Arm IHI 0069: chapter 4 for priorities and states, chapter 12 for each ICV register, ICH_VMCR_EL2 and ICH_LR<n>_EL2).

Which registers are served is KVM's choice (arch/arm64/kvm/hyp/vgic-v3-sr.c): all of the interface but ICC_SRE_EL1 and the registers that send
interrupts to other CPUs, which are the host's. What a guest writes and what a host has put into the list registers may be any number.

A deactivation of an interrupt that has a physical one deactivates that too, which is a write of ICC_DIR_EL1 by EL2.

No lock: all of it is this CPU's own, and the guest's world is loaded.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch import gic
from delphyne.el2.arch.el1 import BARE_REGISTER, SystemIss, encoding
from delphyne.el2.arch.gic import ICC_DIR_EL1, ICH_HCR_EL2, ICH_VMCR_EL2, ICH_VTR_EL2, IchHcr, IchLr, IchVmcr
from delphyne.lang import count_trailing_zeros, isb, u8, u32, u64, value

ICC_PMR: Final = encoding(3, 0, 4, 6, 0)
ICC_IAR0: Final = encoding(3, 0, 12, 8, 0)
ICC_EOIR0: Final = encoding(3, 0, 12, 8, 1)
ICC_HPPIR0: Final = encoding(3, 0, 12, 8, 2)
ICC_BPR0: Final = encoding(3, 0, 12, 8, 3)
ICC_DIR: Final = encoding(3, 0, 12, 11, 1)
ICC_RPR: Final = encoding(3, 0, 12, 11, 3)
ICC_IAR1: Final = encoding(3, 0, 12, 12, 0)
ICC_EOIR1: Final = encoding(3, 0, 12, 12, 1)
ICC_HPPIR1: Final = encoding(3, 0, 12, 12, 2)
ICC_BPR1: Final = encoding(3, 0, 12, 12, 3)
ICC_CTLR: Final = encoding(3, 0, 12, 12, 4)
ICC_IGRPEN0: Final = encoding(3, 0, 12, 12, 6)
ICC_IGRPEN1: Final = encoding(3, 0, 12, 12, 7)

SPURIOUS: Final = u64(1023)
FIRST_SPECIAL: Final = u64(1020)
"""INTIDs from here to SPURIOUS name no interrupt."""
FIRST_LPI: Final = u64(8192)
INTID_BITS: Final = u64(0xFF_FFFF)
IDLE: Final = u64(0xFF)
"""The running priority of a CPU that handles no interrupt."""
NONE: Final = u64(0xFFFF)
"""No list register."""

CP15_FIELDS: Final = u32(0xF_FFFF)
"""ISS of an MCR or MRC: all but its condition, which lies where op0 does."""


@value
class Access:
    """`served`: it was done, and `x` is what the guest reads (0 after a write). Otherwise nothing changed, and the register is not the guest's."""

    served: bool
    x: u64


def from_cp15(iss: u32) -> SystemIss:
    """The ISS of a trapped MCR or MRC as that of the AArch64 register which it is mapped to. `rt` is an AArch64 number in both."""
    return SystemIss.of(u64(iss & CP15_FIELDS)).replace(op0=u8(3))


def perform(iss: SystemIss, used_lrs: u64, x: u64) -> Access:
    """One trapped access. `used_lrs`: list registers in use, as the host says; `x`: what the guest writes, ignored for a read."""
    used = min(used_lrs, gic.list_register_count())
    register = iss.raw & BARE_REGISTER
    if _is_priorities(iss):
        return _perform_priorities(iss, u32.wrap(x))
    if iss.read:
        return _read(register, used)
    return Access(_write_interrupt(register, used, x & INTID_BITS) or _write_setting(register, x), u64(0))


def _read(register: u64, used: u64) -> Access:
    vmcr = _settings()
    if register == ICC_IAR0 or register == ICC_IAR1:
        return Access(True, _acknowledge(vmcr, used, register == ICC_IAR1))
    if register == ICC_HPPIR0 or register == ICC_HPPIR1:
        return Access(True, _pending_intid(vmcr, used, register == ICC_HPPIR1))
    if register == ICC_RPR:
        return Access(True, _running_priority())
    if register == ICC_PMR:
        return Access(True, u64(vmcr.vpmr))
    if register == ICC_BPR0:
        return Access(True, u64(vmcr.vbpr0))
    if register == ICC_BPR1:
        return Access(True, min(u64(vmcr.vbpr0) + 1, u64(7)) if vmcr.vcbpr else u64(vmcr.vbpr1))
    if register == ICC_CTLR:
        return Access(True, _control(vmcr))
    if register == ICC_IGRPEN0:
        return Access(True, u64(vmcr.veng0))
    if register == ICC_IGRPEN1:
        return Access(True, u64(vmcr.veng1))
    return Access(False, u64(0))


def _write_interrupt(register: u64, used: u64, intid: u64) -> bool:
    if register == ICC_EOIR0 or register == ICC_EOIR1:
        _end(_settings(), used, register == ICC_EOIR1, intid)
    elif register == ICC_DIR:
        _deactivate_by_guest(_settings(), used, intid)
    else:
        return False
    return True


def _write_setting(register: u64, x: u64) -> bool:
    """Binary points have a least value, which follows from how many bits of a priority decide about preemption."""
    vmcr = _settings()
    set_bit = x & 1 != 0
    least = 8 - gic.preemption_bits()
    if register == ICC_PMR:
        vmcr = vmcr.replace(vpmr=u8.wrap(x))
    elif register == ICC_BPR0:
        vmcr = vmcr.replace(vbpr0=u8(max(x & 7, least - 1)))
    elif register == ICC_BPR1:
        if not vmcr.vcbpr:
            vmcr = vmcr.replace(vbpr1=u8(max(x & 7, least)))
    elif register == ICC_CTLR:
        vmcr = vmcr.replace(vcbpr=set_bit, veoim=x & 2 != 0)
    elif register == ICC_IGRPEN0:
        vmcr = vmcr.replace(veng0=set_bit)
    elif register == ICC_IGRPEN1:
        vmcr = vmcr.replace(veng1=set_bit)
    else:
        return False
    ICH_VMCR_EL2.write(vmcr.raw)
    return True


def _is_priorities(iss: SystemIss) -> bool:
    """Whether this is ICC_AP0R<n>_EL1 or ICC_AP1R<n>_EL1."""
    if iss.op0 != 3 or iss.op1 != 0 or iss.crn != 12:
        return False
    return (iss.crm == 8 and iss.op2 >= 4) or (iss.crm == 9 and iss.op2 < 4)


def _perform_priorities(iss: SystemIss, x: u32) -> Access:
    """Those that this CPU does not have are undefined for EL2 too."""
    number = u64(iss.op2 & 3)
    group1 = iss.crm == 9
    if number >= gic.priority_register_count():
        return Access(False, u64(0))
    if iss.read:
        return Access(True, u64(gic.read_priorities(group1, number)))
    gic.write_priorities(group1, number, x)
    return Access(True, u64(0))


def _control(vmcr: IchVmcr) -> u64:
    """ICV_CTLR_EL1: CBPR, EOImode, PRIbits, IDbits, SEIS, A3V."""
    vtr = ICH_VTR_EL2.read()
    settings = u64(vmcr.vcbpr) | u64(vmcr.veoim) << 1
    return settings | u64(vtr.priority_bits) << 8 | u64(vtr.id_bits) << 11 | u64(vtr.seis) << 14 | u64(vtr.a3v) << 15


def _settings() -> IchVmcr:
    return IchVmcr.of(ICH_VMCR_EL2.read())


def _list_register(number: u64) -> IchLr:
    return IchLr.of(gic.read_list_register(number))


def _is_special(intid: u64) -> bool:
    return FIRST_SPECIAL <= intid <= SPURIOUS


def _group_priority(priority: u8, vmcr: IchVmcr, group1: bool) -> u64:
    """The bits of a priority that decide about preemption in its group, the others zero."""
    point = u64(vmcr.vbpr1) if group1 and not vmcr.vcbpr else u64(vmcr.vbpr0) + 1
    below = max(point, 8 - gic.preemption_bits())
    return (u64(priority) >> below) << below


def _highest_pending(vmcr: IchVmcr, used: u64) -> u64:
    """The list register with the pending interrupt of an enabled group that is most urgent, or NONE."""
    found = NONE
    least = IDLE
    for number in u64.range(used):
        held = _list_register(number)
        enabled = vmcr.veng1 if held.group1 else vmcr.veng0
        if held.pending and not held.active and enabled and u64(held.priority) < least:
            least = u64(held.priority)
            found = number
    return found


def _find_active(used: u64, intid: u64) -> u64:
    """The list register with this interrupt in an active state, or NONE."""
    for number in u64.range(used):
        held = _list_register(number)
        if held.active and u64(held.vintid) == intid:
            return number
    return NONE


def _running_priority() -> u64:
    """Group priority of the most urgent active interrupt, scaled to 8 bits, or IDLE."""
    for number in u64.range(gic.priority_register_count()):
        both = gic.read_priorities(False, number) | gic.read_priorities(True, number)
        if both != 0:
            return (number * 32 + u64(count_trailing_zeros(both))) << (8 - gic.preemption_bits())
    return IDLE


def _drop_priority() -> u64:
    """Clears the most urgent active priority and returns it as `_running_priority` does. Of two equal ones group 1's is cleared."""
    for number in u64.range(gic.priority_register_count()):
        group0 = gic.read_priorities(False, number)
        group1 = gic.read_priorities(True, number)
        if group0 != 0 or group1 != 0:
            first0 = u64(count_trailing_zeros(group0))
            first1 = u64(count_trailing_zeros(group1))
            if first0 < first1:
                gic.write_priorities(False, number, group0 & (group0 - 1))
            else:
                gic.write_priorities(True, number, group1 & (group1 - 1))
            return (number * 32 + min(first0, first1)) << (8 - gic.preemption_bits())
    return IDLE


def _pending_intid(vmcr: IchVmcr, used: u64, group1: bool) -> u64:
    """ICV_HPPIR: what an acknowledgement would return if its priority were sufficient."""
    number = _highest_pending(vmcr, used)
    if number == NONE:
        return SPURIOUS
    held = _list_register(number)
    return u64(held.vintid) if held.group1 == group1 else SPURIOUS


def _acknowledge(vmcr: IchVmcr, used: u64, group1: bool) -> u64:
    """ICV_IAR: the most urgent interrupt becomes active where it is of this group, passes the mask and preempts what is active."""
    number = _highest_pending(vmcr, used)
    if number == NONE:
        return SPURIOUS
    held = _list_register(number)
    if held.group1 != group1 or held.priority >= vmcr.vpmr:
        return SPURIOUS
    priority = _group_priority(held.priority, vmcr, group1)
    if priority >= _running_priority():
        return SPURIOUS
    intid = u64(held.vintid)
    if _is_special(intid):
        gic.write_list_register(number, held.replace(pending=False).raw)
        return intid
    gic.write_list_register(number, held.replace(pending=False, active=True).raw)
    level = priority >> (8 - gic.preemption_bits())
    before = gic.read_priorities(group1, level // 32)
    gic.write_priorities(group1, level // 32, before | u32.wrap(u64(1) << (level % 32)))
    return intid


def _end(vmcr: IchVmcr, used: u64, group1: bool, intid: u64) -> None:
    """ICV_EOIR: drops the running priority; deactivates as well where the two are not split, and LPIs always."""
    if _is_special(intid):
        return
    dropped = _drop_priority()
    if dropped == IDLE:
        return
    is_lpi = intid >= FIRST_LPI
    number = _find_active(used, intid)
    if number == NONE:
        if not is_lpi:
            _count_end()
        return
    held = _list_register(number)
    if vmcr.veoim and not is_lpi:
        return
    if held.group1 == group1 and _group_priority(held.priority, vmcr, group1) == dropped:
        _deactivate(number, held)


def _deactivate_by_guest(vmcr: IchVmcr, used: u64, intid: u64) -> None:
    """ICV_DIR: only where priority drop and deactivation are split. LPIs have no state to leave."""
    if not vmcr.veoim or intid >= FIRST_LPI or _is_special(intid):
        return
    number = _find_active(used, intid)
    if number == NONE:
        _count_end()
    else:
        _deactivate(number, _list_register(number))


def _deactivate(number: u64, held: IchLr) -> None:
    gic.write_list_register(number, held.replace(active=False).raw)
    if held.hw and not _is_special(u64(held.pintid)):
        ICC_DIR_EL1.write(u64(held.pintid))
        isb()


def _count_end() -> None:
    """An interrupt ended that no list register holds: the host is told how many did. The count wraps."""
    hcr = IchHcr.of(ICH_HCR_EL2.read())
    ICH_HCR_EL2.write(hcr.replace(eoi_count=(hcr.eoi_count + 1) & 31).raw)
