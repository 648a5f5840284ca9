# SPDX-License-Identifier: Apache-2.0
"""From the first call into Python to the program at EL1.

`el2_main` runs once, on the CPU that the firmware started, under the first map of el2.S: console, device tree, EL2's own memory and map, the
cryptography's self-test, and then the host, or the other CPUs and the program of `demo`. No lock is held between the steps.
"""

from __future__ import annotations

from typing import Final, Never

from delphyne.el2.arch import fdt, image, machine, psci, uart, variant
from delphyne.el2.arch.cpu import CPUS, Cpu, come_online
from delphyne.el2.arch.err import Err
from delphyne.el2.arch.exception import CURRENT_EL
from delphyne.el2.arch.hypervisor import HCR_EL2
from delphyne.el2.arch.identification import ID_AA64ISAR0_EL1, ID_AA64MMFR0_EL1, MIDR_EL1
from delphyne.el2.arch.machine import MACHINE
from delphyne.el2.arch.translation import physical_bits
from delphyne.el2.control import console, stop
from delphyne.el2.control import log as recorder
from delphyne.el2.entry import cpus, demo, farewell, host, host_modules, host_seed, own_map, vendor
from delphyne.el2.entry.host_modules import Program
from delphyne.el2.entry.refusal import give_up
from delphyne.el2.memory import frames
from delphyne.el2.sealing import engine, sha256
from delphyne.lang import Array, Level, Pa, View, boot, cold, constant, entry, load_be64, log, owned, text, u8, u64

ABC_DIGEST: Final = constant(
    Array[u8, 32].of(list(bytes.fromhex("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")))
)
"""SHA-256 of "abc" (FIPS 180-4)."""


@cold
@entry("el2_main")
def el2_main(blob: u64, length: u64) -> Never:
    """`blob` is the device tree's address, `length` how much of it is mapped, 0 where there is none."""
    cpus.adopt_boot_cpu()
    tree = fdt.Region(Pa(blob), length)
    with owned(tree.base, tree.size) as raw:
        open_console(raw)
        recorder.show_text(text(b"Delphyne, a hypervisor in typed Python"))
        if variant.DEBUG:
            log(Level.WARNING, "this is a debug image: the host sees on this console and by its counters what EL2 does")
        log(Level.INFO, f"running at EL{CURRENT_EL.read().el}, image at {image.image_start():#x}, device tree at {blob:#x}")
        read_machine(raw)
        host_modules.find(raw)
    take_memory(tree)
    check_digest()
    if host_modules.WANTED.program is not Program.DEMO:
        prepare_host(tree)
        cpus.prepare_others(MACHINE)
        host.start()
    running = cpus.start_others(MACHINE)
    log(Level.INFO, f"{running} of {MACHINE.cpu_count} CPUs run at EL2")
    prepared = demo.prepare()
    if isinstance(prepared, Err):
        give_up(text(b"the program at EL1 has no map"), prepared)
    demo.run()


@boot
def prepare_host(blob: fdt.Region) -> None:
    """Makes the host ready to begin."""
    with owned(blob.base, blob.size) as raw:
        tree = fdt.open_tree(raw)
        if isinstance(tree, Err):
            give_up(text(b"the device tree cannot be used"), tree)
        vendor.find(raw, tree)
        if host_modules.has_word(raw, tree, text(b"delphyne.general-registers")):
            engine.forgo()
        host_seed.take(raw, tree, blob, host.HOST.tree)
        prepared = host.prepare(MACHINE, raw, tree, blob)
        if isinstance(prepared, Err):
            give_up(text(b"the host cannot be started"), prepared)
        farewell.prepare()


@cold
@entry("el2_secondary")
def el2_secondary(mine: Cpu) -> Never:
    """Where every other CPU arrives, on its own stack and EL2's own map: to serve the host, or, without one, only to stop with the others."""
    if host.is_prepared():
        host.start_secondary(mine)
    cpus.set_controls()
    log(Level.INFO, f"CPU {mine.index} (affinity {mine.mpidr:x}) runs at EL2")
    come_online(mine)
    while not stop.is_stopping():
        image.wait_for_event()
    stop.stopped()


@cold
@entry("el1_main")
def el1_main(blob: u64, length: u64) -> Never:
    """The image was entered at EL1: nothing to do but to say so where the tree names a console, and turn the machine off."""
    with owned(Pa(blob), length) as raw:
        open_console(raw)
        console.put_text(text(b"delphyne: entered at EL1; this image needs EL2 (QEMU: -machine virt,virtualization=on)\n"))
        turn_off_below(raw)
    image.park()


@boot
def turn_off_below(raw: View[u8]) -> None:
    """Turns the machine off the way the tree says, with somebody else at EL2 or with nobody."""
    found = machine.describe(raw, MACHINE)
    if isinstance(found, Err):
        return
    if MACHINE.conduit is psci.Conduit.HVC:
        psci.hvc_call(psci.PSCI_SYSTEM_OFF, u64(0), u64(0), u64(0))
    elif MACHINE.conduit is psci.Conduit.SMC:
        psci.system_off()


@boot
def open_console(raw: View[u8]) -> None:
    """The console that the tree names, if it names one that is driven; its registers go into the first map."""
    tree = fdt.open_tree(raw)
    if isinstance(tree, Err):
        return
    port = uart.find_console(raw, tree)
    if isinstance(port, Err) or not own_map.can_be_device(port.base):
        return
    page = port.base.align_down(u64(4096))
    image.first_map_add(page, page + u64(4096), True)
    console.use_port(port)


@boot
def read_machine(raw: View[u8]) -> None:
    """Reads the tree and says what the machine is."""
    described = machine.describe(raw, MACHINE)
    if isinstance(described, Err):
        give_up(text(b"the device tree cannot be used"), described)
    midr = MIDR_EL1.read()
    log(Level.INFO, f"processor: implementer {midr.implementer:#x}, part {midr.part:#x}, {physical_bits()} address bits")
    log(Level.INFO, f"machine: {MACHINE.cpu_count} CPUs, {machine.ram_bytes(MACHINE) >> 20} MiB of RAM, GICv{MACHINE.gic_kind}")
    for i in u64.range(MACHINE.bank_count):
        bank = MACHINE.banks[i]
        log(Level.INFO, f"RAM {bank.base:#x} to {bank.base + bank.size:#x}")
    for i in u64.range(MACHINE.reserved_count):
        region = MACHINE.reserved[i]
        log(Level.INFO, f"reserved {region.base:#x} to {region.base + region.size:#x}")
    if ID_AA64MMFR0_EL1.read().tgran4 == 15:
        give_up(text(b"this processor has no 4 KiB pages"), Err.UNSUPPORTED)
    if HCR_EL2.read().e2h:
        give_up(text(b"this processor runs EL2 with E2H only"), Err.UNSUPPORTED)


@boot
def take_memory(blob: fdt.Region) -> None:
    """EL2's own memory from the top of RAM, EL2's own map, and who owns which frame."""
    counted = own_map.count_frames(MACHINE)
    if isinstance(counted, Err):
        give_up(text(b"the frame table cannot be laid out"), counted)
    holes = own_map.Holes()
    found = own_map.find_holes(MACHINE, blob, holes)
    if isinstance(found, Err):
        give_up(text(b"too many reserved regions"), found)
    kept = own_map.Holes()
    kept.copy_from(holes)
    files = host_modules.keep_out(kept)
    if isinstance(files, Err):
        give_up(text(b"too many reserved regions"), files)
    base = own_map.place(MACHINE, kept, own_map.own_bytes(), own_map.TABLES_ALIGNMENT)
    if isinstance(base, Err):
        give_up(text(b"too little RAM"), base)
    image.first_map_add(base, base + own_map.table_bytes(), False)
    taken = own_map.take_tables(base)
    if isinstance(taken, Err):
        give_up(text(b"the translation tables have no memory"), taken)
    root = own_map.build(MACHINE, blob, holes)
    if isinstance(root, Err):
        give_up(text(b"EL2's map cannot be made"), root)
    own_map.enter(root)
    log(Level.INFO, f"own stage-1 map in use: tables at {base:#x}, root {root:#x}, text up to {image.image_text_end():#x} read-only")
    admitted = own_map.admit_host(MACHINE)
    if isinstance(admitted, Err):
        give_up(text(b"the frame table cannot be filled"), admitted)
    log(Level.INFO, f"frame table in use: {frames.table_size() >> 10} KiB for {machine.ram_bytes(MACHINE) >> 20} MiB of RAM")


@boot
def check_digest() -> None:
    """SHA-256 of a test vector, by general registers and, where they are there, by the crypto extensions."""
    engine.choose()
    _check_one(False)
    if ID_AA64ISAR0_EL1.read().sha2 != 0:
        _check_one(True)
    else:
        log(Level.INFO, "this processor has no SHA-256 instructions")


def _check_one(extensions: bool) -> None:
    hash = sha256.Sha256()
    digest = Array[u8, 32]()
    area = CPUS.mine().simd
    sha256.start(hash, extensions)
    sha256.update(hash, area, text(b"abc"))
    sha256.finish(hash, area, digest[:])
    first = load_be64(digest[:], u64(0))
    last = load_be64(digest[:], u64(24))
    if not fdt.equal(digest[:], ABC_DIGEST[:]):
        give_up(text(b"SHA-256 gives a wrong digest"), Err.INTEGRITY)
    if extensions:
        log(Level.INFO, f"SHA-256 by crypto extensions: {first:016x}..{last:016x} is right")
    else:
        log(Level.INFO, f"SHA-256 by general registers: {first:016x}..{last:016x} is right")
