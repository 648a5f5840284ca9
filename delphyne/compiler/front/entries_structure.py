# SPDX-License-Identifier: Apache-2.0
"""Refusals about secrets and hardware: E06xx; about modules: E07xx."""

from __future__ import annotations

from typing import Final

from delphyne.compiler.front.entry import Entry

ENTRIES: Final[dict[str, Entry]] = {
    "E0601": Entry(
        "secret would show",
        "A branch, an index, a division or a comparison takes a time or touches an address that tells the secret; a message prints it.",
        "compute without branching, compare with `secret_equal`, or `declassify` where the protocol makes it public",
        """
from delphyne.lang import Secret, u64

def low(key: Secret[u64]) -> bool:
    return key == 0  # <- key == 0
""",
        """
from delphyne.lang import Secret, declassify, u64

def low(key: Secret[u64]) -> bool:
    return declassify(key & 1) == 0
""",
    ),
    "E0602": Entry(
        "secret in trapping arithmetic",
        "Whether it traps would tell the secret.",
        "use wrap_add, & | ^ ~, shifts and rotations by public amounts",
        """
from delphyne.lang import Secret, u64

def mix(a: Secret[u64], b: Secret[u64]) -> Secret[u64]:
    return a + b  # <- a + b
""",
        """
from delphyne.lang import Secret, u64, wrap_add

def mix(a: Secret[u64], b: Secret[u64]) -> Secret[u64]:
    return wrap_add(a, b)
""",
    ),
    "E0603": Entry(
        "SIMD function called outside `with simd`",
        "The SIMD registers hold a guest's or the host's values until they have been saved.",
        "call it inside `with simd(area):` or from a @simd function",
        """
from delphyne.lang import simd, u64, v128_from_u64, v128_low

@simd
def same(x: u64) -> u64:
    return v128_low(v128_from_u64(x, x))

def one(x: u64) -> u64:
    return same(x)  # <- same(x)
""",
        """
from delphyne.lang import SimdArea, simd, u64, v128_from_u64, v128_low

@simd
def same(x: u64) -> u64:
    return v128_low(v128_from_u64(x, x))

def one(x: u64, area: SimdArea) -> u64:
    with simd(area):
        return same(x)
""",
    ),
    "E0604": Entry(
        "raw address outside the named modules",
        "Who can turn a number into a place can reach anything. A short list of modules may: boot, devices, page tables.",
        "use what those modules offer, or move the access there",
        """
from delphyne.lang import Pa, mmio_read32, u32

def status(base: Pa) -> u32:
    return mmio_read32(base)  # <- mmio_read32
""",
        """
from delphyne.lang import Hostile, Pa, Tainted, u32, u64

def status(base: Pa) -> Tainted[u32] | None:
    return Hostile(base, u64(4)).read_once_u32(u64(0))
""",
    ),
    "E0605": Entry(
        "V128 outside @simd",
        "Only functions marked @simd are compiled with SIMD registers.",
        "mark the function @simd, and call it inside `with simd(area):`",
        """
from delphyne.lang import u64, v128_from_u64, v128_low

def same(x: u64) -> u64:
    return v128_low(v128_from_u64(x, x))  # <- v128_low
""",
        """
from delphyne.lang import simd, u64, v128_from_u64, v128_low

@simd
def same(x: u64) -> u64:
    return v128_low(v128_from_u64(x, x))
""",
    ),
    "E0701": Entry(
        "module cannot be imported",
        "The top level of a module is ordinary Python that runs when the program is built; here it fails.",
        "correct what the import reports",
        """
from typing import Final

from delphyne.lang import u8

TOO_MUCH: Final = u8(256)  # <- TOO_MUCH
""",
        """
from typing import Final

from delphyne.lang import u8

MOST: Final = u8(255)
""",
    ),
    "E0702": Entry(
        "import against the arrows",
        "Rooms of EL2 know only what lies below them: `arch` knows nothing of VMs, `memory` nothing of guests.",
        "move the code, or let the upper room pass what is needed",
        """
from delphyne.el2.memory import frames  # <- from
""",
        """
from delphyne.el2.arch import frame
""",
        "delphyne.el2.arch.example",
    ),
    "E0703": Entry(
        "import from outside",
        "What runs at EL2 stands on the language alone.",
        "EL2 modules import only delphyne.lang and delphyne.el2",
        """
import hashlib  # <- import
""",
        """
from delphyne.lang import u64
""",
        "delphyne.el2.sealing.example",
    ),
    "E0704": Entry(
        "star import",
        "A reader must see where a name comes from.",
        "import names or modules",
        """
from delphyne.lang import *  # <- from
""",
        """
from delphyne.lang import u64
""",
    ),
    "E0705": Entry(
        "no such file or module",
        "The name leads to no Python source.",
        "give the path of a Python file or the name of a module",
        "",
        """
from delphyne.lang import u64
""",
    ),
}
