# SPDX-License-Identifier: Apache-2.0
"""What EL2 traps and allows below it: HCR_EL2, CPTR_EL2, MDCR_EL2, HSTR_EL2, the timer's and the identity registers (Arm ARM D24.2).

All fields are those of the regime without E2H, the only one that EL2 uses. Fields that newer architectures define are named here when
EL2 first sets them; until then they stay 0. No lock, no state.
"""

from __future__ import annotations

from typing import Final

from delphyne.lang import Bits64, SysReg, bits, u8, u64


class Hcr(Bits64):
    """HCR_EL2."""

    vm: bool = bits(0)
    swio: bool = bits(1)
    ptw: bool = bits(2)
    fmo: bool = bits(3)
    imo: bool = bits(4)
    amo: bool = bits(5)
    vf: bool = bits(6)
    vi: bool = bits(7)
    vse: bool = bits(8)
    fb: bool = bits(9)
    bsu: u8 = bits(11, 10)
    dc: bool = bits(12)
    twi: bool = bits(13)
    twe: bool = bits(14)
    tid0: bool = bits(15)
    tid1: bool = bits(16)
    tid2: bool = bits(17)
    tid3: bool = bits(18)
    tsc: bool = bits(19)
    tidcp: bool = bits(20)
    tacr: bool = bits(21)
    tsw: bool = bits(22)
    tpcp: bool = bits(23)
    tpu: bool = bits(24)
    ttlb: bool = bits(25)
    tvm: bool = bits(26)
    tge: bool = bits(27)
    tdz: bool = bits(28)
    hcd: bool = bits(29)
    trvm: bool = bits(30)
    rw: bool = bits(31)
    cd: bool = bits(32)
    id: bool = bits(33)
    e2h: bool = bits(34)
    tlor: bool = bits(35)
    terr: bool = bits(36)
    tea: bool = bits(37)
    apk: bool = bits(40)
    api: bool = bits(41)
    nv: bool = bits(42)
    nv1: bool = bits(43)
    at: bool = bits(44)
    nv2: bool = bits(45)
    fwb: bool = bits(46)
    fien: bool = bits(47)
    tid4: bool = bits(49)
    enscxt: bool = bits(53)
    ata: bool = bits(56)
    tid5: bool = bits(58)


class Cptr(Bits64):
    """CPTR_EL2 without E2H. `res1` is what ARMv8.0 reads as one; SVE and SME turn bits 8 and 12 of it into traps, on while set."""

    res1_low: u8 = bits(7, 0)
    tz: bool = bits(8)
    res1_9: bool = bits(9)
    tfp: bool = bits(10)
    tsm: bool = bits(12)
    res1_13: bool = bits(13)
    tta: bool = bits(20)
    tam: bool = bits(30)
    tcpac: bool = bits(31)


class Mdcr(Bits64):
    """MDCR_EL2."""

    hpmn: u8 = bits(4, 0)
    tpmcr: bool = bits(5)
    tpm: bool = bits(6)
    hpme: bool = bits(7)
    tde: bool = bits(8)
    tda: bool = bits(9)
    tdosa: bool = bits(10)
    tdra: bool = bits(11)
    e2pb: u8 = bits(13, 12)
    tpms: bool = bits(14)
    hpmd: bool = bits(17)
    ttrf: bool = bits(19)
    hccd: bool = bits(23)
    e2tb: u8 = bits(25, 24)


class Cnthctl(Bits64):
    """CNTHCTL_EL2 without E2H."""

    el1pcten: bool = bits(0)
    el1pcen: bool = bits(1)


HCR_EL2: Final = SysReg(Hcr, "HCR_EL2", 3, 4, 1, 1, 0)
CPTR_EL2: Final = SysReg(Cptr, "CPTR_EL2", 3, 4, 1, 1, 2)
MDCR_EL2: Final = SysReg(Mdcr, "MDCR_EL2", 3, 4, 1, 1, 1)
HSTR_EL2: Final = SysReg(u64, "HSTR_EL2", 3, 4, 1, 1, 3)
CNTHCTL_EL2: Final = SysReg(Cnthctl, "CNTHCTL_EL2", 3, 4, 14, 1, 0)
CNTVOFF_EL2: Final = SysReg(u64, "CNTVOFF_EL2", 3, 4, 14, 0, 3)
VPIDR_EL2: Final = SysReg(u64, "VPIDR_EL2", 3, 4, 0, 0, 0)
VMPIDR_EL2: Final = SysReg(u64, "VMPIDR_EL2", 3, 4, 0, 0, 5)

CPTR_NO_TRAPS: Final = Cptr(res1_low=u8(0xFF), tz=False, res1_9=True, tfp=False, tsm=False, res1_13=True)
"""FP, SVE and SME at EL1 and EL0 go untrapped. On a processor without SVE and SME bits 8 and 12 are RES1 and ignore the zero."""
