# SPDX-License-Identifier: Apache-2.0
"""What __kvm_vcpu_run says of how a run ended (ARM_EXCEPTION_* of arch/arm64/include/asm/kvm_asm.h). No lock, no state."""

from __future__ import annotations

from typing import Final

from delphyne.lang import u64

EXIT_IRQ: Final = u64(0)
EXIT_SERROR: Final = u64(1)
EXIT_TRAP: Final = u64(2)
EXIT_ILLEGAL: Final = u64(3)
WITH_SERROR: Final = u64(1 << 31)
"""Or-ed to another."""
GUEST_GOES_ON: Final = u64(0xFFFF)
"""No exit: EL2 has done what there was to do."""
COMMITTED: Final = u64(0xFFFE)
"""The guest is protected from now on; the host hears of an interrupt."""
