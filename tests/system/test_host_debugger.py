# SPDX-License-Identifier: Apache-2.0
"""gdb on a host: started stopped, and attached to one that waits; and the display of a host."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from delphyne.board import debugger, host, qemu
from delphyne.board.host import Host
from delphyne.compiler.back.image import Built

pytestmark = pytest.mark.system

MACHINE = qemu.Machine(cpu="cortex-a57", cpus=1, memory=1024)
SAY = ("hbreak delphyne.el2.kvm.bootmode.serve_write", "continue", "backtrace", "info args", "kill", "quit")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Everything that a build writes goes elsewhere, and so does the port."""
    monkeypatch.setattr(host, "BUILD", tmp_path)
    with socket.socket() as free:
        free.bind((debugger.ADDRESS, 0))
        monkeypatch.setattr(debugger, "PORT", free.getsockname()[1])
    return tmp_path


def _built_in(folder: Path, whole: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "build", lambda **_: whole)
    os.link(whole.elf, folder / "delphyne.elf")


def _shows_python(said: str) -> None:
    assert "serve_write (frame=" in said, said
    assert "at delphyne/el2/kvm/bootmode.py:" in said, said
    assert "at delphyne/el2/entry/dispatch.py:" in said, said
    assert "in lower () at delphyne/el2/entry/el2.S:" in said, said


def test_gdb_stops_a_host_in_the_hypervisors_python(
    folder: Path, whole: Built, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    _built_in(folder, whole, monkeypatch)
    assert debugger.gdb(Host(machine=MACHINE), more=SAY) == 0
    said = capfd.readouterr()
    _shows_python(said.out)
    assert "delphyne gdb --kernel-symbols fetches them" in said.err or "Reading symbols from" in said.out
    assert "the host begins at" in (folder / "console.txt").read_text()


def test_gdb_attaches_to_a_host_that_waits(
    folder: Path, whole: Built, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    _built_in(folder, whole, monkeypatch)
    line = host.command(Host(machine=MACHINE, arguments="nokaslr"), whole.image)
    assert not debugger.is_waiting()
    waiting = [*line, "-gdb", f"tcp:{debugger.ADDRESS}:{debugger.PORT}", "-S"]
    with subprocess.Popen(waiting, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as machine:
        try:
            while not debugger.is_waiting():
                assert machine.poll() is None
            assert debugger.gdb(Host(machine=MACHINE), more=SAY) == 0
        finally:
            machine.kill()
    said = capfd.readouterr()
    assert f"attached to the machine that waits at port {debugger.PORT}" in said.err, said
    _shows_python(said.out)


def _spice_answers(at: Path) -> bytes:
    """The first four bytes of the answer to a SPICE client that asks for the main channel (SPICE protocol, SpiceLinkMess)."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20.0)
        client.connect(str(at))
        message = struct.pack("<IBBIII", 0, 1, 0, 0, 0, 18)
        client.sendall(struct.pack("<4sIII", b"REDQ", 2, 2, len(message)) + message)
        return client.recv(4)


def test_a_display_is_there_for_spice_and_for_the_host(image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    qemu.require_spice()
    place = tmp_path / "spice.sock"
    monkeypatch.setattr(host, "DISPLAY", tuple(part.replace(str(host.SPICE), str(place)) for part in host.DISPLAY))
    answers: list[bytes] = []
    console: list[str] = []

    def show(text: str) -> None:
        console.append(text)
        if "display complete" in "".join(console) and not answers:
            answers.append(_spice_answers(place))

    script = "cat /sys/class/graphics/fb0/name\ncat /sys/class/drm/card0-*/status\nls /dev/input/event0\necho display complete\nwhile :; do :; done\n"
    line = host.command(Host(machine=MACHINE, script=script, graphics=True), image)
    done = qemu.run_command(line, timeout=180.0, show=show, until="display complete")
    assert done.ending is qemu.Ending.SEEN, f"{done.console}\n{done.complaint}"
    report = done.console[done.console.index("Run /init") :]
    assert "virtio_gpu" in report, done.console
    assert "\nconnected\n" in report, done.console
    assert "/dev/input/event0" in report, done.console
    assert answers == [b"REDQ"], done.complaint


def test_a_qemu_without_spice_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / qemu.QEMU).write_text("#!/bin/sh\necho spice support is disabled >&2; exit 1\n")
    (tmp_path / qemu.QEMU).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(qemu.BoardError, match="install the Debian package qemu-system-modules-spice"):
        qemu.require_spice()


def test_the_words_of_the_makefile_become_options() -> None:
    root = Path(__file__).resolve().parents[2]

    def asked(*words: str) -> list[str]:
        done = subprocess.run(["make", "-n", *words, f"PYTHON={sys.executable}"], cwd=root, capture_output=True, text=True, check=True)
        return [" ".join(line.split()) for line in done.stdout.splitlines() if line.startswith(".venv/bin/delphyne")]

    assert asked("run") == [".venv/bin/delphyne run --guest --protected --guest-memory 128"]
    assert asked("run", "PROTECTED=0") == [".venv/bin/delphyne run --guest"]
    assert asked("run", "DEBUG=1", "DEBUGGER=1") == [".venv/bin/delphyne run --debug --gdb --guest --protected --guest-memory 128"]
    assert asked("run", "PLATFORM=zcu102", "BOOTIMG=6.12", "DEBUG=0") == [".venv/bin/delphyne run --kernel 6.12 --board zcu102"]
    assert asked("run", "GRAPHICS=1") == [".venv/bin/delphyne run --graphics --guest --protected --guest-memory 128"]
    assert asked("gdb", "BOOTIMG=linux-image-6.1.0-56-rt-arm64") == [".venv/bin/delphyne gdb --kernel linux-image-6.1.0-56-rt-arm64"]
    assert asked("build", "DEBUG=1") == [".venv/bin/delphyne build --debug"]
    assert asked("gdb-alone") == [".venv/bin/delphyne gdb --alone"]
