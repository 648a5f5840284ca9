# SPDX-License-Identifier: Apache-2.0
"""A 6.12 with mainline's pKVM guest driver and a restricted DMA pool is a protected guest without any module: what `make guest-pkvm` shows, on both
hosts and both transports. Its kernel is built of Debian's source, which takes long the first time."""

from __future__ import annotations

from pathlib import Path

import pytest

from delphyne.board import pkvm_guest
from delphyne.compiler.back.image import Built

pytestmark = [pytest.mark.system, pytest.mark.slow]


@pytest.mark.parametrize(("kernel", "transport"), [("6.12", "mmio"), ("6.1", "pci")])
def test_mainlines_driver_shares_its_pool_and_nothing_else(whole: Built, tmp_path: Path, kernel: str, transport: str) -> None:
    console, counted = pkvm_guest.boot(kernel, pkvm_guest.the_guest(transport), whole, tmp_path)
    rows = pkvm_guest.rows(console, counted)
    assert [row["name"] for row in rows if not row["ok"]] == [], f"{rows}\n{console}"
