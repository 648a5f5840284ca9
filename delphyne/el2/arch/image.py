# SPDX-License-Identifier: Apache-2.0
"""Where the parts of the running image lie, and the few calls that only assembly can make; el2.S has them.

Text is [start, text_end), constants [text_end, rodata_end), data [rodata_end, data_end), the tables of the first map [data_end,
stacks_start), stacks [stacks_start, end). All ends are page aligned. Addresses are physical. No lock, no state.
"""

from __future__ import annotations

from typing import Never

from delphyne.el2.arch.frame import Frame
from delphyne.lang import Pa, assembly, u64

_AT = 0x4020_0000
"""Where CPython pretends that an image of five pages was loaded; the tests of the map need some answer."""


@assembly
def image_start() -> Pa:
    """First byte of the image, 2 MiB aligned."""
    return Pa(u64(_AT))


@assembly
def image_text_end() -> Pa:
    """First byte after the text."""
    return Pa(u64(_AT + 0x1000))


@assembly
def image_rodata_end() -> Pa:
    """First byte after the constants."""
    return Pa(u64(_AT + 0x2000))


@assembly
def image_data_end() -> Pa:
    """First byte after data and zeroed data."""
    return Pa(u64(_AT + 0x3000))


@assembly
def image_stacks_start() -> Pa:
    """First byte of the stacks."""
    return Pa(u64(_AT + 0x4000))


@assembly
def image_end() -> Pa:
    """First byte after everything that belongs to the image."""
    return Pa(u64(_AT + 0x4000 + 64 * 0x8000))


@assembly
def image_sites_start() -> Pa:
    """First byte of the table of trap sites."""
    return Pa(u64(_AT + 0x1000))


@assembly
def image_sites_end() -> Pa:
    """First byte after the table of trap sites."""
    return Pa(u64(_AT + 0x1000))


@assembly
def secondary_entry_address() -> Pa:
    """Where PSCI starts another CPU; its context argument is the address of its `Cpu`."""
    return Pa(u64(_AT + 0x400))


@assembly
def first_map_add(start: Pa, end: Pa, device: bool) -> None:
    """Adds the pages from `start` up to `end` to the first map, as RAM or as device registers. Only while EL2 still runs on that map."""


@assembly
def switch_map(tcr: u64, mair: u64, ttbr: Pa, sctlr: u64) -> None:
    """Exchanges EL2's stage-1 map, with the MMU off in between; the new map must map the image as the old one does."""


@assembly
def enter_lower(frame: Frame) -> Never:
    """Runs the lower exception level from that state; EL2's stack starts empty at the next exception."""
    raise RuntimeError("nothing runs at a lower exception level in CPython")


@assembly
def park() -> Never:
    """This CPU does nothing ever again."""
    raise RuntimeError("this CPU is parked")


@assembly
def wake_all() -> None:
    """Ends `wait_for_event`, and waiting for a lock, on every CPU, after all earlier stores are visible."""


@assembly
def wait_for_event() -> None:
    """Sleeps until `wake_all` or an interrupt; may return for no reason."""
