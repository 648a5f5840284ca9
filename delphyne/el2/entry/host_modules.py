# SPDX-License-Identifier: Apache-2.0
"""What is to run above EL2: the kernel and initrd that the device tree or a bundle brings, or, where the tree asks for it, the demo.

Each way in which that can be wrong ends the boot with a line of its own. `find` runs under the first map and only reads the tree; `load`
reads the files themselves, under EL2's own map. No lock: only the boot CPU runs.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch import bundle, fdt, image, linux_image, modules
from delphyne.el2.arch.err import Err
from delphyne.el2.arch.linux_image import LinuxImage, Trouble
from delphyne.el2.arch.machine import Machine, is_ram
from delphyne.el2.arch.psci import Conduit
from delphyne.el2.control import log as recorder
from delphyne.el2.entry import own_map
from delphyne.el2.entry.refusal import give_up, refuse, stay
from delphyne.el2.memory import pages
from delphyne.lang import Enum8, View, boot, frozen, owned, struct, text, u8, u64


class Program(Enum8):
    """What runs at EL1."""

    HOST = 0
    BUNDLED_HOST = 1
    DEMO = 2


@struct
class Wanted:
    """What was asked for; `modules` is complete after `load`; its kernel is the file."""

    program: Program
    modules: modules.Modules


WANTED: Final = frozen(Wanted())


@boot
def find(raw: View[u8]) -> None:
    """What the device tree asks for."""
    tree = fdt.open_tree(raw)
    if isinstance(tree, Err):
        give_up(text(b"the device tree cannot be used"), tree)
    WANTED.program = Program.HOST
    found = modules.find(raw, tree, WANTED.modules)
    if not isinstance(found, Err):
        return
    if found is Err.EXISTS:
        refuse(text(b"/chosen has two host kernels or two initrds: load one of each"))
    if found is Err.OVERFLOW:
        refuse(text(b"the host's command line is longer than 2047 bytes: a kernel would cut it"))
    if found is not Err.NOT_FOUND:
        give_up(text(b"the boot modules in /chosen cannot be used"), found)
    if bundle.room() > 0:
        WANTED.program = Program.BUNDLED_HOST
    elif has_word(raw, tree, text(b"delphyne.demo")):
        WANTED.program = Program.DEMO
    else:
        refuse(text(b"no host kernel: load one with -device guest-loader,addr=..,kernel=.. or make one file of both with delphyne bundle"))


@boot
def has_word(raw: View[u8], tree: fdt.Tree, word: View[u8]) -> bool:
    """Whether EL2's own command line, `bootargs` of /chosen, holds `word`."""
    trail = fdt.Trail()
    chosen = fdt.find_path(raw, tree, text(b"/chosen"), trail)
    if isinstance(chosen, Err):
        return False
    found = fdt.find_property(raw, tree, chosen, text(b"bootargs"))
    if isinstance(found, Err):
        return False
    line = fdt.property_bytes(raw, found)
    for start in u64.range(line.length):
        if line.length - start < word.length:
            return False
        if fdt.equal(line[start : start + word.length], word):
            return True
    return False


def keep_out(holes: own_map.Holes) -> None | Err:
    """Keeps the files out of what EL2 takes for itself."""
    bundled = bundle.room()
    if bundled > 0:
        behind = image.image_end().raw
        kept = own_map.add_hole(holes, behind, behind + bundled)
        if isinstance(kept, Err):
            return kept
    kernel = WANTED.modules.kernel
    kept = own_map.add_hole(holes, kernel.base.raw, kernel.base.raw + kernel.size)
    if isinstance(kept, Err):
        return kept
    ramdisk = WANTED.modules.ramdisk
    return own_map.add_hole(holes, ramdisk.base.raw, ramdisk.base.raw + ramdisk.size)


@boot
def load(machine: Machine) -> fdt.Region:
    """All memory that the kernel takes from its first byte on. Its header, and where both files lie, have been checked."""
    if machine.conduit is not Conduit.SMC:
        recorder.show_text(text(b"the device tree has no PSCI by SMC (/psci, method smc): no CPU can be started, nor the machine turned off"))
        stay()
    if WANTED.program is Program.BUNDLED_HOST:
        _open_bundle(machine)
    kernel = WANTED.modules.kernel
    ramdisk = WANTED.modules.ramdisk
    if not is_ram(machine, kernel.base, kernel.size):
        refuse(text(b"the host kernel does not lie in RAM: load it lower, or give the machine more RAM"))
    if ramdisk.size != 0 and not is_ram(machine, ramdisk.base, ramdisk.size):
        refuse(text(b"the initrd does not lie in RAM: load it lower, or give the machine more RAM"))
    with owned(kernel.base, kernel.size) as file:
        trouble = linux_image.trouble(file)
    if trouble is not None:
        _refuse_kernel(trouble)
    with owned(kernel.base, kernel.size) as file:
        header = linux_image.read(file)
    if isinstance(header, Err):
        give_up(text(b"the host kernel cannot be read"), header)
    return _check_places(machine, header)


@boot
def _open_bundle(machine: Machine) -> None:
    size = bundle.room()
    if not is_ram(machine, image.image_end(), size):
        refuse(text(b"the bundle does not fit into RAM: give the machine more"))
    with owned(image.image_end(), size) as raw:
        found = bundle.read(raw, image.image_end(), WANTED.modules)
    if isinstance(found, Err):
        give_up(text(b"the bundle behind the image cannot be used: make it anew with delphyne bundle"), found)


def _refuse_kernel(trouble: Trouble) -> None:
    match trouble:
        case Trouble.TRUNCATED:
            refuse(text(b"the host kernel is truncated: its file ends before what its header announces"))
        case Trouble.COMPRESSED:
            refuse(text(b"the host kernel is compressed: unpack it first (gunzip)"))
        case Trouble.OTHER_ARCHITECTURE:
            refuse(text(b"the host kernel is no arm64 Image: it is for another architecture, or no kernel at all"))
        case Trouble.BIG_ENDIAN:
            refuse(text(b"the host kernel is big-endian, which is not served"))
        case Trouble.OLD:
            refuse(text(b"the host kernel is too old: its header does not say how much memory it takes"))


@boot
def _check_places(machine: Machine, header: LinuxImage) -> fdt.Region:
    """The kernel where booting.rst wants it, with room for what it zeroes, and nobody in another's memory."""
    kernel = WANTED.modules.kernel
    ramdisk = WANTED.modules.ramdisk
    if not kernel.base.is_aligned(linux_image.ALIGNMENT):
        refuse(text(b"the host kernel does not lie at a multiple of 2 MiB"))
    whole = fdt.Region(kernel.base, max(header.size, kernel.size))
    if not is_ram(machine, whole.base, whole.size):
        refuse(text(b"the host kernel needs more RAM behind it than there is: load it lower, or give the machine more"))
    own = fdt.Region(image.image_start(), image.image_end() - image.image_start())
    tables = fdt.Region(pages.REGION.base, own_map.own_bytes())
    if _overlap(whole, own) or _overlap(whole, tables) or _overlap(ramdisk, own):
        refuse(text(b"the host kernel or its initrd lies in EL2's own memory: load them elsewhere"))
    if _overlap(whole, ramdisk):
        refuse(text(b"the initrd lies in memory that the host kernel takes for itself: load it higher"))
    return whole


def _overlap(a: fdt.Region, b: fdt.Region) -> bool:
    return a.base < b.base + b.size and b.base < a.base + a.size and a.size > 0 and b.size > 0
