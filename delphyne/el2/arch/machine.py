# SPDX-License-Identifier: Apache-2.0
"""The machine as its device tree describes it: RAM, reserved memory, CPUs, PSCI, interrupt controller, console.

`describe` reads everything once, at boot, into a `Machine`. It changes nothing unless it succeeds except the `Machine` it was given.
What a tree may say that no board has (RAM banks that overlap, more of them than fit) is refused rather than guessed at. No lock.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch import fdt, uart
from delphyne.el2.arch.cpu import MAX_CPUS
from delphyne.el2.arch.err import Err
from delphyne.el2.arch.psci import AFFINITY_MASK, Conduit
from delphyne.lang import Array, Enum8, Pa, View, frozen, struct, text, u8, u64

MAX_BANKS: Final = u64(32)
MAX_RESERVED: Final = u64(64)
MAX_REDISTRIBUTOR_REGIONS: Final = u64(16)
MAX_ITS: Final = u64(16)


class GicKind(Enum8):
    """The interrupt controller."""

    NONE = 0
    GICV2 = 2
    GICV3 = 3


@struct
class Machine:
    """All that EL2 takes from the device tree. Banks are sorted by address and do not overlap; reserved regions are as found.

    `gic` holds the distributor, then the first redistributors (GICv3) or the CPU interface (GICv2)."""

    banks: Array[fdt.Region, 32]
    bank_count: u64
    reserved: Array[fdt.Region, 64]
    reserved_count: u64
    cpus: Array[u64, 64]
    """Affinity of each CPU, the boot CPU's included, in the order of the tree."""
    cpu_count: u64
    conduit: Conduit
    gic_kind: GicKind
    gic: Array[fdt.Region, 2]
    redistributors: Array[fdt.Region, 16]
    """Of a GICv3: regions of redistributors in a row."""
    redistributor_regions: u64
    redistributor_stride: u64
    """Bytes from one redistributor to the next; 0 where each says itself how large it is."""
    its: Array[fdt.Region, 16]
    """Interrupt translation services. One that the tree says is not to be used has no size."""
    its_count: u64
    console: uart.Uart


MACHINE: Final = frozen(Machine())
"""This machine, once `describe` has read it."""


def describe(raw: View[u8], machine: Machine) -> fdt.Tree | Err:
    """Reads the tree in `raw` into `machine`, which is all zero before.

    Errors: those of `fdt.open_tree`; NOT_FOUND without RAM or CPUs; NO_MEMORY for more of anything than fits; MALFORMED for banks
    that overlap; UNSUPPORTED for addresses of more than two cells."""
    tree = fdt.open_tree(raw)
    if isinstance(tree, Err):
        return tree
    walked = _walk(raw, tree, machine)
    if isinstance(walked, Err):
        return walked
    listed = _read_reservations(raw, tree, machine)
    if isinstance(listed, Err):
        return listed
    if machine.bank_count == 0 or machine.cpu_count == 0:
        return Err.NOT_FOUND
    sorted_banks = _sort_banks(machine)
    if isinstance(sorted_banks, Err):
        return sorted_banks
    console = uart.find_console(raw, tree)
    if not isinstance(console, Err):
        machine.console = console
    return tree


def _walk(raw: View[u8], tree: fdt.Tree, machine: Machine) -> None | Err:
    """Each node once, in the order of the tree."""
    trail = fdt.Trail()
    first = fdt.root(raw, tree)
    if isinstance(first, Err):
        return first
    node: fdt.Node = first
    while True:
        trail.nodes[node.depth - 1] = node
        taken = _take_node(raw, tree, trail, node, machine)
        if isinstance(taken, Err):
            return taken
        following = fdt.next_node(raw, tree, node)
        if isinstance(following, Err):
            if following is Err.NOT_FOUND:
                return None
            return following
        node = following


def _take_node(raw: View[u8], tree: fdt.Tree, trail: fdt.Trail, node: fdt.Node, machine: Machine) -> None | Err:
    """What one node says about the machine, if anything."""
    if node.depth == 2:
        if fdt.holds_string(raw, tree, node, text(b"device_type"), text(b"memory")) and fdt.is_available(raw, tree, node):
            return _add_banks(raw, tree, trail, node, machine)
        if fdt.name_is(raw, node, text(b"psci")):
            return _take_psci(raw, tree, node, machine)
    if node.depth == 3:
        parent = trail.nodes[1]
        if fdt.name_is(raw, parent, text(b"cpus")) and fdt.holds_string(raw, tree, node, text(b"device_type"), text(b"cpu")):
            return _add_cpu(raw, tree, parent, node, machine)
        if fdt.name_is(raw, parent, text(b"reserved-memory")) and fdt.is_available(raw, tree, node):
            return _add_reserved(raw, tree, trail, node, machine)
    if fdt.is_compatible(raw, tree, node, text(b"arm,gic-v3-its")):
        return _add_its(raw, tree, trail, node, machine)
    if machine.gic_kind is GicKind.NONE and fdt.is_available(raw, tree, node):
        return _take_gic(raw, tree, trail, node, machine)
    return None


def _add_banks(raw: View[u8], tree: fdt.Tree, trail: fdt.Trail, node: fdt.Node, machine: Machine) -> None | Err:
    index = u64(0)
    while True:
        region = fdt.read_region(raw, tree, trail, node, index)
        if isinstance(region, Err):
            if region is Err.NOT_FOUND:
                return None
            return region
        if region.size > 0:
            if machine.bank_count == MAX_BANKS:
                return Err.NO_MEMORY
            machine.banks[machine.bank_count] = region
            machine.bank_count += 1
        index += 1


def _add_reserved(raw: View[u8], tree: fdt.Tree, trail: fdt.Trail, node: fdt.Node, machine: Machine) -> None | Err:
    """Only `no-map` regions: the others are the host's to place and use, as its own tree tells it."""
    unmapped = fdt.find_property(raw, tree, node, text(b"no-map"))
    if isinstance(unmapped, Err):
        if unmapped is Err.NOT_FOUND:
            return None
        return unmapped
    index = u64(0)
    while True:
        region = fdt.read_region(raw, tree, trail, node, index)
        if isinstance(region, Err):
            if region is Err.NOT_FOUND:
                return None
            return region
        added = _reserve(machine, region)
        if isinstance(added, Err):
            return added
        index += 1


def _read_reservations(raw: View[u8], tree: fdt.Tree, machine: Machine) -> None | Err:
    """The memory reservation block, by which firmware keeps its own memory."""
    index = u64(0)
    while True:
        region = fdt.reserved_entry(raw, tree, index)
        if isinstance(region, Err):
            if region is Err.NOT_FOUND:
                return None
            return region
        added = _reserve(machine, region)
        if isinstance(added, Err):
            return added
        index += 1


def _reserve(machine: Machine, region: fdt.Region) -> None | Err:
    if machine.reserved_count == MAX_RESERVED:
        return Err.NO_MEMORY
    machine.reserved[machine.reserved_count] = region
    machine.reserved_count += 1
    return None


def _add_cpu(raw: View[u8], tree: fdt.Tree, parent: fdt.Node, node: fdt.Node, machine: Machine) -> None | Err:
    """One CPU; those beyond MAX_CPUS are left alone.

    UNSUPPORTED where a CPU is started otherwise than by PSCI: one that waits at EL2 for an address in memory would be the host's, at EL2."""
    method = fdt.find_property(raw, tree, node, text(b"enable-method"))
    if not isinstance(method, Err) and not fdt.equal(fdt.property_bytes(raw, method), text(b"psci\x00")):
        return Err.UNSUPPORTED
    cells = fdt.cells_of(raw, tree, parent)
    if isinstance(cells, Err):
        return cells
    found = fdt.find_property(raw, tree, node, text(b"reg"))
    if isinstance(found, Err):
        return found
    affinity = fdt.read_number(raw, found, u64(0), cells.address)
    if isinstance(affinity, Err):
        return affinity
    if affinity & ~AFFINITY_MASK != 0:
        return Err.MALFORMED
    if machine.cpu_count < MAX_CPUS:
        machine.cpus[machine.cpu_count] = affinity
        machine.cpu_count += 1
    return None


def _take_psci(raw: View[u8], tree: fdt.Tree, node: fdt.Node, machine: Machine) -> None | Err:
    """Versions before 0.2 chose their function numbers freely; they are not served."""
    if fdt.is_compatible(raw, tree, node, text(b"arm,psci-1.0")) or fdt.is_compatible(raw, tree, node, text(b"arm,psci-0.2")):
        if fdt.holds_string(raw, tree, node, text(b"method"), text(b"smc")):
            machine.conduit = Conduit.SMC
        elif fdt.holds_string(raw, tree, node, text(b"method"), text(b"hvc")):
            machine.conduit = Conduit.HVC
    return None


def _gic_kind_of(raw: View[u8], tree: fdt.Tree, node: fdt.Node) -> GicKind:
    if fdt.is_compatible(raw, tree, node, text(b"arm,gic-v3")):
        return GicKind.GICV3
    if fdt.is_compatible(raw, tree, node, text(b"arm,gic-400")) or fdt.is_compatible(raw, tree, node, text(b"arm,cortex-a15-gic")) \
            or fdt.is_compatible(raw, tree, node, text(b"arm,cortex-a7-gic")):
        return GicKind.GICV2
    return GicKind.NONE


def _take_gic(raw: View[u8], tree: fdt.Tree, trail: fdt.Trail, node: fdt.Node, machine: Machine) -> None | Err:
    """The first controller that the CPUs can address; one on a bus of its own is somebody else's."""
    kind = _gic_kind_of(raw, tree, node)
    if kind is GicKind.NONE:
        return None
    for i in u64.range(2):
        region = fdt.read_region(raw, tree, trail, node, i)
        if isinstance(region, Err):
            if region is Err.INVALID:
                return None
            return region
        machine.gic[i] = region
    machine.gic_kind = kind
    return _take_redistributors(raw, tree, trail, node, machine) if kind is GicKind.GICV3 else None


def _take_redistributors(raw: View[u8], tree: fdt.Tree, trail: fdt.Trail, node: fdt.Node, machine: Machine) -> None | Err:
    """The regions behind the distributor's, and how far apart redistributors are (Linux Documentation, arm,gic-v3.yaml)."""
    count = fdt.read_cell(raw, tree, node, text(b"#redistributor-regions"), u64(1))
    if isinstance(count, Err):
        return count
    if count > MAX_REDISTRIBUTOR_REGIONS:
        return Err.NO_MEMORY
    for i in u64.range(count):
        region = fdt.read_region(raw, tree, trail, node, i + 1)
        if isinstance(region, Err):
            return region
        machine.redistributors[i] = region
    machine.redistributor_regions = count
    stride = fdt.find_property(raw, tree, node, text(b"redistributor-stride"))
    if isinstance(stride, Err):
        if stride is Err.NOT_FOUND:
            return None
        return stride
    bytes = fdt.read_number(raw, stride, u64(0), u64(2))
    if isinstance(bytes, Err):
        return bytes
    machine.redistributor_stride = bytes
    return None


def _add_its(raw: View[u8], tree: fdt.Tree, trail: fdt.Trail, node: fdt.Node, machine: Machine) -> None | Err:
    """One interrupt translation service that the CPUs can address, whether it is to be used or not: its registers are there."""
    region = fdt.read_region(raw, tree, trail, node, u64(0))
    if isinstance(region, Err):
        if region is Err.INVALID:
            return None
        return region
    if machine.its_count == MAX_ITS:
        return Err.NO_MEMORY
    machine.its[machine.its_count] = region if fdt.is_available(raw, tree, node) else fdt.Region(region.base, u64(0))
    machine.its_count += 1
    return None


def _sort_banks(machine: Machine) -> None | Err:
    """Sorts by address; MALFORMED where two banks overlap."""
    for i in u64.range(1, machine.bank_count):
        at = i
        while at > 0 and machine.banks[at].base < machine.banks[at - 1].base:
            moved = machine.banks[at]
            machine.banks[at] = machine.banks[at - 1]
            machine.banks[at - 1] = moved
            at -= 1
    for i in u64.range(1, machine.bank_count):
        below = machine.banks[i - 1]
        if below.base + below.size > machine.banks[i].base:
            return Err.MALFORMED
    return None


def ram_bytes(machine: Machine) -> u64:
    """RAM in all banks."""
    total = u64(0)
    for i in u64.range(machine.bank_count):
        total += machine.banks[i].size
    return total


def is_ram(machine: Machine, base: Pa, size: u64) -> bool:
    """Whether `size` bytes from `base` on lie in one bank."""
    for i in u64.range(machine.bank_count):
        bank = machine.banks[i]
        if base >= bank.base and base - bank.base <= bank.size and size <= bank.size - (base - bank.base):
            return True
    return False


def is_reserved(machine: Machine, base: Pa, size: u64) -> bool:
    """Whether any of `size` bytes from `base` on, at least one, lies in a reserved region. base + size does not wrap."""
    for i in u64.range(machine.reserved_count):
        region = machine.reserved[i]
        if region.base < base + size and base < region.base + region.size:
            return True
    return False
