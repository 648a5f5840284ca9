# SPDX-License-Identifier: Apache-2.0
"""The table behind `delphyne attack`: whole, and true to the tests that it names."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from delphyne.board.attacks import CATALOGUE, Verdict, files

ROOT = Path(__file__).resolve().parents[2]


def test_every_line_of_the_catalogue_is_there_once() -> None:
    lines = [f"H{number}" for number in range(1, 36)] + [f"G{number}" for number in range(7)] + [f"K{number}" for number in range(1, 5)]
    assert [attack.line for attack in CATALOGUE] == lines


def test_a_line_is_tried_by_tests_that_exist_or_waits() -> None:
    for attack in CATALOGUE:
        assert bool(attack.tries) is (attack.verdict is not Verdict.LATER), attack.line
        for name in attack.tries:
            file, _, function = name.partition("::")
            text = (ROOT / file).read_text()
            assert not function or re.search(rf"^def {function}\(", text, re.MULTILINE), name


def test_what_is_expected_to_succeed_is_not_promised() -> None:
    """By no more lines than the threat model leaves out."""
    assert [attack.line for attack in CATALOGUE if attack.verdict is Verdict.EXPECTED] == ["H30"]
    assert "`test_a_device_of_the_hosts_reaches_a_guests_pages`" in (ROOT / "docs" / "threat-model.md").read_text().partition("## Not promised")[2]


def test_the_list_is_for_people_and_programs() -> None:
    command = [sys.executable, "-m", "delphyne.cli", "attack", "--list"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert shown.startswith("H1   holds "), shown
    rows = json.loads(subprocess.run([*command, "--json"], capture_output=True, text=True, check=True, cwd=ROOT).stdout)["rows"]
    assert [row["line"] for row in rows] == [attack.line for attack in CATALOGUE]
    assert set(rows[0]) == {"line", "what", "tries", "cases", "verdict"}
    for row in rows:
        assert row["cases"] >= len(row["tries"]), row


def test_only_machines_under_attack_are_run() -> None:
    names = (
        "test_boot_attacks", "test_counted_guests", "test_damaged_boots", "test_device_attacks", "test_given_frames", "test_guest_attacks",
        "test_guest_call_attacks", "test_guest_ends", "test_host_ends", "test_host_processors", "test_host_storms", "test_hostile_monitor",
        "test_hostile_pages", "test_private_frames", "test_protected_attacks", "test_vcpu_attacks",
    )  # fmt: skip
    assert files() == [f"tests/attack/{name}.py" for name in names]
