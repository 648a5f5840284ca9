# SPDX-License-Identifier: Apache-2.0
"""Every table page that is freed in these tests is retired on the machine: no TLB may know it, and it must be all zero."""

from __future__ import annotations

import pytest

from delphyne.el2.arch.err import Err
from delphyne.el2.memory import pages
from delphyne.el2.memory.pages import PoolName
from delphyne.lang import current, u64


@pytest.fixture(autouse=True)
def freed_pages_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    free = pages.free

    def checked(name: PoolName, page: u64) -> Err | None:
        machine = current.machine()
        address = int(pages.address_of_page(page).raw)
        size = 4096 * int(pages.POOLS[u64(name.raw)].unit)
        assert not any(machine.memory.read(address, size, True)), f"page {page!r} is freed with something in it"
        for frame in range(address, address + size, 4096):
            machine.retire_table(frame)
        return free(name, page)

    monkeypatch.setattr(pages, "free", checked)
