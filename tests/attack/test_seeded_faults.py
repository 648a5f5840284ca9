# SPDX-License-Identifier: Apache-2.0
"""The attack suite fails when a fault is put back: without that, its success would say nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from seeded_faults import EL2, FAILED, FAULTS, ROOT, Fault, copy_tree, plant, run


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.name for fault in FAULTS])
def test_a_fault_still_has_its_place(tmp_path: Path, fault: Fault) -> None:
    file = tmp_path / EL2 / fault.file
    file.parent.mkdir(parents=True)
    file.write_text((ROOT / EL2 / fault.file).read_text())
    plant(fault, tmp_path)


@pytest.mark.slow
@pytest.mark.system
@pytest.mark.parametrize("fault", FAULTS, ids=[fault.name for fault in FAULTS])
def test_the_suite_catches_it(tmp_path: Path, fault: Fault) -> None:
    copy_tree(tmp_path)
    plant(fault, tmp_path)
    done = run(fault, tmp_path)
    said = f"\n{done.stdout}\n{done.stderr}"
    assert done.returncode == FAILED, said
    assert "1 failed" in said, said
