# SPDX-License-Identifier: Apache-2.0
"""The host's device tree, as another reader (dtc) understands it."""

from __future__ import annotations

import re
import subprocess

import pytest

from delphyne.el2.arch import fdt, fdt_edit
from delphyne.el2.arch.err import Err
from delphyne.lang import Array, Pa, u8, u64

SOURCE = """/dts-v1/;
/memreserve/ 0x47f00000 0x1000;
/ {
    #address-cells = <2>;
    #size-cells = <2>;
    compatible = "linux,dummy-virt";
    psci { compatible = "arm,psci-1.0"; method = "hvc"; cpu_on = <0xc4000003>; };
    memory@40000000 { device_type = "memory"; reg = <0 0x40000000 0 0x40000000 1 0 0 0x10000000>; numa-node-id = <3>; };
    chosen {
        bootargs = "of the hypervisor";
        linux,initrd-start = <1>;
        stdout-path = "/pl011@9000000";
        kaslr-seed = <1 2>;
        rng-seed = <0x11111111 0x22222222 0x33333333>;
        module@50000000 { compatible = "multiboot,kernel", "multiboot,module"; reg = <0 0x50000000 0 0x100>; bootargs = "console=x quiet";
                          nested { deeper = <1>; }; };
        module@60000000 { compatible = "multiboot,ramdisk", "multiboot,module"; reg = <0 0x60000000 0 0x200>; };
        keep { compatible = "other"; };
    };
    pl011@9000000 { reg = <0 0x9000000 0 0x1000>; };
};
"""


def _compile(source: str) -> bytes:
    return subprocess.run(["dtc", "-q", "-I", "dts", "-O", "dtb"], input=source.encode(), capture_output=True, check=True).stdout


def _array(data: bytes) -> Array:
    return Array[u8, len(data)].of(list(data))


def _host(raw: bytes, *holes: tuple[int, int]) -> fdt_edit.HostTree:
    host = fdt_edit.HostTree()
    line = b"console=x quiet"
    host.arguments[: u64(len(line))].copy_from(_array(line)[:])
    host.arguments_length = u64(len(line))
    host.initrd = fdt.Region(Pa(u64(0x6000_0000)), u64(0x200))
    for i, (base, size) in enumerate(holes):
        host.holes[i] = fdt.Region(Pa(u64(base)), u64(size))
    host.hole_count = u64(len(holes))
    return host


def _edit(raw: bytes, host: fdt_edit.HostTree, room: int = 8192) -> bytes | Err:
    view = _array(raw)[:]
    tree = fdt.open_tree(view)
    assert not isinstance(tree, Err)
    out = Array[u8, room]()
    size = fdt_edit.edit(view, tree, out[:], host)
    return size if isinstance(size, Err) else bytes(int(out[u64(i)]) for i in range(int(size)))


def _source(blob: bytes) -> str:
    text = subprocess.run(["dtc", "-q", "-I", "dtb", "-O", "dts"], input=blob, capture_output=True, check=True).stdout.decode()
    return re.sub(r"\s+", " ", text)


def _edited(*holes: tuple[int, int]) -> str:
    raw = _compile(SOURCE)
    edited = _edit(raw, _host(raw, *holes))
    assert not isinstance(edited, Err)
    return _source(edited)


def test_modules_become_what_a_kernel_expects() -> None:
    text = _edited()
    assert 'bootargs = "console=x quiet";' in text
    assert "linux,initrd-start = <0x00 0x60000000>;" in text
    assert "linux,initrd-end = <0x00 0x60000200>;" in text
    assert "module@" not in text
    assert "deeper" not in text
    assert "of the hypervisor" not in text


def test_psci_is_called_by_smc_and_the_rest_is_kept() -> None:
    text = _edited()
    assert 'method = "smc";' in text
    untouched = ("cpu_on = <0xc4000003>", 'stdout-path = "/pl011@9000000"', "kaslr-seed = <0x01 0x02>", "keep {", "numa-node-id", "memreserve")
    assert [kept for kept in untouched if kept not in text] == []


def test_the_seed_is_el2s_alone() -> None:
    raw = _compile(SOURCE)
    host = _host(raw)
    none = _edit(raw, host)
    host.seed.copy_from(_array(bytes(range(32))))
    host.seeded = True
    other = _edit(raw, host)
    assert isinstance(none, bytes)
    assert isinstance(other, bytes)
    assert "rng-seed" not in _source(none)
    assert _source(other).count("rng-seed") == 1
    assert "rng-seed = <0x10203 0x4050607 0x8090a0b 0xc0d0e0f 0x10111213 0x14151617 0x18191a1b 0x1c1d1e1f>;" in _source(other)
    assert not any(bytes([n] * 4) in blob for blob in (none, other) for n in (0x11, 0x22, 0x33))


@pytest.mark.parametrize(
    ("holes", "expected"),
    [
        ((), "0x00 0x40000000 0x00 0x40000000 0x01 0x00 0x00 0x10000000"),
        (((0x7F00_0000, 0x100_0000),), "0x00 0x40000000 0x00 0x3f000000 0x01 0x00 0x00 0x10000000"),
        (
            ((0x4020_0000, 0x20_0000), (0x7F00_0000, 0x100_0000)),
            "0x00 0x40000000 0x00 0x200000 0x00 0x40400000 0x00 0x3ec00000 0x01 0x00 0x00 0x10000000",
        ),
        (((0x4000_0000, 0x4000_0000),), "0x01 0x00 0x00 0x10000000"),
        (((0x4000_0000, 0x1000), (0x4000_0800, 0x1800)), "0x00 0x40002000 0x00 0x3fffe000 0x01 0x00 0x00 0x10000000"),
    ],
)
def test_holes_leave_the_memory_nodes(holes: tuple[tuple[int, int], ...], expected: str) -> None:
    assert f"reg = <{expected}>;" in _edited(*holes)


@pytest.mark.parametrize("room", [0, 40, 56, 100, 300, 500, 700])
def test_too_little_room_is_an_error_and_no_trap(room: int) -> None:
    raw = _compile(SOURCE)
    if room < 40:
        room = 40
    assert _edit(raw, _host(raw), room) is Err.NO_MEMORY
