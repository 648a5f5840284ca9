# SPDX-License-Identifier: Apache-2.0
"""The bare guest's protected image: what EL2 would say of its manifest, and that it is the ordinary guest to the byte."""

from __future__ import annotations

import hashlib

import pytest

from delphyne.board import protected_bare
from delphyne.board.protected_image import MMIO, PAGE, ImageError, unpack
from delphyne.client import bare_guest as monitor
from delphyne.client import vgic
from delphyne.el2.arch.err import Err
from delphyne.el2.guest import manifest
from delphyne.lang import Array, u8

GUEST = bytes(n & 0xFF for n in range(3 * PAGE + 5))


def test_el2_takes_the_manifest() -> None:
    raw = protected_bare.image(GUEST)[-PAGE:]
    held = Array[u8, 4096]()
    for at, byte in enumerate(raw):
        held[at] = u8(byte)
    assert not isinstance(manifest.check(held[:]), Err)


def test_segments_are_where_the_monitor_puts_them() -> None:
    made = protected_bare.image(GUEST)
    assert made[: len(GUEST)] == GUEST
    assert len(made) == monitor.STUB - monitor.RAM + 2 * PAGE <= monitor.RAM_BYTES
    found = unpack(made[-PAGE:])
    assert found.entry == monitor.RAM
    for ipa, pages, _, digest in found.segments:
        assert hashlib.sha256(made[ipa - monitor.RAM : ipa - monitor.RAM + pages * PAGE]).digest() == digest


def test_windows_are_what_the_monitor_has() -> None:
    windows = {window.base: window.kind for window in protected_bare.WINDOWS}
    assert {base for base, kind in windows.items() if kind == MMIO} == {vgic.DISTRIBUTOR, monitor.DEVICE}
    assert {base for base, kind in windows.items() if kind != MMIO} == {monitor.RAM, monitor.SMALL, monitor.FRESH, monitor.KEPT, monitor.LARGE}


def test_a_guest_that_is_too_large_is_refused() -> None:
    with pytest.raises(ImageError, match="has 1048576 bytes"):
        protected_bare.image(bytes(1 << 20))
