# SPDX-License-Identifier: Apache-2.0
"""Which calls of their vendors' firmware the hosts of known boards may make, and which arguments of them are addresses.

A new board is a few lines of BOARDS: the compatible string of the root of its device tree, and its rules. A call that no rule names does not
reach the firmware. The rules are data: what is done with them is in `entry/vendor.py`. No lock, no state.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from delphyne.el2.arch import fdt
from delphyne.el2.arch.err import Err
from delphyne.lang import Array, Enum8, View, constant, u8, u32, u64


class Address(Enum8):
    """Which argument of a call is an address of memory that the firmware reads or writes. The size in bytes is w2."""

    NONE = 0
    X1 = 1
    X1_HALVES_SWAPPED = 2
    """The upper half of the address comes in w1, the lower one in the upper half of x1."""


class Rule(NamedTuple):
    """Calls `first` to `last` pass, unless w1 lies in `except_w1`. `ends`: the machine goes off or begins anew."""

    first: int
    last: int
    address: Address = Address.NONE
    except_w1: tuple[int, int] = (1, 0)
    ends: bool = False


EEMI = 0xC200_0000
"""Xilinx' power-management interface by SMC: the number in the low bits is the PM API's (Linux include/linux/firmware/xlnx-zynqmp.h); arguments are
32 bits wide, two in a register. Not let through: calls that start or stop processors or reset them (8, 10, resets 1017 to 1026), that read or write
registers by address (19, 20), and those whose memory holds further addresses (27, 45, 46, 47, 53)."""

BOARDS: dict[bytes, tuple[Rule, ...]] = {
    b"xlnx,zynqmp": (
        Rule(EEMI + 1, EEMI + 1),  # GET_API_VERSION
        Rule(EEMI + 5, EEMI + 5),  # REGISTER_NOTIFIER
        Rule(EEMI + 12, EEMI + 12, ends=True),  # SYSTEM_SHUTDOWN
        Rule(EEMI + 13, EEMI + 15),  # REQUEST_NODE, RELEASE_NODE, SET_REQUIREMENT
        Rule(EEMI + 17, EEMI + 18, except_w1=(1017, 1026)),  # RESET_ASSERT, RESET_GET_STATUS
        Rule(EEMI + 21, EEMI + 21),  # INIT_FINALIZE
        Rule(EEMI + 22, EEMI + 22, Address.X1),  # FPGA_LOAD
        Rule(EEMI + 23, EEMI + 24),  # FPGA_GET_STATUS, GET_CHIPID
        Rule(EEMI + 26, EEMI + 26, Address.X1_HALVES_SWAPPED),  # SECURE_SHA
        Rule(EEMI + 28, EEMI + 44),  # pins, IOCTL, QUERY_DATA, clocks
        Rule(EEMI + 63, EEMI + 63),  # FEATURE_CHECK
        Rule(EEMI + 0xA01, EEMI + 0xA04),  # the secure monitor's own: callback data, suspend mode, version, interrupt
        Rule(0x8200_FF01, 0x8200_FF01),  # SiP service: UID
        Rule(0x8200_FF03, 0x8200_FF03),  # SiP service: revision
    ),
}

_NAMES = list(BOARDS)
_RULES = [(board, rule) for board, name in enumerate(_NAMES) for rule in BOARDS[name]]
_ENDS = [sum(len(name) for name in _NAMES[:board]) for board in range(len(_NAMES) + 1)]
NAMES: Final = constant(Array[u8, _ENDS[-1]].of(list(b"".join(_NAMES))))
NAME_ENDS: Final = constant(Array[u32, len(_ENDS)].of(_ENDS))
RULE_BOARD: Final = constant(Array[u8, len(_RULES)].of([board for board, _ in _RULES]))
RULE_FIRST: Final = constant(Array[u32, len(_RULES)].of([rule.first for _, rule in _RULES]))
RULE_LAST: Final = constant(Array[u32, len(_RULES)].of([rule.last for _, rule in _RULES]))
RULE_ADDRESS: Final = constant(Array[u8, len(_RULES)].of([int(rule.address.raw) for _, rule in _RULES]))
RULE_ENDS: Final = constant(Array[u8, len(_RULES)].of([int(rule.ends) for _, rule in _RULES]))
RULE_EXCEPT_FIRST: Final = constant(Array[u32, len(_RULES)].of([rule.except_w1[0] for _, rule in _RULES]))
RULE_EXCEPT_LAST: Final = constant(Array[u32, len(_RULES)].of([rule.except_w1[1] for _, rule in _RULES]))


def board_of(raw: View[u8], tree: fdt.Tree) -> u64 | None:
    """The known board that the root of this tree is compatible with."""
    root = fdt.root(raw, tree)
    if isinstance(root, Err):
        return None
    for board in u64.range(NAME_ENDS.length - 1):
        name = NAMES[u64(NAME_ENDS[board]) : u64(NAME_ENDS[board + 1])]
        if fdt.is_compatible(raw, tree, root, name):
            return board
    return None


def rule_for(board: u64, number: u32, w1: u32) -> u64 | None:
    """The rule by which this call of this board may pass."""
    for rule in u64.range(RULE_FIRST.length):
        if u64(RULE_BOARD[rule]) == board and RULE_FIRST[rule] <= number <= RULE_LAST[rule]:
            return None if RULE_EXCEPT_FIRST[rule] <= w1 <= RULE_EXCEPT_LAST[rule] else rule
    return None


def address_in(rule: u64, x1: u64) -> u64 | None:
    """The address among the arguments of a call that passes by `rule`, if it has one."""
    kind = RULE_ADDRESS[rule]
    if kind == Address.X1.raw:
        return x1
    if kind == Address.X1_HALVES_SWAPPED.raw:
        return (x1 >> 32) | ((x1 & 0xFFFF_FFFF) << 32)
    return None
