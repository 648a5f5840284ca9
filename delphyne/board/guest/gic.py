# SPDX-License-Identifier: Apache-2.0
"""The guest's interrupt controller: GICv3 by system registers, or GICv2 by its two pages (IHI 0069 chapters 12 and 4).

Where they lie is what the monitor chose (client/vgic.py). Interrupts used: SGI 1, the virtual timer's PPI 27, SPI 32. No lock: the distributor is
set up by CPU 0 before others run.
"""

from __future__ import annotations

from typing import Final

from delphyne.lang import AtomicU64, Order, Pa, SysReg, isb, mmio_read32, mmio_write32, u32, u64

DISTRIBUTOR: Final = Pa(u64(0x0800_0000))
CPU_INTERFACE: Final = Pa(u64(0x0801_0000))
REDISTRIBUTORS: Final = Pa(u64(0x080A_0000))
REDISTRIBUTOR_BYTES: Final = u64(0x2_0000)

GICD_CTLR: Final = u64(0x000)
GICD_IGROUPR: Final = u64(0x080)
GICD_ISENABLER: Final = u64(0x100)
GICD_ISPENDR: Final = u64(0x200)
GICD_IPRIORITYR: Final = u64(0x400)
GICD_ITARGETSR: Final = u64(0x800)
GICD_ICFGR: Final = u64(0xC00)
GICD_SGIR: Final = u64(0xF00)
GICR_WAKER: Final = u64(0x0014)
GICR_SGI_FRAME: Final = u64(0x1_0000)
GICC_CTLR: Final = u64(0x00)
GICC_PMR: Final = u64(0x04)
GICC_IAR: Final = u64(0x0C)
GICC_EOIR: Final = u64(0x10)

ICC_PMR_EL1: Final = SysReg(u64, "ICC_PMR_EL1", 3, 0, 4, 6, 0)
ICC_IAR1_EL1: Final = SysReg(u64, "ICC_IAR1_EL1", 3, 0, 12, 12, 0)
ICC_EOIR1_EL1: Final = SysReg(u64, "ICC_EOIR1_EL1", 3, 0, 12, 12, 1)
ICC_SGI1R_EL1: Final = SysReg(u64, "ICC_SGI1R_EL1", 3, 0, 12, 11, 5)
ICC_IGRPEN1_EL1: Final = SysReg(u64, "ICC_IGRPEN1_EL1", 3, 0, 12, 12, 7)
ICC_SRE: Final = SysReg(u64, "ICC_SRE_EL1", 3, 0, 12, 12, 5)

IPI: Final = u64(1)
TIMER: Final = u64(27)
SPI: Final = u64(32)
INTID_MASK: Final = u64(0x3FF)
PRIORITY: Final = u32(0x8080_8080)

VERSION: Final = AtomicU64()


def is_v3() -> bool:
    """Whether the guest was given a GICv3."""
    return VERSION.load(Order.RELAXED) == 3


def set_up(version: u64) -> None:
    """The distributor, once, on CPU 0. `version` is 2 or 3."""
    VERSION.store(version, Order.RELEASE)
    mmio_write32(DISTRIBUTOR + GICD_CTLR, u32(0))
    mmio_write32(DISTRIBUTOR + GICD_ICFGR + u64(8), u32(0))
    mmio_write32(DISTRIBUTOR + GICD_IPRIORITYR + SPI, PRIORITY)
    if is_v3():
        mmio_write32(DISTRIBUTOR + GICD_IGROUPR + u64(4), u32.MAX)
        mmio_write32(DISTRIBUTOR + GICD_CTLR, u32(0x12))
    else:
        mmio_write32(DISTRIBUTOR + GICD_ITARGETSR + SPI, u32(0x0101_0101))
        mmio_write32(DISTRIBUTOR + GICD_CTLR, u32(1))
    mmio_write32(DISTRIBUTOR + GICD_ISENABLER + u64(4), u32(1))


def set_up_cpu(cpu: u64) -> None:
    """The part of the calling CPU, whose number is `cpu`."""
    enabled = u32(1 << 1 | 1 << 27)
    if is_v3():
        frame = REDISTRIBUTORS + REDISTRIBUTOR_BYTES * cpu
        mmio_write32(frame + GICR_WAKER, u32(0))
        private = frame + GICR_SGI_FRAME
        mmio_write32(private + GICD_IGROUPR, u32.MAX)
        mmio_write32(private + GICD_ISENABLER, enabled)
        _prioritise(private)
        ICC_SRE.write(u64(7))
        isb()
        ICC_PMR_EL1.write(u64(0xF0))
        ICC_IGRPEN1_EL1.write(u64(1))
        isb()
    else:
        mmio_write32(DISTRIBUTOR + GICD_ISENABLER, enabled)
        _prioritise(DISTRIBUTOR)
        mmio_write32(CPU_INTERFACE + GICC_PMR, u32(0xF0))
        mmio_write32(CPU_INTERFACE + GICC_CTLR, u32(1))


def _prioritise(frame: Pa) -> None:
    for number in u64.range(0, 32, 4):
        mmio_write32(frame + GICD_IPRIORITYR + number, PRIORITY)


def acknowledge() -> u64:
    """The number of the pending interrupt, which becomes active; 1020 and more where there is none. The source of a GICv2 SGI is in bits 10-12."""
    if is_v3():
        number = ICC_IAR1_EL1.read()
        isb()
        return number
    return u64(mmio_read32(CPU_INTERFACE + GICC_IAR))


def end(acknowledged: u64) -> None:
    """Ends what `acknowledge` gave."""
    if is_v3():
        ICC_EOIR1_EL1.write(acknowledged)
        isb()
    else:
        mmio_write32(CPU_INTERFACE + GICC_EOIR, u32(acknowledged))


def send_ipi(cpu: u64) -> None:
    """SGI 1 for the CPU of that number, below 8."""
    if is_v3():
        ICC_SGI1R_EL1.write(IPI << 24 | u64(1) << cpu)
        isb()
    else:
        mmio_write32(DISTRIBUTOR + GICD_SGIR, u32(IPI) | u32(u64(1) << (cpu + 16)))


def read_enabled() -> u32:
    """GICD_ISENABLER1, a register that KVM emulates: SPI 32 is its bit 0."""
    return mmio_read32(DISTRIBUTOR + GICD_ISENABLER + u64(4))


def make_pending() -> None:
    """SPI 32, level-sensitive, becomes pending by software."""
    mmio_write32(DISTRIBUTOR + GICD_ISPENDR + u64(4), u32(1))
