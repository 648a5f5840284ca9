# SPDX-License-Identifier: Apache-2.0
"""Debian's own kernels: what the reader finds in them, against offsets that were measured with other tools (known_offsets.txt)."""

from __future__ import annotations

from pathlib import Path

import pytest

from delphyne.board import debian
from delphyne.el2.arch.err import Err
from delphyne.el2.kvm import btf
from delphyne.kernel import profile
from delphyne.lang import Array, text, u16, u32, u64

PACKAGES = ["linux-image-6.1.0-56-arm64", "linux-image-6.12.117+deb12-arm64"]
"""In the order of the columns of known_offsets.txt: structure, member, then one number for each kernel, or `-`."""
KNOWN = [line.split() for line in (Path(__file__).parent / "known_offsets.txt").read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("column", [0, 1])
def test_offsets_of_a_real_kernel(column: int) -> None:
    names = sorted({row[0] for row in KNOWN})
    ends = [sum(map(len, names[:i])) for i in range(len(names) + 1)]
    found, checkpoints = Array[u32, len(names)]()[:], Array[u32, 16384]()[:]
    reader, got = btf.Reader(), {}
    with profile.KernelMachine() as machine:
        btf.begin(reader, machine.load(debian.kernel(PACKAGES[column]).read_bytes()))
        reader.effort = btf.UNBOUNDED
        assert btf.find(reader) is True
        assert btf.index(reader, text("".join(names).encode()), Array[u16, len(ends)].of(ends)[:], found, checkpoints) is True
        for name, member, *_ in KNOWN:
            place = btf.offset_of(reader, checkpoints, u64(found[names.index(name)]), text(member.encode()))
            got[name, member] = "-" if isinstance(place, Err) else str(int(place))
    assert got == {(row[0], row[1]): row[2 + column] for row in KNOWN}


@pytest.mark.slow
@pytest.mark.parametrize("package", PACKAGES)
def test_a_real_kernel_has_all_that_el2_needs(package: str) -> None:
    found = profile.profile(debian.kernel(package).read_bytes(), package)
    assert found.complete
    assert found.calls["VCPU_RUN"] == 12
    assert found.calls["TLB_FLUSH_VMID"] == {PACKAGES[0]: 15, PACKAGES[1]: 16}[package]
    assert found.registers["SCTLR_EL1"] == {PACKAGES[0]: 3, PACKAGES[1]: 163}[package]
