# SPDX-License-Identifier: Apache-2.0
"""The host: its kernel from the boot modules, its device tree, its stage-2 map, and its first instruction on each CPU.

The host sees the machine one to one, but for EL2's memory, which is in its device tree no more and in its map never, and for the frames of protected
guests. RAM is mapped before the first instruction (`memory.host_map`); everything else when it is first touched, since no tree says where all
devices are; but for pages of the interrupt controller, to which each access is looked at (`gic_guard`).

Locks: HOST_LOCK (22) while the map is made and filled; what a touch of a guest's frame takes is in `guest.private`, and what an access to the
interrupt controller takes, in `gic_guard`.
"""

from __future__ import annotations

from typing import Final, Never

from delphyne.el2.arch import fdt, fdt_edit, image, inject, modules
from delphyne.el2.arch.caches import clean_range
from delphyne.el2.arch.cpu import CPUS, Cpu
from delphyne.el2.arch.err import Err
from delphyne.el2.arch.exception import FAULT_LEVEL, MODE_EL1H, TRANSLATION_FAULT, AbortIss, Spsr
from delphyne.el2.arch.frame import Frame, skip
from delphyne.el2.arch.machine import MACHINE, Machine, is_ram, is_reserved
from delphyne.el2.arch.pagetable import PAGE_SIZE, VTTBR_EL2, level_size
from delphyne.el2.arch.translation import VTCR_EL2, physical_bits, physical_size
from delphyne.el2.arch.world import Places
from delphyne.el2.control import console
from delphyne.el2.entry import cpus, firmware, gic_guard, gic_places, host_modules, own_map
from delphyne.el2.guest import touch
from delphyne.el2.kvm import host_state, layout, places, seats
from delphyne.el2.kvm.layout import Phase
from delphyne.el2.memory import flush, frames, host_map, pages, stage2, tables
from delphyne.el2.memory.graveyard import GUESTS_LOCK
from delphyne.el2.memory.host_map import HOST_LOCK, HOST_SPACE
from delphyne.lang import (
    Array,
    Domain,
    Hostile,
    Level,
    Order,
    Pa,
    Va,
    View,
    boot,
    dsb,
    frozen,
    holds,
    isb,
    log,
    owned,
    struct,
    tlbi_vmalls12e1,
    u8,
    u32,
    u64,
)

TREE_ALIGNMENT: Final = u64(2 << 20)
TREE_GROWTH: Final = u64(8192)
"""More than the edit can add: a command line moves, memory nodes gain a few entries."""


@struct
class Host:
    """What was found for the host, and what it is told. `layout_known` says that the kernel's own structures could be read: one whose KVM cannot
    be served is not told that it was booted at EL2, and never tries."""

    tree: fdt_edit.HostTree
    tree_at: Pa
    layout: layout.Layout
    places: Places
    layout_known: bool


HOST: Final = frozen(Host())
READING: Final = frozen(layout.Reading())
CHECKPOINTS: Final = frozen(Array[u32, 16384]())
"""Scratch of the BTF reader."""


@boot
def prepare(machine: Machine, raw: View[u8], tree: fdt.Tree, blob: fdt.Region) -> None | Err:
    """Everything up to the first instruction; `blob` is where the machine's own tree lies.

    Errors: NO_MEMORY without a place for the host's tree; those of the parts."""
    kernel = host_modules.load(machine)
    file = host_modules.WANTED.modules.kernel
    read_layout(Hostile(file.base, file.size))
    placed = _place_tree(machine, blob, kernel, tree.total + TREE_GROWTH)
    if isinstance(placed, Err):
        return placed
    written = _write_tree(raw, tree, tree.total + TREE_GROWTH)
    if isinstance(written, Err):
        return written
    guarded = gic_guard.prepare(machine)
    if isinstance(guarded, Err):
        log(Level.ERROR, f"the interrupt controller cannot be kept from naming memory ({guarded})")
        return guarded
    with HOST_LOCK:
        return _make_map(machine)


@boot
def read_layout(image: Hostile) -> None:
    """The layouts and call numbers of the first kernel, while nobody runs. Without them the host boots as well, and has no KVM."""
    begin_layout(image)
    while not go_on_with_layout():
        pass
    use_layout()


@boot
def forget_layout() -> None:
    """What the former kernel's image said counts no more."""
    HOST.layout_known = False


@boot
def begin_layout(image: Hostile) -> None:
    """`image` is read next."""
    layout.begin(READING, image)


@boot
def go_on_with_layout() -> bool:
    """A bounded piece of the reading; True where there is nothing more to read."""
    done = layout.go_on(READING, CHECKPOINTS[:], HOST.layout)
    if isinstance(done, Err):
        log(Level.WARNING, f"the host kernel's BTF cannot be read ({done}): it boots without /dev/kvm")
        return True
    return done


@boot
def use_layout() -> None:
    """What was read counts from now on, where it is whole."""
    if READING.phase is not Phase.DONE:
        return
    if not layout.is_complete(HOST.layout):
        log(Level.WARNING, "the host kernel has no KVM of a kind that is served: it boots without /dev/kvm")
        return
    placed = places.fill(HOST.layout, HOST.places)
    if isinstance(placed, Err):
        log(Level.WARNING, "the host kernel's BTF contradicts itself: it boots without /dev/kvm")
    else:
        HOST.layout_known = True


@boot
def _place_tree(machine: Machine, blob: fdt.Region, kernel: fdt.Region, size: u64) -> None | Err:
    """A place for the host's tree that nothing else of the boot uses."""
    holes = own_map.Holes()
    found = own_map.find_holes(machine, blob, holes)
    if isinstance(found, Err):
        return found
    own = own_map.add_hole(holes, pages.REGION.base.raw, pages.REGION.base.raw + own_map.own_bytes())
    if isinstance(own, Err):
        return own
    code = own_map.add_hole(holes, kernel.base.raw, kernel.base.raw + kernel.size)
    if isinstance(code, Err):
        return code
    files = host_modules.keep_out(holes)
    if isinstance(files, Err):
        return files
    place = own_map.place(machine, holes, own_map.page_up(size), TREE_ALIGNMENT)
    if isinstance(place, Err):
        return place
    HOST.tree_at = place
    return None


@boot
def _write_tree(raw: View[u8], tree: fdt.Tree, room: u64) -> None | Err:
    """The host's tree, cleaned to memory: the host reads it before its caches are on."""
    host = HOST.tree
    wanted = host_modules.WANTED.modules
    host.arguments.copy_from(wanted.arguments)
    host.arguments_length = wanted.arguments_length
    host.initrd = wanted.ramdisk
    host.holes[0] = fdt.Region(image.image_start(), own_map.own_image_end(MACHINE) - image.image_start())
    host.holes[1] = fdt.Region(pages.REGION.base, own_map.own_bytes())
    host.hole_count = u64(2)
    with owned(HOST.tree_at, room) as out:
        size = fdt_edit.edit(raw, tree, out, host)
    if isinstance(size, Err):
        return size
    clean_range(Va(HOST.tree_at.raw), room)
    return None


@holds(HOST_LOCK)
def _make_map(machine: Machine) -> None | Err:
    bits = max(physical_bits(), u64(39))
    created = host_map.create(bits)
    if isinstance(created, Err):
        return created
    for i in u64.range(machine.bank_count):
        bank = machine.banks[i]
        at = own_map.page_up(bank.base.raw)
        end = (bank.base + bank.size).align_down(PAGE_SIZE).raw
        while at < end:
            own = own_end(at)
            if own is not None:
                at = own
            else:
                stop = min(end, _next_own(at))
                mapped = host_map.add(at, stop - at)
                if isinstance(mapped, Err):
                    return mapped
                at = stop
    return None


def is_prepared() -> bool:
    """Whether this machine has a host: until then it has no map, and nothing of it may run."""
    return HOST.tree.hole_count != 0


def own_end(at: u64) -> u64 | None:
    """The end of EL2's memory that `at` lies in."""
    for i in u64.range(HOST.tree.hole_count):
        hole = HOST.tree.holes[i]
        if modules.is_inside(hole, Pa(at)):
            return hole.base.raw + hole.size
    return None


def _next_own(at: u64) -> u64:
    """Where EL2's memory begins next after `at`, which is none."""
    nearest = u64.MAX
    for i in u64.range(HOST.tree.hole_count):
        base = HOST.tree.holes[i].base.raw
        if base > at:
            nearest = min(nearest, base)
    return nearest


def _adopt() -> None:
    """This CPU serves the host from here on: its EL2 state, the host's map, nothing of a former map in its TLB."""
    cpus.set_controls()
    host_state.set_host_controls()
    seats.begin()
    flush.note_processor()
    with HOST_LOCK:
        VTCR_EL2.write(stage2.vtcr(HOST_SPACE, physical_size()))
        VTTBR_EL2.write(tables.vttbr_of(HOST_SPACE))
    isb()
    tlbi_vmalls12e1()
    dsb(Domain.NSH)
    host_state.await_boot_mode(HOST.layout_known)


def _begin(at: u64, x0: u64) -> Never:
    """The host at EL1, interrupts masked, MMU off."""
    frame = Frame()
    frame.elr = at
    frame.x[0] = x0
    frame.spsr = Spsr(mode=MODE_EL1H, debug_masked=True, serror_masked=True, irq_masked=True, fiq_masked=True).raw
    image.enter_lower(frame)


def start() -> Never:
    """The host's first instruction."""
    CPUS.mine().power.store(firmware.POWER_ON, Order.RELEASE)
    _adopt()
    kernel = host_modules.WANTED.modules.kernel
    log(Level.INFO, f"the host begins at {kernel.base:#x}, its device tree at {HOST.tree_at:#x}")
    console.hurry()
    _begin(kernel.base.raw, HOST.tree_at.raw)


def start_secondary(mine: Cpu) -> Never:
    """The host's first instruction on a CPU that it started or that comes back from a suspend."""
    _adopt()
    _begin(mine.host_entry, mine.host_context)


def serve_abort(frame: Frame, iss: AbortIss, instruction: bool) -> None:
    """A stage-2 fault of the host: a device it has not touched before is mapped, EL2's memory and what does not exist is an external abort.

    Any other abort is the host's to hear of: HPFAR_EL2 does not say where it was, and trying again would not end."""
    ipa = (frame.hpfar >> 4) << 12
    if iss.fsc & ~FAULT_LEVEL == TRANSLATION_FAULT and own_end(ipa) is None and _answer(frame, iss, ipa, instruction):
        return
    log(Level.WARNING, f"the host at {frame.elr:#x} touches {ipa:#x}, which is not its own: write {iss.wnr}, fault status {iss.fsc:#x}")
    inject.external_abort(frame, instruction)


def _answer(frame: Frame, iss: AbortIss, ipa: u64, instruction: bool) -> bool:
    """Whether the host goes on: with its access, before or behind it. Of a guest's page it gets what an export leaves, of an ITS's table zeroes;
    maintenance of caches, which shows nothing, is not done, since EL2 has done what there was to do."""
    if gic_places.touches(ipa, u64(1)):
        return not instruction and gic_guard.serve(frame, iss, Pa(ipa))
    if frames.index_of(Pa(ipa)) is None:
        with HOST_LOCK:
            return _fill(ipa)
    withdrawn = gic_guard.is_withdrawn(Pa(ipa))
    if iss.cm and (withdrawn or touch.is_guests(Pa(ipa))):
        skip(frame)
        return True
    if withdrawn:
        return gic_guard.reclaim(Pa(ipa))
    with frames.LOCK, HOST_LOCK, GUESTS_LOCK:
        if HOST.layout_known:
            seats.stop_if_gone(HOST.layout, Pa(ipa))
        return touch.serve(Pa(ipa))


def memory_from(at: Pa) -> Hostile:
    """The host's memory from `at` to the end of the next page, or of its own where the next is not the host's; nothing where neither is,
    and nothing of a kernel that is not to hear of EL2.

    EL2 maps no reserved region and no part of a page at the end of a bank: to look there would be a fault of EL2 itself."""
    page = at.align_down(PAGE_SIZE)
    within = at - page
    if not HOST.layout_known:
        return Hostile(at, u64(0))
    if is_hosts(page, 2 * PAGE_SIZE):
        return Hostile(at, 2 * PAGE_SIZE - within)
    return Hostile(at, PAGE_SIZE - within) if is_hosts(page, PAGE_SIZE) else Hostile(at, u64(0))


def is_hosts(at: Pa, size: u64) -> bool:
    """Whether all of these bytes, at least one, are RAM that the host may name to others, in frames that are the host's whole: EL2 maps no others."""
    if size == 0 or not is_ram(MACHINE, at, size):
        return False
    start = at.align_down(PAGE_SIZE)
    whole = (at + size).align_up(PAGE_SIZE) - start
    return is_ram(MACHINE, start, whole) and not _touches_own(start.raw, whole) and not is_reserved(MACHINE, start, whole)


@holds(HOST_LOCK)
def _fill(ipa: u64) -> bool:
    """Maps the largest block around `ipa` that is all the host's and not mapped in part. False where there is none."""
    if host_map.is_mapped(ipa):
        return True
    for level in u64.range(1, 4):
        size = level_size(level)
        base = ipa & ~(size - 1)
        if not _touches_own(base, size) and not gic_places.touches(base, size) and not frames.touches_ram(Pa(base), size):
            mapped = host_map.add(base, size)
            if not isinstance(mapped, Err):
                return True
    return False


def _touches_own(base: u64, size: u64) -> bool:
    """Whether EL2 owns any of these bytes."""
    for i in u64.range(HOST.tree.hole_count):
        hole = HOST.tree.holes[i]
        if hole.base.raw < base + size and base < hole.base.raw + hole.size:
            return True
    return False
