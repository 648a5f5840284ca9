# SPDX-License-Identifier: Apache-2.0
"""What the guest reads from the identification registers, told to the monitor, which knows what it had KVM say in them (catalogue line H35).

CPU 0 alone does this. No lock.
"""

from __future__ import annotations

from typing import Final

from delphyne.board.guest import device
from delphyne.lang import SysReg, u64

MIDR_EL1: Final = SysReg(u64, "MIDR_EL1", 3, 0, 0, 0, 0)
MPIDR_EL1: Final = SysReg(u64, "MPIDR_EL1", 3, 0, 0, 0, 5)
REVIDR_EL1: Final = SysReg(u64, "REVIDR_EL1", 3, 0, 0, 0, 6)
ID_AA64PFR0_EL1: Final = SysReg(u64, "ID_AA64PFR0_EL1", 3, 0, 0, 4, 0)
ID_AA64PFR1_EL1: Final = SysReg(u64, "ID_AA64PFR1_EL1", 3, 0, 0, 4, 1)
ID_AA64ZFR0_EL1: Final = SysReg(u64, "ID_AA64ZFR0_EL1", 3, 0, 0, 4, 4)
ID_AA64DFR0_EL1: Final = SysReg(u64, "ID_AA64DFR0_EL1", 3, 0, 0, 5, 0)
ID_AA64DFR1_EL1: Final = SysReg(u64, "ID_AA64DFR1_EL1", 3, 0, 0, 5, 1)
ID_AA64ISAR0_EL1: Final = SysReg(u64, "ID_AA64ISAR0_EL1", 3, 0, 0, 6, 0)
ID_AA64ISAR1_EL1: Final = SysReg(u64, "ID_AA64ISAR1_EL1", 3, 0, 0, 6, 1)
ID_AA64ISAR2_EL1: Final = SysReg(u64, "ID_AA64ISAR2_EL1", 3, 0, 0, 6, 2)
ID_AA64MMFR0_EL1: Final = SysReg(u64, "ID_AA64MMFR0_EL1", 3, 0, 0, 7, 0)
ID_AA64MMFR1_EL1: Final = SysReg(u64, "ID_AA64MMFR1_EL1", 3, 0, 0, 7, 1)
ID_AA64MMFR2_EL1: Final = SysReg(u64, "ID_AA64MMFR2_EL1", 3, 0, 0, 7, 2)
CTR_EL0: Final = SysReg(u64, "CTR_EL0", 3, 3, 0, 0, 1)
DCZID_EL0: Final = SysReg(u64, "DCZID_EL0", 3, 3, 0, 0, 7)


def show() -> None:
    """One after the other, in the order in which they stand here."""
    device.write(device.SHOWN, MIDR_EL1.read())
    device.write(device.SHOWN, MPIDR_EL1.read())
    device.write(device.SHOWN, REVIDR_EL1.read())
    device.write(device.SHOWN, ID_AA64PFR0_EL1.read())
    device.write(device.SHOWN, ID_AA64PFR1_EL1.read())
    device.write(device.SHOWN, ID_AA64ZFR0_EL1.read())
    device.write(device.SHOWN, ID_AA64DFR0_EL1.read())
    device.write(device.SHOWN, ID_AA64DFR1_EL1.read())
    device.write(device.SHOWN, ID_AA64ISAR0_EL1.read())
    device.write(device.SHOWN, ID_AA64ISAR1_EL1.read())
    device.write(device.SHOWN, ID_AA64ISAR2_EL1.read())
    device.write(device.SHOWN, ID_AA64MMFR0_EL1.read())
    device.write(device.SHOWN, ID_AA64MMFR1_EL1.read())
    device.write(device.SHOWN, ID_AA64MMFR2_EL1.read())
    device.write(device.SHOWN, CTR_EL0.read())
    device.write(device.SHOWN, DCZID_EL0.read())
