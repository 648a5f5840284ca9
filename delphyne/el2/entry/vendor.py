# SPDX-License-Identifier: Apache-2.0
"""The host's calls of its board's own firmware: those that the board's list names, with every address among their arguments the host's.

What the firmware does to memory it does in the host's name: an address that is not the host's, of EL2's memory or of a reserved region, does not
reach it. No lock: the board is frozen after boot.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch import fdt, vendors
from delphyne.el2.arch.frame import Frame, skip
from delphyne.el2.arch.psci import smc_relay
from delphyne.el2.entry import host
from delphyne.lang import Level, Pa, View, boot, frozen, log, struct, u8, u32, u64


@struct
class Board:
    """The board this is, where it is one that is known."""

    known: bool
    index: u64


BOARD: Final = frozen(Board())


@boot
def find(raw: View[u8], tree: fdt.Tree) -> None:
    """Which board's list holds here."""
    board = vendors.board_of(raw, tree)
    if board is not None:
        BOARD.index = board
        BOARD.known = True


def ends_machine(frame: Frame) -> bool:
    """Whether an SMC turns the machine off or begins it anew."""
    if not BOARD.known:
        return False
    rule = vendors.rule_for(BOARD.index, u32.wrap(frame.x[0]), u32.wrap(frame.x[1]))
    return rule is not None and vendors.RULE_ENDS[rule] != 0


def serve(frame: Frame) -> bool:
    """Makes one SMC of the host where the board's list lets it pass; False, and nothing done, where it does not."""
    if not BOARD.known:
        return False
    x1 = frame.x[1]
    rule = vendors.rule_for(BOARD.index, u32.wrap(frame.x[0]), u32.wrap(x1))
    if rule is None:
        return False
    address = vendors.address_in(rule, x1)
    if address is not None and not host.is_hosts(Pa(address), u64(u32.wrap(frame.x[2]))):
        log(Level.WARNING, f"firmware call {frame.x[0]:#x} names memory at {address:#x} that is not the host's")
        return False
    skip(frame)
    smc_relay(frame)
    return True
