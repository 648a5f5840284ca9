# SPDX-License-Identifier: Apache-2.0
"""Serial ports that firmware has set up already, for output: PL011, 8250 and 16550, Cadence, i.MX.

A port is chosen by `compatible`; a tree that names none leaves EL2 without a console, which is no error. A port that does not take a byte
within the polls that the caller allows loses it: a console may never hang EL2. No lock here: control/log.py has the console's; the crash path
uses none.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch import fdt
from delphyne.el2.arch.err import Err
from delphyne.lang import Enum8, Pa, View, mmio_read8, mmio_read32, mmio_write8, mmio_write32, text, u8, u32, u64, value

PL011_DR: Final = u64(0x00)
PL011_FR: Final = u64(0x18)
PL011_FR_TXFF: Final = u32(1 << 5)

NS16550_THR: Final = u64(0)
NS16550_LSR: Final = u64(5)
NS16550_LSR_THRE: Final = u32(1 << 5)

CADENCE_CR: Final = u64(0x00)
CADENCE_CR_TX_EN: Final = u32(1 << 4)
CADENCE_CR_TX_DIS: Final = u32(1 << 5)
CADENCE_SR: Final = u64(0x2C)
CADENCE_FIFO: Final = u64(0x30)
CADENCE_SR_TXFULL: Final = u32(1 << 4)

IMX_UTXD: Final = u64(0x40)
IMX_UTS: Final = u64(0xB4)
IMX_UTS_TXFULL: Final = u32(1 << 4)


class UartKind(Enum8):
    """The families that are driven."""

    NONE = 0
    PL011 = 1
    NS16550 = 2
    CADENCE = 3
    IMX = 4


@value
class Uart:
    """A port: family, first register, and for a 16550 the distance of its registers as a shift and whether they are 32 bits wide."""

    kind: UartKind
    base: Pa
    shift: u64
    wide: bool


def kind_of(raw: View[u8], tree: fdt.Tree, node: fdt.Node) -> UartKind:
    """The family of a device-tree node, NONE where it is not driven here."""
    if fdt.is_compatible(raw, tree, node, text(b"arm,pl011")) or fdt.is_compatible(raw, tree, node, text(b"arm,sbsa-uart")):
        return UartKind.PL011
    if fdt.is_compatible(raw, tree, node, text(b"ns16550a")) or fdt.is_compatible(raw, tree, node, text(b"ns16550")) \
            or fdt.is_compatible(raw, tree, node, text(b"ns8250")) or fdt.is_compatible(raw, tree, node, text(b"snps,dw-apb-uart")):
        return UartKind.NS16550
    if fdt.is_compatible(raw, tree, node, text(b"cdns,uart-r1p12")) or fdt.is_compatible(raw, tree, node, text(b"cdns,uart-r1p8")) \
            or fdt.is_compatible(raw, tree, node, text(b"xlnx,xuartps")):
        return UartKind.CADENCE
    if fdt.is_compatible(raw, tree, node, text(b"fsl,imx6q-uart")) or fdt.is_compatible(raw, tree, node, text(b"fsl,imx21-uart")):
        return UartKind.IMX
    return UartKind.NONE


def open_node(raw: View[u8], tree: fdt.Tree, trail: fdt.Trail, node: fdt.Node) -> Uart | Err:
    """The port that a node describes; UNSUPPORTED where its family is not driven. `trail` holds its ancestors."""
    kind = kind_of(raw, tree, node)
    if kind is UartKind.NONE:
        return Err.UNSUPPORTED
    registers = fdt.read_region(raw, tree, trail, node, u64(0))
    if isinstance(registers, Err):
        return registers
    shift = fdt.read_cell(raw, tree, node, text(b"reg-shift"), u64(0))
    if isinstance(shift, Err):
        return shift
    width = fdt.read_cell(raw, tree, node, text(b"reg-io-width"), u64(1))
    if isinstance(width, Err):
        return width
    if shift > 3 or (width != 1 and (width != 4 or shift < 2)):
        return Err.UNSUPPORTED
    wide = kind is not UartKind.NS16550 or width == 4
    if registers.size < _bytes_used(kind, shift) or (wide and not registers.base.is_aligned(u64(4))):
        return Err.MALFORMED
    return Uart(kind, registers.base, shift, wide)


def _bytes_used(kind: UartKind, shift: u64) -> u64:
    """Up to the end of the last register that is touched."""
    match kind:
        case UartKind.PL011:
            return PL011_FR + 4
        case UartKind.NS16550:
            return (NS16550_LSR + 1) << shift
        case UartKind.CADENCE:
            return CADENCE_FIFO + 4
        case UartKind.IMX:
            return IMX_UTS + 4
        case UartKind.NONE:
            return u64(0)


def find_console(raw: View[u8], tree: fdt.Tree) -> Uart | Err:
    """The port that `/chosen` names in `stdout-path`, by path or by alias. NOT_FOUND where it names none."""
    trail = fdt.Trail()
    chosen = fdt.find_path(raw, tree, text(b"/chosen"), trail)
    if isinstance(chosen, Err):
        return chosen
    named = fdt.find_property(raw, tree, chosen, text(b"stdout-path"))
    if isinstance(named, Err):
        return named
    path = _up_to(fdt.property_bytes(raw, named), fdt.COLON)
    if path.length > 0 and path[0] != fdt.SLASH:
        aliases = fdt.find_path(raw, tree, text(b"/aliases"), trail)
        if isinstance(aliases, Err):
            return aliases
        alias = fdt.find_property(raw, tree, aliases, path)
        if isinstance(alias, Err):
            return alias
        path = _up_to(fdt.property_bytes(raw, alias), fdt.COLON)
    node = fdt.find_path(raw, tree, path, trail)
    if isinstance(node, Err):
        return node
    return open_node(raw, tree, trail, node)


def _up_to(data: View[u8], end: u8) -> View[u8]:
    """What comes before the first `end` or NUL."""
    for i in u64.range(data.length):
        if data[i] == end or data[i] == 0:
            return data[:i]
    return data


def _read_status(port: Uart) -> u32:
    """The register that says whether a byte can be taken."""
    match port.kind:
        case UartKind.PL011:
            return mmio_read32(port.base + PL011_FR)
        case UartKind.NS16550:
            at = port.base + (NS16550_LSR << port.shift)
            return mmio_read32(at) if port.wide else u32(mmio_read8(at))
        case UartKind.CADENCE:
            return mmio_read32(port.base + CADENCE_SR)
        case UartKind.IMX:
            return mmio_read32(port.base + IMX_UTS)
        case UartKind.NONE:
            return u32(0)


def _is_ready(port: Uart) -> bool:
    """Whether the port takes a byte now."""
    status = _read_status(port)
    match port.kind:
        case UartKind.PL011:
            return status & PL011_FR_TXFF == 0
        case UartKind.NS16550:
            return status & NS16550_LSR_THRE != 0
        case UartKind.CADENCE:
            return status & CADENCE_SR_TXFULL == 0
        case UartKind.IMX:
            return status & IMX_UTS_TXFULL == 0
        case UartKind.NONE:
            return False


def enable(port: Uart) -> None:
    """Turns a transmitter on that is off. Only a Cadence port is ever found so: it is off after reset where no firmware has used it."""
    if port.kind is UartKind.CADENCE:
        control = mmio_read32(port.base + CADENCE_CR)
        if control & (CADENCE_CR_TX_EN | CADENCE_CR_TX_DIS) != CADENCE_CR_TX_EN:
            mmio_write32(port.base + CADENCE_CR, (control & ~CADENCE_CR_TX_DIS) | CADENCE_CR_TX_EN)


def put(port: Uart, byte: u8, polls: u64) -> u64:
    """Sends one byte and returns what is left of `polls`, by which it waits for the port after it has looked once.

    The byte is lost where there is no port or where none are left."""
    if port.kind is UartKind.NONE:
        return polls
    left = polls
    while not _is_ready(port):
        if left == 0:
            return left
        left -= 1
    _send(port, byte)
    return left


def _send(port: Uart, byte: u8) -> None:
    match port.kind:
        case UartKind.PL011:
            mmio_write32(port.base + PL011_DR, u32(byte))
        case UartKind.NS16550:
            if port.wide:
                mmio_write32(port.base + NS16550_THR, u32(byte))
            else:
                mmio_write8(port.base + NS16550_THR, byte)
        case UartKind.CADENCE:
            mmio_write32(port.base + CADENCE_FIFO, u32(byte))
        case UartKind.IMX:
            mmio_write32(port.base + IMX_UTXD, u32(byte))
        case UartKind.NONE:
            pass
