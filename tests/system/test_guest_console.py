# SPDX-License-Identifier: Apache-2.0
"""`delphyne run --guest` as a person uses it: the guest's login shell, the way to the host's shell and back; and what it shows without a terminal."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest
from guest_ways import WAYS

from delphyne.board import guestimage

pytestmark = pytest.mark.system

ROOT = Path(__file__).resolve().parents[2]
MANY = hashlib.md5(guestimage.DISK_FILES["many"], usedforsecurity=False).hexdigest()
COMMAND = ("-m", "delphyne.cli", "run", "--guest", "--guest-append", "quiet")


def options(way: str) -> list[str]:
    return [*COMMAND, *(["--plain"] if way == "plain" else [])]


@pytest.mark.parametrize("way", WAYS)
def test_a_person_gets_the_guests_shell_and_the_hosts(way: str, tmp_path: Path) -> None:
    log = tmp_path / "console"
    with log.open("w") as console:
        child = pexpect.spawn(sys.executable, options(way), cwd=ROOT, timeout=100, encoding="utf-8", codec_errors="replace")
        child.logfile_read = console
        try:
            child.expect_exact("leaves its console for the shell of the host")
            child.expect_exact("as a guest of KVM, 2 CPUs")
            child.expect_exact("# ")
            child.sendline("echo in $(hostname), $(( 40 + 2 )); md5sum < /mnt/many")
            child.expect_exact("in guest, 42")
            child.expect_exact(MANY)
            child.send("\x1d")
            child.expect_exact("exit telnet")
            child.send("e")
            child.expect_exact("This is the shell of the host")
            child.expect_exact("# ")
            child.sendline("echo in $(hostname), $(( 40 + 3 )); guest")
            child.expect_exact("in delphyne, 43")
            child.expect_exact("leaves its console for the shell of the host")
            child.sendline("echo again in $(hostname)")
            child.expect_exact("again in guest")
            child.sendline("poweroff -f")
            child.expect_exact("This is the shell of the host")
            child.expect_exact("# ")
            child.sendline("poweroff -f")
            child.expect(pexpect.EOF)
            child.close()
            assert child.exitstatus == 0, log.read_text()
        except (pexpect.TIMEOUT, pexpect.EOF) as problem:
            raise AssertionError(f"{type(problem).__name__}\n--- console ---\n{log.read_text()}") from None
        finally:
            child.close(force=True)


@pytest.mark.parametrize("way", WAYS)
def test_without_a_terminal_guest_and_host_report(way: str) -> None:
    command = [sys.executable, *options(way)]
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240, check=False)
    console = done.stdout.replace("\r", "")
    said = f"\n--- console ---\n{console}\n{done.stderr}"
    assert done.returncode == 0, said
    guest, _, host = console.partition("The guest has ended, QEMU said 0. This is the host:")
    assert "\nLinux guest 6.1." in guest, said
    assert "\nCPUs: 2\n" in guest, said
    assert "\nhello from the guest's disk\n" in guest, said
    assert "inet 10.0.2.15/24" in guest, said
    assert "1 packets transmitted, 1 packets received" in guest, said
    assert "self-check: 4 files of 256 KiB, 2 rounds, 0 bad" in guest, said
    assert "\nLinux delphyne 6.1." in host, said
    assert "/dev/kvm" in host, said
