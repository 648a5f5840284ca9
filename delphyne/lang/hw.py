# SPDX-License-Identifier: Apache-2.0
"""TLB, cache and address-translation instructions: one assembly function each, under the same name.

Operands are typed addresses; the assembly function puts the page number where the instruction wants it (TLBI by address: bits 43:0 hold
address bits 55:12). No barrier is included: whoever maintains a TLB or a cache writes its own `dsb` and `isb` (Arm ARM D8.14, D7.5).
IPA and VMALL operations act on the VMID that VTTBR_EL2 holds. `is` in a name: on every CPU of the inner shareable domain.
"""

from __future__ import annotations

from delphyne.lang import current
from delphyne.lang.address import Ipa, Va
from delphyne.lang.functions import assembly
from delphyne.lang.ints import plain_number


def _tlbi(operation: str, broadcast: bool, address: int | None = None) -> None:
    current.machine().tlbi(operation, broadcast, address)


def _number(x: object, kind: type[Ipa] | type[Va]) -> int:
    """The address as a number; a symbolic stand-in goes to its machine as it is."""
    if not isinstance(x, kind):
        raise TypeError(f"{kind.__name__} is wanted, not {type(x).__name__}")
    return plain_number(x.raw)


@assembly
def tlbi_ipas2e1is(ipa: Ipa) -> None:
    """Stage-2 entries, of any level, of this VMID for one IPA, on every CPU. Combined stage-1 and stage-2 entries stay: see vmalle1is."""
    _tlbi("ipas2e1", True, _number(ipa, Ipa))


@assembly
def tlbi_ipas2le1is(ipa: Ipa) -> None:
    """As ipas2e1is, last-level entries only."""
    _tlbi("ipas2le1", True, _number(ipa, Ipa))


@assembly
def tlbi_ipas2e1(ipa: Ipa) -> None:
    """As ipas2e1is, on this CPU."""
    _tlbi("ipas2e1", False, _number(ipa, Ipa))


@assembly
def tlbi_vmalle1is() -> None:
    """Every stage-1 and combined entry of EL1 and EL0 of this VMID, on every CPU."""
    _tlbi("vmalle1", True)


@assembly
def tlbi_vmalle1() -> None:
    """As vmalle1is, on this CPU."""
    _tlbi("vmalle1", False)


@assembly
def tlbi_vmalls12e1is() -> None:
    """Every stage-1, stage-2 and combined entry of this VMID, on every CPU."""
    _tlbi("vmalls12e1", True)


@assembly
def tlbi_vmalls12e1() -> None:
    """As vmalls12e1is, on this CPU."""
    _tlbi("vmalls12e1", False)


@assembly
def tlbi_alle1is() -> None:
    """Every entry of EL1 and EL0, of all VMIDs, on every CPU."""
    _tlbi("alle1", True)


@assembly
def tlbi_alle1() -> None:
    """As alle1is, on this CPU."""
    _tlbi("alle1", False)


@assembly
def tlbi_alle2is() -> None:
    """Every entry of EL2, on every CPU."""
    _tlbi("alle2", True)


@assembly
def tlbi_alle2() -> None:
    """As alle2is, on this CPU."""
    _tlbi("alle2", False)


@assembly
def tlbi_vae2is(va: Va) -> None:
    """EL2's entries, of any level, for one address, on every CPU."""
    _tlbi("vae2", True, _number(va, Va))


@assembly
def tlbi_vale2is(va: Va) -> None:
    """As vae2is, last-level entries only."""
    _tlbi("vale2", True, _number(va, Va))


@assembly
def tlbi_vae2(va: Va) -> None:
    """As vae2is, on this CPU."""
    _tlbi("vae2", False, _number(va, Va))


@assembly
def dc_civac(va: Va) -> None:
    """Cleans and invalidates the data cache line to the point of coherency."""
    current.machine().cache("civac", _number(va, Va))


@assembly
def dc_cvac(va: Va) -> None:
    """Cleans the data cache line to the point of coherency."""
    current.machine().cache("cvac", _number(va, Va))


@assembly
def dc_cvau(va: Va) -> None:
    """Cleans the data cache line to the point of unification."""
    current.machine().cache("cvau", _number(va, Va))


@assembly
def dc_ivac(va: Va) -> None:
    """Invalidates the data cache line to the point of coherency; what was not cleaned is lost."""
    current.machine().cache("ivac", _number(va, Va))


@assembly
def dc_zva(va: Va) -> None:
    """Zeroes the block of DCZID_EL0.BS that holds the address. It is a store, and no cache maintenance."""
    current.machine().zero_block(_number(va, Va))


@assembly
def ic_ialluis() -> None:
    """Invalidates all instruction caches of the inner shareable domain."""
    current.machine().cache("ialluis", None)


@assembly
def ic_iallu() -> None:
    """Invalidates this CPU's instruction cache."""
    current.machine().cache("iallu", None)


@assembly
def ic_ivau(va: Va) -> None:
    """Invalidates the instruction cache line to the point of unification."""
    current.machine().cache("ivau", _number(va, Va))


@assembly
def at_s12e1r(va: Va) -> None:
    """Translates as EL1 would for a read, through both stages; the result is in PAR_EL1 after an `isb`."""
    current.machine().translate("s12e1r", _number(va, Va))


@assembly
def at_s12e1w(va: Va) -> None:
    """As s12e1r, for a write."""
    current.machine().translate("s12e1w", _number(va, Va))


@assembly
def at_s1e1r(va: Va) -> None:
    """Translates as EL1 would for a read, through stage 1, whose tables are found through stage 2; the result is in PAR_EL1."""
    current.machine().translate("s1e1r", _number(va, Va))


@assembly
def at_s1e1w(va: Va) -> None:
    """As s1e1r, for a write."""
    current.machine().translate("s1e1w", _number(va, Va))


@assembly
def at_s1e2r(va: Va) -> None:
    """Translates as EL2 would for a read; the result is in PAR_EL1."""
    current.machine().translate("s1e2r", _number(va, Va))


@assembly
def at_s1e2w(va: Va) -> None:
    """As s1e2r, for a write."""
    current.machine().translate("s1e2w", _number(va, Va))
