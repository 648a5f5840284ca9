# SPDX-License-Identifier: Apache-2.0
"""The bare guest's CPUs: what CPU 0 does on command, what the others wait for, and what an interrupt does.

Each kind of exit is caused between two marks and checked outside of them. Memory to be touched for the first time lies at SMALL (mapped by 4 KiB
pages) and at LARGE (by blocks of 2 MiB); the monitor sees to it that stage 2 has none of it when the command comes. What the monitor drops lies
at FRESH, and at KEPT where it comes back with what it held. No lock: what both CPUs and the interrupt see is atomic.
"""

from __future__ import annotations

from typing import Final, Never

from delphyne.board.guest import calls, device, devices, gic, identity, narrow, odd, start, walks
from delphyne.lang import AtomicU64, Enum8, Order, Pa, SysReg, entry, isb, mmio_read64, mmio_write64, u8, u64, wrap_mul, wrap_sub

CNTV_CTL_EL0: Final = SysReg(u64, "CNTV_CTL_EL0", 3, 3, 14, 3, 1)
CNTV_TVAL_EL0: Final = SysReg(u64, "CNTV_TVAL_EL0", 3, 3, 14, 3, 0)
CNTVCT_EL0: Final = SysReg(u64, "CNTVCT_EL0", 3, 3, 14, 0, 2)
CNTPCT_EL0: Final = SysReg(u64, "CNTPCT_EL0", 3, 3, 14, 0, 1)
CNTP_CTL_EL0: Final = SysReg(u64, "CNTP_CTL_EL0", 3, 3, 14, 2, 1)
CNTP_CVAL_EL0: Final = SysReg(u64, "CNTP_CVAL_EL0", 3, 3, 14, 2, 2)
CNTP_TVAL_EL0: Final = SysReg(u64, "CNTP_TVAL_EL0", 3, 3, 14, 2, 0)
TIMER_ENABLED: Final = u64(3)
"""Of CNTP_CTL_EL0, with its interrupt masked."""
FAR_AHEAD: Final = u64(1 << 62)
TIMER_WIDTH: Final = u64(0x7FFF_FFFF)
"""The largest value of CNTP_TVAL_EL0."""
CNTFRQ_EL0: Final = SysReg(u64, "CNTFRQ_EL0", 3, 3, 14, 0, 0)
TPIDR_EL1: Final = SysReg(u64, "TPIDR_EL1", 3, 0, 13, 0, 4)

SMALL: Final = Pa(u64(0x8000_0000))
FRESH: Final = Pa(u64(0x8800_0000))
KEPT: Final = Pa(u64(0x8C00_0000))
LARGE: Final = Pa(u64(0xC000_0000))
PAGE: Final = u64(4096)
BLOCK: Final = u64(2 << 20)
UNMAP_PAGES: Final = u64(8)
PATTERN: Final = u64(0x5EED_0000_0000_0001)
EQUAL_PAGES: Final = u64(256)
SOAK_PAGES: Final = u64(512)
SOAK_MARK: Final = u64(0x5EED_50A4_C0DE)
"""The upper 48 bits of every word that the storm's pages hold, by which the monitor would know them."""
CLEAN: Final = Pa(u64(0x400F_E000))
"""A page of the image that the manifest lets the guest read and no more: each word is CLEAN_MARK and its number."""
CLEAN_MARK: Final = u64(0x5EED_C1EA_0000_0000)
TREE: Final = Pa(u64(0x400F_F000))
TREE_BYTES: Final = u64(256)
"""Behind these the device tree's page, which the guest may write and does not, is zero."""
PSCI_VERSION: Final = u64(0x8400_0000)
PSCI_SYSTEM_OFF: Final = u64(0x8400_0008)
PSCI_CPU_ON: Final = u64(0xC400_0003)
RELINQUISH: Final = u64(0xC600_0009)
"""A protected guest's page is zero at its next touch (docs/guest-abi.md)."""
ADDITIONS: Final = u64(8_000_000)
PATIENCE: Final = u64(20)
"""Seconds of the virtual counter after which what was waited for counts as lost."""

INTERRUPTS: Final = AtomicU64()
"""How often the timer's interrupt or an IPI was taken, on any CPU."""
ONLINE: Final = AtomicU64()
"""CPUs that run, but for CPU 0."""
AWAKE: Final = AtomicU64()
"""Whether the other CPUs wait for an IPI running (1) or asleep (0)."""
STORMS: Final = AtomicU64()
"""Rounds of hostile calls that CPU 1 is to make; 0 once it has."""
SOAKED: Final = AtomicU64()
"""Repetitions of SOAK that are over since there was a command of another kind, which may write to the same pages."""


class Kind(Enum8):
    """What causes the exit."""

    NONE = 0
    HYPERCALL = 1
    MMIO = 2
    VGIC = 3
    IPI = 4
    EOI = 5
    TIMER = 6
    WFI = 7
    FILL_4K = 8
    FILL_2M = 9
    REFILL_4K = 10
    NOTHING = 11
    DEBUG = 12
    TAKE_4K = 13
    BRING_4K = 14
    CALLS = 15
    """No exit: calls of a hostile guest, by CPUs 0 and 1."""
    SOAK = 16
    NAMED = 17
    """No exit but those of the host's making: what the manifest names is there, and what may not be written is not."""
    COUNTER = 18
    """An exit between any two looks at the counters."""
    ODD = 19
    """Instructions and calls that are nobody's business (`odd`)."""
    WALKS = 20
    """The guest's own tables in odd places (`walks`)."""
    EXCLUSIVE = 21
    """A count in a page that the monitor takes meanwhile."""
    PHYSICAL = 22
    """The physical timer, each of whose registers the host emulates, read and written."""
    NARROW = 23
    """AArch32 at EL0 (`narrow`)."""
    EQUAL = 24
    """No exit but those of the host's making: pages with one content."""
    ORDER = 25
    """A device's register in big-endian order."""
    IDENTITY = 26
    """The identification registers, shown to the monitor."""
    DEVICES = 27
    """What of its devices a guest has mapped, and not (`devices`)."""


class Wrong(Enum8):
    """What a command found wrong; 0 is nothing."""

    NOTHING = 0
    UNKNOWN = 1
    ANSWER = 2
    LOST = 3
    MEMORY = 4
    SIMD = 5
    OFFLINE = 6
    RIGHTS = 7
    BACK = 8
    """A counter went back."""


@entry("guest_main")
def guest_main(cpu: u64) -> None:
    """CPU 0: sets the machine up and obeys."""
    gic.set_up(device.read(device.GIC_VERSION))
    gic.set_up_cpu(cpu)
    for other in u64.range(1, device.read(device.CPUS)):
        answer = start.hypercall(PSCI_CPU_ON, other, start.secondary_address(), other)
        if answer != 0 or not _reached(ONLINE, other):
            device.write(device.RESULT, u64(Wrong.OFFLINE.raw))
    start.unmask_interrupts()
    while True:
        command = device.read(device.COMMAND)
        if command == 0:
            break
        wrong = _obey(command)
        device.write(device.TICKS, start.take_ticks())
        device.write(device.RESULT, u64(wrong.raw))
    start.hypercall(PSCI_SYSTEM_OFF, u64(0), u64(0), u64(0))


@entry("guest_other_main")
def guest_other_main(cpu: u64) -> Never:
    """Another CPU: takes IPIs for ever."""
    gic.set_up_cpu(cpu)
    start.unmask_interrupts()
    ONLINE.add(u64(1), Order.RELEASE)
    while True:
        if cpu == 1 and STORMS.load(Order.ACQUIRE) != 0:
            for seed in u64.range(STORMS.load(Order.ACQUIRE)):
                calls.storm(cpu, seed)
            STORMS.store(u64(0), Order.RELEASE)
        if AWAKE.load(Order.ACQUIRE) == 0:
            start.wait_for_interrupt()
        start.relax()


@entry("guest_interrupt")
def guest_interrupt() -> None:
    """An IRQ: the timer's is turned off, all are ended, and only then is it known to have come."""
    acknowledged = gic.acknowledge()
    number = acknowledged & gic.INTID_MASK
    if number >= 1020:
        return
    if number == gic.TIMER:
        CNTV_CTL_EL0.write(u64(0))
        isb()
    gic.end(acknowledged)
    INTERRUPTS.add(u64(1), Order.RELEASE)


@entry("guest_exception")
def guest_exception(syndrome: u64, at: u64, address: u64) -> Never:
    """ESR, ELR and FAR of what should not have happened."""
    _die(syndrome, at, address)


@entry("guest_trapped")
def guest_trapped(site: u64, first: u64, second: u64) -> Never:
    """A check of compiled code failed."""
    _die(site, first, second)


def _die(first: u64, second: u64, third: u64) -> Never:
    device.write(device.FAULT, first)
    device.write(device.FAULT, second)
    device.write(device.FAULT, third)
    while True:
        start.hypercall(PSCI_SYSTEM_OFF, u64(0), u64(0), u64(0))


def _reached(count: AtomicU64, wanted: u64) -> bool:
    """Waits, running, until `count` is `wanted`; False where it does not come."""
    isb()
    begun = CNTVCT_EL0.read()
    patience = CNTFRQ_EL0.read() * PATIENCE
    while count.load(Order.ACQUIRE) != wanted:
        start.relax()
        if wrap_sub(CNTVCT_EL0.read(), begun) > patience:
            return False
    return True


def _obey(command: u64) -> Wrong:
    """Runs one command; the first thing that was wrong."""
    kind = Kind.of(u8.wrap(command))
    if kind is None:
        return Wrong.UNKNOWN
    simd = command >> 8 & 1 == 1
    if (kind is Kind.IPI or kind is Kind.CALLS) and not _wake_other():
        return Wrong.LOST
    if kind is not Kind.SOAK:
        SOAKED.store(u64(0), Order.RELEASE)
    times = command >> 16 & 0xFFFF
    wrong = _storm(times) if kind is Kind.CALLS else _repeat(kind, times, simd)
    AWAKE.store(u64(0), Order.RELEASE)
    return wrong


def _wake_other() -> bool:
    """CPU 1 waits running from now on; False where it does not answer."""
    AWAKE.store(u64(1), Order.RELEASE)
    expected = INTERRUPTS.load(Order.ACQUIRE) + 1
    gic.send_ipi(u64(1))
    return _reached(INTERRUPTS, expected)


def _storm(times: u64) -> Wrong:
    """Both CPUs make hostile calls, and afterwards the guest has what it had."""
    _fill(KEPT, PATTERN)
    calls.prepare()
    STORMS.store(times, Order.RELEASE)
    for seed in u64.range(times):
        calls.storm(u64(0), seed)
    if not _reached(STORMS, u64(0)):
        return Wrong.LOST
    calls.settle()
    wrong = calls.WRONG.load(Order.ACQUIRE)
    if wrong != 0:
        _die(wrong, calls.ANSWER.load(Order.ACQUIRE), u64(0))
    return Wrong.NOTHING if _is_filled(KEPT, PATTERN) else Wrong.MEMORY


def _repeat(kind: Kind, times: u64, simd: bool) -> Wrong:
    for number in u64.range(times):
        seed = number + 0x100
        if simd:
            start.fill_simd(seed)
        wrong = _once(kind, number, simd, seed)
        if wrong is not Wrong.NOTHING:
            return wrong
        if simd and start.count_wrong_simd(seed) != 0:
            return Wrong.SIMD
    return Wrong.NOTHING


def _use(simd: bool, seed: u64) -> bool:
    """The one SIMD instruction between two exits, where wanted; False where it brought the wrong thing."""
    return not simd or start.read_simd() == seed


def _once(kind: Kind, number: u64, simd: bool, seed: u64) -> Wrong:
    match kind:
        case Kind.HYPERCALL:
            return _hypercall(simd, seed)
        case Kind.MMIO:
            return _mmio(simd, seed)
        case Kind.VGIC:
            return _vgic(simd, seed)
        case Kind.IPI:
            return _ipi(simd, seed)
        case Kind.EOI:
            return _eoi(simd, seed)
        case Kind.TIMER:
            return _timer(simd, seed)
        case Kind.WFI:
            return _wfi(simd, seed)
        case Kind.FILL_4K:
            return _touch(SMALL + PAGE * number, simd, seed)
        case Kind.FILL_2M:
            return _touch(LARGE + BLOCK * number, simd, seed)
        case Kind.REFILL_4K:
            return _refill(FRESH + PAGE * UNMAP_PAGES * number, simd, seed)
        case Kind.TAKE_4K:
            return _take(KEPT + PAGE * UNMAP_PAGES * number, simd, seed)
        case Kind.BRING_4K:
            return _bring(KEPT + PAGE * UNMAP_PAGES * number, simd, seed)
        case Kind.SOAK:
            return _soak(simd, seed)
        case Kind.NOTHING:
            return _nothing(simd, seed)
        case Kind.NAMED:
            return _named()
        case Kind.COUNTER:
            return _counter()
        case Kind.ODD:
            return _odd()
        case Kind.WALKS:
            return _walks(seed)
        case Kind.EXCLUSIVE:
            return _exclusive()
        case Kind.ORDER:
            return _order(seed)
        case Kind.PHYSICAL:
            return _physical(seed)
        case Kind.NARROW:
            return _narrow()
        case Kind.EQUAL:
            return _equal()
        case Kind.IDENTITY:
            identity.show()
            return Wrong.NOTHING
        case Kind.DEVICES:
            return _devices(seed)
        case Kind.DEBUG:
            return _debug(simd, seed)
        case Kind.NONE | Kind.CALLS:
            return Wrong.UNKNOWN


def _nothing(simd: bool, seed: u64) -> Wrong:
    start.mark_begin()
    right = _use(simd, seed)
    start.mark_end()
    return Wrong.NOTHING if right else Wrong.SIMD


def _hypercall(simd: bool, seed: u64) -> Wrong:
    start.mark_begin()
    version = start.hypercall(PSCI_VERSION, u64(0), u64(0), u64(0))
    right = _use(simd, seed)
    start.mark_end()
    if not right:
        return Wrong.SIMD
    return Wrong.NOTHING if version >> 16 == 1 else Wrong.ANSWER


def _debug(simd: bool, seed: u64) -> Wrong:
    start.mark_begin()
    counted = start.write_debug_register(seed << 12)
    right = _use(simd, seed)
    start.mark_end()
    if not right:
        return Wrong.SIMD
    return Wrong.NOTHING if counted == 3 else Wrong.ANSWER


def _mmio(simd: bool, seed: u64) -> Wrong:
    start.mark_begin()
    device.write(device.ECHO, seed)
    right = _use(simd, seed)
    start.mark_end()
    if not right:
        return Wrong.SIMD
    return Wrong.NOTHING if device.read(device.ECHO) == ~seed else Wrong.ANSWER


def _vgic(simd: bool, seed: u64) -> Wrong:
    start.mark_begin()
    enabled = gic.read_enabled()
    right = _use(simd, seed)
    start.mark_end()
    if not right:
        return Wrong.SIMD
    return Wrong.NOTHING if enabled == 1 else Wrong.ANSWER


def _ipi(simd: bool, seed: u64) -> Wrong:
    expected = INTERRUPTS.load(Order.ACQUIRE) + 1
    start.mark_begin()
    gic.send_ipi(u64(1))
    came = _reached(INTERRUPTS, expected)
    right = _use(simd, seed)
    start.mark_end()
    if not right:
        return Wrong.SIMD
    return Wrong.NOTHING if came else Wrong.LOST


def _eoi(simd: bool, seed: u64) -> Wrong:
    """A level-sensitive interrupt is pending and acknowledged with IRQs masked; its end, which KVM asks to be told, is what is counted."""
    start.mask_interrupts()
    gic.make_pending()
    acknowledged = gic.acknowledge()
    start.mark_begin()
    gic.end(acknowledged)
    right = _use(simd, seed)
    start.mark_end()
    again = gic.acknowledge()
    start.unmask_interrupts()
    if not right:
        return Wrong.SIMD
    return Wrong.NOTHING if acknowledged == gic.SPI and again >= 1020 else Wrong.LOST


def _arm(share: u64) -> None:
    """The virtual timer fires after that share of a second."""
    CNTV_TVAL_EL0.write(CNTFRQ_EL0.read() // share)
    CNTV_CTL_EL0.write(u64(1))
    isb()


def _timer(simd: bool, seed: u64) -> Wrong:
    expected = INTERRUPTS.load(Order.ACQUIRE) + 1
    start.mark_begin()
    _arm(u64(200_000))
    came = _reached(INTERRUPTS, expected)
    right = _use(simd, seed)
    start.mark_end()
    if not right:
        return Wrong.SIMD
    return Wrong.NOTHING if came else Wrong.LOST


def _wfi(simd: bool, seed: u64) -> Wrong:
    expected = INTERRUPTS.load(Order.ACQUIRE) + 1
    start.mask_interrupts()
    _arm(u64(4000))
    start.mark_begin()
    start.wait_for_interrupt()
    right = _use(simd, seed)
    start.unmask_interrupts()
    came = _reached(INTERRUPTS, expected)
    start.mark_end()
    if not right:
        return Wrong.SIMD
    return Wrong.NOTHING if came else Wrong.LOST


def _touch(page: Pa, simd: bool, seed: u64) -> Wrong:
    """The first access to memory that stage 2 does not map yet; the monitor has left PATTERN in its second word, of which a protected guest sees
    nothing. That one gives the page up, so that the next first touch of it is one."""
    start.mark_begin()
    mmio_write64(page, seed)
    right = _use(simd, seed)
    start.mark_end()
    if not right:
        return Wrong.SIMD
    protected = device.read(device.PROTECTED) == 1
    if mmio_read64(page) != seed or mmio_read64(page + u64(8)) != (u64(0) if protected else PATTERN):
        return Wrong.MEMORY
    if protected and start.hypercall(RELINQUISH, page.raw, u64(0), u64(0)) != 0:
        return Wrong.ANSWER
    return Wrong.NOTHING


def _refill(first: Pa, simd: bool, seed: u64) -> Wrong:
    """UNMAP_PAGES pages are mapped, dropped by the monitor, and touched again: they must be new."""
    for number in u64.range(UNMAP_PAGES):
        mmio_write64(first + PAGE * number, seed)
    start.mark_begin()
    device.write(device.UNMAP, first.raw)
    right = _use(simd, seed)
    for number in u64.range(UNMAP_PAGES):
        mmio_write64(first + PAGE * number, seed)
        if not _use(simd, seed):
            right = False
    start.mark_end()
    if not right:
        return Wrong.SIMD
    for number in u64.range(UNMAP_PAGES):
        page = first + PAGE * number
        if mmio_read64(page) != seed or mmio_read64(page + u64(8)) != 0:
            return Wrong.MEMORY
    return Wrong.NOTHING


def _take(first: Pa, simd: bool, seed: u64) -> Wrong:
    """The monitor takes UNMAP_PAGES mapped pages away, which is what is counted; they come back as they were."""
    _fill(first, seed)
    start.mark_begin()
    device.write(device.UNMAP, first.raw)
    right = _use(simd, seed)
    start.mark_end()
    if not right:
        return Wrong.SIMD
    return Wrong.NOTHING if _is_filled(first, seed) else Wrong.MEMORY


def _bring(first: Pa, simd: bool, seed: u64) -> Wrong:
    """UNMAP_PAGES pages that the monitor took away come back by a store to each, which is what is counted."""
    _fill(first, seed)
    device.write(device.UNMAP, first.raw)
    right = True
    start.mark_begin()
    for number in u64.range(UNMAP_PAGES):
        mmio_write64(first + PAGE * number, seed)
        if not _use(simd, seed):
            right = False
    start.mark_end()
    if not right:
        return Wrong.SIMD
    return Wrong.NOTHING if _is_filled(first, seed) else Wrong.MEMORY


def _fill(first: Pa, seed: u64) -> None:
    """The first two words of each page."""
    for number in u64.range(UNMAP_PAGES):
        mmio_write64(first + PAGE * number, seed)
        mmio_write64(first + PAGE * number + u64(8), ~seed)


def _is_filled(first: Pa, seed: u64) -> bool:
    for number in u64.range(UNMAP_PAGES):
        page = first + PAGE * number
        if mmio_read64(page) != seed or mmio_read64(page + u64(8)) != ~seed:
            return False
    return True


def _soak(simd: bool, seed: u64) -> Wrong:
    """Every word of SOAK_PAGES pages must be what the repetition before left, be it one of the command before, while the monitor may take any of
    them at any moment; then it gets another."""
    number = SOAKED.load(Order.ACQUIRE)
    for page in u64.range(SOAK_PAGES):
        at = KEPT + PAGE * page
        for offset in u64.range(0, PAGE, 8):
            if number != 0 and mmio_read64(at + offset) != soaked(at + offset, number - 1):
                return Wrong.MEMORY
            mmio_write64(at + offset, soaked(at + offset, number))
        if not _use(simd, seed):
            return Wrong.SIMD
    SOAKED.store(number + 1, Order.RELEASE)
    return Wrong.NOTHING


def soaked(at: Pa, number: u64) -> u64:
    """What a word holds after a repetition: SOAK_MARK, and 16 bits that place and repetition decide."""
    return SOAK_MARK << 16 | wrap_mul(at.raw ^ number << 40, u64(0x9E37_79B9_7F4A_7C15)) >> 48


def _named() -> Wrong:
    """What the manifest names is what it was, and the host's touch gives the guest no right that it had not."""
    for offset in u64.range(0, PAGE, 8):
        if mmio_read64(CLEAN + offset) != CLEAN_MARK + offset // 8:
            return Wrong.MEMORY
    for offset in u64.range(TREE_BYTES, PAGE, 8):
        if mmio_read64(TREE + offset) != 0:
            return Wrong.MEMORY
    return Wrong.RIGHTS if start.try_store(CLEAN.raw, u64(1)) == 0 else Wrong.NOTHING


def _counter() -> Wrong:
    """Neither counter goes back over an exit, whatever the monitor sets meanwhile."""
    isb()
    virtual = CNTVCT_EL0.read()
    physical = CNTPCT_EL0.read()
    device.write(device.ECHO, virtual)
    isb()
    if CNTVCT_EL0.read() < virtual or CNTPCT_EL0.read() < physical:
        return Wrong.BACK
    return Wrong.NOTHING


def _odd() -> Wrong:
    """The first instruction or call with another end than it has to have is what the guest dies of."""
    wrong = odd.first_wrong()
    if wrong != 0:
        _die(wrong, odd.CAME.load(Order.ACQUIRE), u64(0))
    return Wrong.NOTHING


def _walks(seed: u64) -> Wrong:
    """The first step of `walks` with another end than it has to have is what the guest dies of."""
    wrong = walks.first_wrong(seed)
    if wrong != 0:
        _die(wrong, walks.CAME.load(Order.ACQUIRE), u64(0))
    return Wrong.NOTHING


def _devices(seed: u64) -> Wrong:
    """The first step of `devices` with another end than it has to have is what the guest dies of."""
    wrong = devices.first_wrong(seed)
    if wrong != 0:
        _die(wrong, devices.CAME.load(Order.ACQUIRE), u64(0))
    return Wrong.NOTHING


def _order(seed: u64) -> Wrong:
    """What is written in one order of bytes is read in the other."""
    at = (device.BASE + device.ECHO).raw
    start.store_big_endian(at, seed)
    if device.read(device.ECHO) != ~start.turned_round(seed):
        return Wrong.ANSWER
    device.write(device.ECHO, seed)
    return Wrong.NOTHING if start.load_big_endian(at) == ~start.turned_round(seed) else Wrong.ANSWER


def _narrow() -> Wrong:
    """The same of `narrow`."""
    wrong = narrow.first_wrong()
    if wrong != 0:
        _die(wrong, narrow.CAME.load(Order.ACQUIRE), u64(0))
    return Wrong.NOTHING


def _equal() -> Wrong:
    """EQUAL_PAGES pages hold PATTERN in every word once the first of them does, which the very first repetition sees to."""
    is_new = mmio_read64(KEPT) != PATTERN
    for offset in u64.range(0, PAGE * EQUAL_PAGES, 8):
        if is_new:
            mmio_write64(KEPT + offset, PATTERN)
        elif mmio_read64(KEPT + offset) != PATTERN:
            return Wrong.MEMORY
    return Wrong.NOTHING


def _physical(seed: u64) -> Wrong:
    """What the host emulates is what was written, as long as it plays by the rules."""
    CNTP_CTL_EL0.write(u64(0))
    CNTP_CVAL_EL0.write(FAR_AHEAD | seed)
    if CNTP_CVAL_EL0.read() != FAR_AHEAD | seed or CNTP_CTL_EL0.read() != 0:
        return Wrong.ANSWER
    CNTP_CTL_EL0.write(TIMER_ENABLED)
    if CNTP_CTL_EL0.read() != TIMER_ENABLED:
        return Wrong.ANSWER
    CNTP_TVAL_EL0.write(TIMER_WIDTH)
    left = CNTP_TVAL_EL0.read()
    CNTP_CTL_EL0.write(u64(0))
    return Wrong.NOTHING if left - 1 < TIMER_WIDTH else Wrong.ANSWER


def _exclusive() -> Wrong:
    """Each addition to a word is there at the end, whoever looks at its page meanwhile; atomic ones too, where there are any."""
    mmio_write64(KEPT, u64(0))
    start.add_exclusively(KEPT.raw, ADDITIONS)
    if mmio_read64(KEPT) != ADDITIONS:
        return Wrong.MEMORY
    if identity.ID_AA64ISAR0_EL1.read() >> 20 & 0xF >= 2:
        start.add_atomically(KEPT.raw, ADDITIONS)
        if mmio_read64(KEPT) != ADDITIONS * 2:
            return Wrong.MEMORY
    return Wrong.NOTHING
