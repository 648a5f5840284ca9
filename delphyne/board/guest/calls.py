# SPDX-License-Identifier: Apache-2.0
"""A protected guest that turns against EL2: calls of docs/guest-abi.md with every kind of argument, from two CPUs at once (catalogue line G1).

Each CPU has pages of its own, whose way it knows, and both fight for one more. What is answered wrongly first is kept for CPU 0 to report. No lock:
what both CPUs see is atomic.
"""

from __future__ import annotations

from typing import Final

from delphyne.board.guest import start
from delphyne.lang import Array, AtomicU64, Order, Pa, constant, mmio_read64, mmio_write64, u64

PAGE: Final = u64(4096)
OWN: Final = Pa(u64(0x8800_0000))
"""Where the CPUs' own pages begin, OWN_PAGES for each."""
OWN_PAGES: Final = u64(64)
CONTESTED: Final = Pa(u64(0x8810_0000))
MARK: Final = u64(0x5EED_CA11_0000_0000)
WORD: Final = u64(0xFFFF_FFFF_FFFF_FFFF)

SUCCESS: Final = u64(0)
NOT_SUPPORTED: Final = WORD
INVALID: Final = WORD - 2
DENIED: Final = WORD - 3
TRNG_INVALID: Final = WORD - 1
MEM_SHARE: Final = u64(0xC600_0003)
MEM_UNSHARE: Final = u64(0xC600_0004)
RELINQUISH: Final = u64(0xC600_0009)
SHARE_RANGE: Final = u64(0xC600_DE04)
UNSHARE_RANGE: Final = u64(0xC600_DE05)
ONE_STAY: Final = u64(8)
"""Pages, more than a call about many does."""

_ABOUT_PAGES = (0xC600_0003, 0xC600_0004, 0xC600_0007, 0xC600_0008, 0xC600_0009)
ABOUT_PAGES: Final = constant(Array[u64, len(_ABOUT_PAGES)].of(_ABOUT_PAGES))
"""MEM_SHARE, MEM_UNSHARE, MMIO_GUARD_MAP and UNMAP, RELINQUISH."""
_NO_PAGES = (
    0, 1, 0x8800_0001, 0x8800_0FFF, 0x4020_0000, 0x7FFF_F000, 0x8840_0000, 0x1_0000_0000, 0x0B00_0000, 1 << 40, 0x8800_0000 | 1 << 40,
    0x8800_0000 | 1 << 63, (1 << 64) - 4096, (1 << 64) - 1,
)  # fmt: skip
NO_PAGES: Final = constant(Array[u64, len(_NO_PAGES)].of(_NO_PAGES))
"""Unaligned, in no window, behind the end of each, beyond all addresses."""
_COUNTS = (1, 8, 9, 1 << 20, 1 << 52, 1 << 63, (1 << 64) - 1)
COUNTS: Final = constant(Array[u64, len(_COUNTS)].of(_COUNTS))
_NO_CALLS = (0, 0x8600_0003, 0xC600_0001, 0xC600_000A, 0xC600_003F, 0xC600_DE07, 0xC600_DE0F, 0xC600_FFFF, 0x8400_0020, 0xC400_0020, 0xFFFF_FFFF)
NO_CALLS: Final = constant(Array[u64, len(_NO_CALLS)].of(_NO_CALLS))
"""Numbers that mean nothing."""
_PROTECT = (0xC600_DE01, 0xC600_DE02, 0xC600_DE03)
PROTECT: Final = constant(Array[u64, len(_PROTECT)].of(_PROTECT))
"""BEGIN, MEASURE, COMMIT: this guest is protected already."""
_RANDOM = (0x8400_0053, 0xC400_0053)
RANDOM: Final = constant(Array[u64, len(_RANDOM)].of(_RANDOM))

WRONG: Final = AtomicU64()
"""The step that was answered wrongly first, or 0."""
ANSWER: Final = AtomicU64()
"""What was answered there."""
BALANCE: Final = AtomicU64()
"""Of the contested page: how often it was shared and not unshared yet, by both CPUs together."""


def storm(cpu: u64, seed: u64) -> None:
    """One round of CPU 0 or 1, while the other does the same. WRONG says what came of it."""
    _refused(cpu)
    _own_page(OWN + PAGE * OWN_PAGES * cpu, MARK + seed * 2 + cpu)
    _own_range(OWN + PAGE * (OWN_PAGES * cpu + 1))
    _contest()


def settle() -> None:
    """After the storm, by one CPU: the contested page is shared as often as the answers said, and holds what it held."""
    left = start.hypercall(MEM_UNSHARE, CONTESTED.raw, u64(0), u64(0))
    _expect(u64(90), left, SUCCESS if BALANCE.load(Order.ACQUIRE) == 1 else INVALID)
    BALANCE.store(u64(0), Order.RELEASE)
    _expect(u64(91), mmio_read64(CONTESTED), MARK)


def prepare() -> None:
    """Before the storm: the contested page is private, with MARK."""
    mmio_write64(CONTESTED, MARK)


def _expect(step: u64, answer: u64, wanted: u64) -> None:
    if answer != wanted and WRONG.compare_exchange(u64(0), step, Order.ACQ_REL) == 0:
        ANSWER.store(answer, Order.RELEASE)


def _refused(cpu: u64) -> None:
    """What can never be right, and what is not this guest's to ask."""
    own = OWN + PAGE * OWN_PAGES * cpu
    for at in u64.range(NO_PAGES.length):
        for number in u64.range(ABOUT_PAGES.length):
            _expect(u64(1), start.hypercall(ABOUT_PAGES[number], NO_PAGES[at], u64(0), u64(0)), INVALID)
        for number in u64.range(COUNTS.length):
            _expect(u64(2), start.hypercall(SHARE_RANGE, NO_PAGES[at], COUNTS[number], WORD), INVALID)
            _expect(u64(3), start.hypercall(UNSHARE_RANGE, NO_PAGES[at], COUNTS[number], WORD), INVALID)
    for function in u64.range(MEM_SHARE, MEM_UNSHARE + 1):
        _expect(u64(4), start.hypercall(function, own.raw, u64(1), u64(0)), INVALID)
        _expect(u64(5), start.hypercall(function, own.raw, u64(0), WORD), INVALID)
    for number in u64.range(NO_CALLS.length):
        _expect(u64(6), start.hypercall(NO_CALLS[number], own.raw, u64(1), u64(2)), NOT_SUPPORTED)
    for number in u64.range(PROTECT.length):
        _expect(u64(7), start.hypercall(PROTECT[number], own.raw, u64(0), u64(0)), DENIED)
    for number in u64.range(RANDOM.length):
        _expect(u64(8), start.hypercall(RANDOM[number], u64(0), u64(0), u64(0)), TRNG_INVALID)
        _expect(u64(9), start.hypercall(RANDOM[number], u64(193), u64(0), u64(0)), TRNG_INVALID)


def _own_page(page: Pa, mark: u64) -> None:
    """A page that this CPU alone knows: shared and unshared once each, with what it held; given up, it is zero."""
    mmio_write64(page, mark)
    _expect(u64(20), start.hypercall(MEM_UNSHARE, page.raw, u64(0), u64(0)), INVALID)
    _expect(u64(21), start.hypercall(MEM_SHARE, page.raw, u64(0), u64(0)), SUCCESS)
    _expect(u64(22), start.hypercall(MEM_SHARE, page.raw, u64(0), u64(0)), INVALID)
    _expect(u64(23), mmio_read64(page), mark)
    _expect(u64(24), start.hypercall(MEM_UNSHARE, page.raw, u64(0), u64(0)), SUCCESS)
    _expect(u64(25), start.hypercall(MEM_UNSHARE, page.raw, u64(0), u64(0)), INVALID)
    _expect(u64(26), mmio_read64(page), mark)
    _expect(u64(27), start.hypercall(RELINQUISH, page.raw, u64(0), u64(0)), SUCCESS)
    _expect(u64(28), mmio_read64(page), u64(0))


def _own_range(first: Pa) -> None:
    """As many pages as one stay is for, however many are asked for, and one at least; and all of them back."""
    mmio_write64(first, MARK)
    _expect(u64(40), start.hypercall(SHARE_RANGE, first.raw, u64(1 << 52), u64(0)), SUCCESS)
    _expect(u64(41), start.hypercall(MEM_SHARE, first.raw, u64(0), u64(0)), INVALID)
    _expect(u64(42), start.hypercall(MEM_UNSHARE, (first + PAGE * ONE_STAY).raw, u64(0), u64(0)), INVALID)
    _expect(u64(43), mmio_read64(first), MARK)
    _expect(u64(44), start.hypercall(UNSHARE_RANGE, first.raw, WORD, u64(0)), SUCCESS)
    _expect(u64(45), start.hypercall(MEM_UNSHARE, first.raw, u64(0), u64(0)), INVALID)
    for number in u64.range(1, ONE_STAY):
        # One call may have shared more than the other took back.
        start.hypercall(MEM_UNSHARE, (first + PAGE * number).raw, u64(0), u64(0))
        _expect(u64(46), start.hypercall(MEM_UNSHARE, (first + PAGE * number).raw, u64(0), u64(0)), INVALID)
    _expect(u64(47), mmio_read64(first), MARK)


def _contest() -> None:
    """One page, shared and unshared by both CPUs: each answer is that of the one order in which the calls came."""
    for _ in u64.range(64):
        if start.hypercall(MEM_SHARE, CONTESTED.raw, u64(0), u64(0)) == SUCCESS:
            BALANCE.add(u64(1), Order.ACQ_REL)
        _expect(u64(60), mmio_read64(CONTESTED), MARK)
        if start.hypercall(MEM_UNSHARE, CONTESTED.raw, u64(0), u64(0)) == SUCCESS:
            BALANCE.sub(u64(1), Order.ACQ_REL)
