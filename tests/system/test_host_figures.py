# SPDX-License-Identifier: Apache-2.0
"""The boot stays within its figures, for both kernels."""

from __future__ import annotations

from pathlib import Path

import pytest

from delphyne.bench import boot
from delphyne.compiler.back.image import Built

pytestmark = pytest.mark.system


@pytest.mark.parametrize("kernel", ["6.1", "6.12"])
def test_the_boot_stays_within_its_figures(whole: Built, tmp_path: Path, kernel: str) -> None:
    rows = boot.measure(whole, tmp_path, kernel)
    assert len([found for found in rows if found["limit"] is not None]) == 3 + len(boot.MACHINES)
    assert [found for found in rows if not found["ok"]] == []
    assert all(found["value"] > 0 for found in rows)
