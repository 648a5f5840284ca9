# SPDX-License-Identifier: Apache-2.0
"""The registers that decide what a guest may do: EL2's own values, with single bits of the host's where a list here says so.

No control register is ever loaded from a host's memory. A bit that a host may set makes a guest trap more, or raises a virtual interrupt of its
own; one that it may leave clear is one whose clearing opens nothing but the guest's own registers.

No lock, no state.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch.hypervisor import CPTR_NO_TRAPS, Cptr, Hcr, Mdcr
from delphyne.el2.kvm.abilities import Abilities
from delphyne.lang import u8, u64

PENDING_EXCEPTION: Final = u64(1 << 0)
INCREMENT_PC: Final = u64(1 << 1)
TO_ADJUST: Final = PENDING_EXCEPTION | INCREMENT_PC
EXCEPTION_KIND: Final = u64(0b1110)
DEBUG_DIRTY: Final = u64(1 << 4)
"""Bits of `kvm_vcpu_arch.iflags` (arch/arm64/include/asm/kvm_host.h)."""
HAS_SVE: Final = u64(1 << 0)
HAS_AUTHENTICATION: Final = u64(1 << 2)
"""Bits of `kvm_vcpu_arch.cflags`."""

_ALWAYS = Hcr(
    vm=True, swio=True, ptw=True, fmo=True, imo=True, amo=True, fb=True, bsu=u8(1), tsc=True, tidcp=True, tacr=True, tsw=True, tlor=True,
)
ALWAYS: Final = u64(int(_ALWAYS.raw))
"""A guest's HCR_EL2 whatever the host says: stage 2, interrupts to EL2, SMC, auxiliary and LOR registers and set/way operations trapped, TLB and
cache operations as wide as its vCPUs may move."""
_FROM_HOST = Hcr(
    vf=True, vi=True, vse=True, twi=True, twe=True, tid0=True, tid1=True, tid2=True, tid3=True, tid4=True, tid5=True, tvm=True, trvm=True, tpcp=True,
    tpu=True, ttlb=True, tdz=True, rw=True,
)
FROM_HOST: Final = u64(int(_FROM_HOST.raw))
"""Its bits that are the host's to choose. RW says whether the guest's EL1 is AArch64."""
_AUTHENTICATION = Hcr(apk=True, api=True)
AUTHENTICATION: Final = u64(int(_AUTHENTICATION.raw))
"""Pointer authentication is the guest's."""

_PROTECTED_FROM_HOST = Hcr(vf=True, vi=True, twi=True, twe=True)
PROTECTED_FROM_HOST: Final = u64(int(_PROTECTED_FROM_HOST.raw))
"""Of a protected guest's HCR_EL2 what is the host's to choose: its virtual interrupts, and whether its waits are heard of."""


def hcr_always(abilities: Abilities) -> u64:
    """The bits of HCR_EL2 that are set on one CPU while an ordinary guest runs, whatever its host says."""
    return Hcr.of(ALWAYS).replace(
        rw=not abilities.aarch32_el1, tea=abilities.ras, terr=abilities.ras, tvm=abilities.trap_translation_writes
    ).raw  # fmt: skip


def hcr_choice(abilities: Abilities) -> u64:
    """Those that are the host's to choose there."""
    return Hcr.of(FROM_HOST).replace(fwb=abilities.forced_write_back, ata=abilities.tags).raw


def hcr(asked: u64, authentication: bool, always: u64, choice: u64) -> Hcr:
    """HCR_EL2 while a guest runs, from what the host asks for it and what `hcr_always` and `hcr_choice` say of this CPU. `authentication`: it has
    pointer authentication."""
    chosen = always | (asked & choice)
    return Hcr.of(chosen | AUTHENTICATION) if authentication else Hcr.of(chosen)


def mdcr(asked: u64, dirty: bool, host: Mdcr) -> Mdcr:
    """MDCR_EL2 while a guest runs: performance monitors, profiling and trace trapped, buffers not the guest's. `dirty` says that the guest's own
    debug registers are in the processor, which alone lets it at them; `host` is this CPU's value for the host."""
    wanted = Mdcr.of(asked)
    return host.replace(
        tpmcr=True, tpm=True, tpms=True, ttrf=True, tdra=True, tdosa=True, e2pb=u8(0), e2tb=u8(0), tda=wanted.tda or not dirty, tde=wanted.tde
    )


def protected_hcr(abilities: Abilities) -> u64:
    """HCR_EL2 on one CPU while a protected guest runs, but for PROTECTED_FROM_HOST: its EL1 is AArch64, its identification registers are EL2's to
    answer, and pointer authentication and tags are hidden from it."""
    return Hcr.of(ALWAYS).replace(
        rw=True, tid0=True, tid3=True, tea=abilities.ras, terr=abilities.ras, tvm=abilities.trap_translation_writes
    ).raw  # fmt: skip


def protected_mdcr(host: Mdcr) -> Mdcr:
    """MDCR_EL2 while a protected guest runs: nothing of debug, monitors, profiling and trace is its own, and none of its host's sees it. Its own
    breakpoint instructions are."""
    return host.replace(
        tpmcr=True, tpm=True, tpms=True, ttrf=True, tdra=True, tdosa=True, tda=True, tde=False, e2pb=u8(0), e2tb=u8(0)
    )


def cptr(fp: bool, sve: bool) -> Cptr:
    """CPTR_EL2 while a guest runs: trace, activity monitors and SME trapped; SIMD and SVE registers where they are not the guest's yet."""
    return CPTR_NO_TRAPS.replace(tta=True, tam=True, tsm=True, tfp=not fp, tz=not (fp and sve))
