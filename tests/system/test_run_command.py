# SPDX-License-Identifier: Apache-2.0
"""`delphyne run` as a person uses it: a shell of a stock kernel above Delphyne; and how a host ends."""

from __future__ import annotations

import sys
from pathlib import Path

import pexpect
import pytest

from delphyne.board import qemu
from delphyne.board.host import Host, run

pytestmark = pytest.mark.system

ROOT = Path(__file__).resolve().parents[2]


def test_a_person_gets_a_shell(tmp_path: Path) -> None:
    log = tmp_path / "console"
    with log.open("w") as console:
        child = pexpect.spawn(sys.executable, ["-m", "delphyne.cli", "run"], cwd=ROOT, timeout=120, encoding="utf-8", codec_errors="replace")
        child.logfile_read = console
        try:
            child.expect_exact("Delphyne, a hypervisor in typed Python")
            child.expect_exact("CPU: All CPU(s) started at EL2")
            child.expect_exact("The shell is yours")
            child.expect_exact("# ")
            child.sendline("test -c /dev/kvm && echo kvm is $((40 + 2))")
            child.expect_exact("kvm is 42")
            child.sendline("poweroff -f")
            child.expect(pexpect.EOF)
            child.close()
            assert child.exitstatus == 0, log.read_text()
        except (pexpect.TIMEOUT, pexpect.EOF) as problem:
            raise AssertionError(f"{type(problem).__name__}\n--- console ---\n{log.read_text()}") from None
        finally:
            child.close(force=True)


@pytest.mark.parametrize("word", ["reboot -f", "poweroff -f", "echo b > /proc/sysrq-trigger"])
def test_reboot_and_power_off_reach_the_firmware(image: Path, word: str) -> None:
    done = run(Host(script=f"echo leaving\n{word}\n"), image, timeout=120.0)
    assert done.ending is qemu.Ending.OFF, f"{done.ending.value}\n{done.console}\n{done.complaint}"
    assert "leaving" in done.console
    assert "Kernel panic" not in done.console
