# SPDX-License-Identifier: Apache-2.0
"""The seed of random numbers in the device tree (`rng-seed` of /chosen): EL2 takes it, and the host gets another in its place.

Whoever knows EL2's seed knows the keys of guests: it is wiped where the boot loader put it, which is the host's memory from here on. No lock.
"""

from __future__ import annotations

from delphyne.el2.arch import fdt, fdt_edit
from delphyne.el2.arch.caches import clean_range
from delphyne.el2.arch.cpu import CPUS
from delphyne.el2.arch.err import Err
from delphyne.el2.arch.machine import MACHINE, is_ram
from delphyne.el2.entry import host_modules
from delphyne.el2.sealing import entropy, generator
from delphyne.lang import Slice, Va, boot, text, u8


@boot
def take(raw: Slice[u8], tree: fdt.Tree, blob: fdt.Region, host: fdt_edit.HostTree) -> None:
    """Seed EL2's generator, once. `raw` is the tree that `tree` describes, at `blob`; a tree that cannot be wiped, since it is not in RAM, has no
    seed that counts. `host` gets a seed where the tree had one."""
    area = CPUS.mine().simd
    unique = raw[tree.struct_start : tree.struct_end]
    trail = fdt.Trail()
    chosen = fdt.find_path(raw, tree, text(b"/chosen"), trail)
    if isinstance(chosen, Err):
        entropy.seed(area, raw[:0], unique, False)
        return
    marked = not isinstance(fdt.find_property(raw, tree, chosen, text(b"delphyne,development")), Err)
    development = marked or host_modules.has_word(raw, tree, text(b"delphyne.development"))
    found = fdt.find_property(raw, tree, chosen, text(b"rng-seed"))
    if isinstance(found, Err) or not is_ram(MACHINE, blob.base, blob.size):
        entropy.seed(area, raw[:0], unique, development)
        return
    entropy.seed(area, raw[found.at : found.at + found.length], unique, development)
    clean_range(Va(blob.base.raw + found.at), found.length)
    host.seeded = not isinstance(generator.fill(area, host.seed[:]), Err)
