# SPDX-License-Identifier: Apache-2.0
"""What a guest's exit must do so that nothing of EL2 or the host is predicted by what the guest taught the branch predictors.

Two weaknesses: branch targets (Spectre-v2, CVE-2017-5715), which only firmware can make a processor forget, and branch history (Spectre-BHB,
CVE-2022-23960), which an instruction, a run of taken branches or firmware replaces. Who is affected, and how many branches a core's history holds, is
from Arm's advisories on both, as Linux collects them (arch/arm64/kernel/proton-pack.c). `mitigate` in el2.S acts by the word that `choose` gives.

No lock. The answers are this CPU's, and CPUs may differ; what guests are told of the machine (`kvm/guest_features.py`) is the worst of those CPUs
that have said `note`.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch import cores, features, psci
from delphyne.el2.arch.identification import ID_AA64PFR0_EL1, MIDR_EL1
from delphyne.lang import Array, AtomicU32, Enum8, Order, View, constant, u8, u32, u64

MITIGATE_FIRMWARE: Final = 20
"""The bit of a word that asks for an SMC: a fast call of 32 bits whose low 16 bits the word carries. In el2.S too."""
MITIGATE_CLEAR: Final = 21
"""The bit that asks for the instruction CLRBHB. In el2.S too. With neither bit the word is the number of branches to take, or 0."""
FUNCTION_BITS: Final = u64(0xFFFF)

NEEDED: Final = u32(0)
"""What firmware says of a workaround that this CPU needs."""
NOT_NEEDED: Final = u32(1)

_TARGETS_SAFE = [
    cores.CORTEX_A35, cores.CORTEX_A53, cores.CORTEX_A55, cores.BRAHMA_B53, cores.TSV110, cores.KRYO_2XX_SILVER, cores.KRYO_3XX_SILVER,
    cores.KRYO_4XX_SILVER,
]  # fmt: skip
TARGETS_SAFE: Final = constant(Array[u32, len(_TARGETS_SAFE)].of(_TARGETS_SAFE))
"""Cores without CSV2 whose branch targets no other context chooses."""

_HISTORY_SAFE = [
    cores.CORTEX_A35, cores.CORTEX_A53, cores.CORTEX_A55, cores.CORTEX_A510, cores.CORTEX_A520, cores.BRAHMA_B53, cores.KRYO_2XX_SILVER,
    cores.KRYO_3XX_SILVER, cores.KRYO_4XX_SILVER,
]  # fmt: skip
HISTORY_SAFE: Final = constant(Array[u32, len(_HISTORY_SAFE)].of(_HISTORY_SAFE))
"""Cores that do not predict by branch history."""

_ROUNDS = {
    132: [cores.CORTEX_X3, cores.NEOVERSE_V2],
    38: [cores.CORTEX_A715, cores.CORTEX_A720],
    32: [
        cores.CORTEX_A78, cores.CORTEX_A78AE, cores.CORTEX_A78C, cores.CORTEX_X1, cores.CORTEX_X1C, cores.CORTEX_A710, cores.CORTEX_X2,
        cores.NEOVERSE_N2, cores.AZURE_COBALT_100, cores.NEOVERSE_V1, cores.TSV110,
    ],
    24: [cores.CORTEX_A76, cores.CORTEX_A76AE, cores.CORTEX_A77, cores.NEOVERSE_N1, cores.KRYO_4XX_GOLD, cores.HIP09],
    11: [cores.AMPERE1],
    8: [cores.CORTEX_A57, cores.CORTEX_A72],
}  # fmt: skip
_LOOPING = [(core, rounds) for rounds, some in _ROUNDS.items() for core in some]
LOOPING: Final = constant(Array[u32, len(_LOOPING)].of([core for core, _ in _LOOPING]))
LOOP_ROUNDS: Final = constant(Array[u8, len(_LOOPING)].of([rounds for _, rounds in _LOOPING]))
"""Branches that replace all of a core's history, for each of LOOPING."""


def choose() -> u64:
    """The word for this CPU. Only where the firmware is called by SMC.

    0 says that nothing is needed, or that nothing is known to help: `is_helpless` tells them apart."""
    targets = _against_targets()
    return targets if targets != 0 else _against_history()


class Standing(Enum8):
    """How a processor stands to one of the weaknesses, the better first."""

    UNAFFECTED = 0
    MITIGATED = 1
    """Each exit of a guest does what there is to be done."""
    VULNERABLE = 2
    """Neither the processor nor its firmware has a remedy."""


TARGETS: Final = AtomicU32()
HISTORY: Final = AtomicU32()
"""For each weakness a bit for each Standing that some CPU has."""


def note() -> None:
    """This CPU runs guests from now on. Only where the firmware is called by SMC."""
    TARGETS.or_(u32(1) << u32(of_targets().raw), Order.RELAXED)
    HISTORY.or_(u32(1) << u32(of_history().raw), Order.RELAXED)


def worst(seen: u32) -> Standing:
    """Of the bits of TARGETS or HISTORY."""
    if seen >> u32(Standing.VULNERABLE.raw) & 1 != 0:
        return Standing.VULNERABLE
    return Standing.MITIGATED if seen >> u32(Standing.MITIGATED.raw) & 1 != 0 else Standing.UNAFFECTED


def is_helpless() -> bool:
    """Whether this CPU is affected and neither it nor its firmware offers a remedy. Only where the firmware is called by SMC."""
    return of_targets() is Standing.VULNERABLE or of_history() is Standing.VULNERABLE


def of_targets() -> Standing:
    """This CPU's, to Spectre-v2. Only where the firmware is called by SMC."""
    if not _predicts_foreign_targets():
        return Standing.UNAFFECTED
    if _against_targets() != 0:
        return Standing.MITIGATED
    return _by_firmwares_word(psci.SMCCC_ARCH_WORKAROUND_1)


def of_history() -> Standing:
    """The same to Spectre-BHB."""
    if not _predicts_by_history():
        return Standing.UNAFFECTED
    return Standing.MITIGATED if choose() != 0 else _by_firmwares_word(psci.SMCCC_ARCH_WORKAROUND_3)


def _by_firmwares_word(function: u64) -> Standing:
    return Standing.UNAFFECTED if psci.architecture_feature(function) == NOT_NEEDED else Standing.VULNERABLE


def _against_targets() -> u64:
    """Firmware is asked for its newer call first: that does what the older one does too (DEN0028, SMCCC_ARCH_WORKAROUND_3)."""
    if not _predicts_foreign_targets() or psci.architecture_feature(psci.SMCCC_ARCH_WORKAROUND_1) != NEEDED:
        return u64(0)
    newer = _firmware(psci.SMCCC_ARCH_WORKAROUND_3)
    return newer if newer != 0 else _word_of(psci.SMCCC_ARCH_WORKAROUND_1)


def _against_history() -> u64:
    if not _predicts_by_history():
        return u64(0)
    if features.has_clear_history():
        return u64(1 << MITIGATE_CLEAR)
    rounds = _rounds_of(cores.core_of(MIDR_EL1.read()))
    return rounds if rounds != 0 else _firmware(psci.SMCCC_ARCH_WORKAROUND_3)


def _predicts_foreign_targets() -> bool:
    return ID_AA64PFR0_EL1.read().csv2 == 0 and not _is_among(TARGETS_SAFE[:], cores.core_of(MIDR_EL1.read()))


def _predicts_by_history() -> bool:
    """A core that no list names is taken to be affected, unless it says that it is not (FEAT_CSV2_3, FEAT_ECBHB)."""
    if ID_AA64PFR0_EL1.read().csv2 >= 3 or features.exceptions_clear_history():
        return False
    return not _is_among(HISTORY_SAFE[:], cores.core_of(MIDR_EL1.read()))


def _firmware(function: u64) -> u64:
    """The word for a call that this CPU needs, 0 for one that it does not need or the firmware does not have."""
    return _word_of(function) if psci.architecture_feature(function) == NEEDED else u64(0)


def _word_of(function: u64) -> u64:
    return u64(1 << MITIGATE_FIRMWARE) | function & FUNCTION_BITS


def _is_among(some: View[u32], core: u32) -> bool:
    for index in u64.range(some.length):
        if some[index] == core:
            return True
    return False


def _rounds_of(core: u32) -> u64:
    for index in u64.range(LOOPING.length):
        if LOOPING[index] == core:
            return u64(LOOP_ROUNDS[index])
    return u64(0)
