# SPDX-License-Identifier: Apache-2.0
"""Command lines of QEMU machines, and how a run ends, with a stand-in for QEMU."""

from __future__ import annotations

from pathlib import Path

import pytest

from delphyne.board import demo, qemu
from delphyne.board.qemu import BoardError, Ending, Machine


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A script that is found as qemu-system-aarch64; the test writes what it does."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    script = tmp_path / qemu.QEMU
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    return script


def test_a_machine_that_turns_itself_off(stand_in: Path, tmp_path: Path) -> None:
    stand_in.write_text('#!/bin/sh\nprintf "one\\r\\ntwo\\r\\n"; echo note >&2\n')
    parts: list[str] = []
    done = qemu.run(tmp_path / "image", timeout=20, show=parts.append)
    assert (done.console, done.ending, done.complaint) == ("one\ntwo\n", Ending.OFF, "note")
    assert "".join(parts) == "one\ntwo\n"


def test_a_machine_that_hangs_is_ended(stand_in: Path, tmp_path: Path) -> None:
    stand_in.write_text("#!/bin/sh\necho begun\nexec sleep 1000\n")
    done = qemu.run(tmp_path / "image", timeout=0.5)
    assert done.ending is Ending.TIMEOUT
    assert done.seconds < 20


def test_a_machine_that_qemu_refuses(stand_in: Path, tmp_path: Path) -> None:
    stand_in.write_text("#!/bin/sh\necho no such CPU >&2\nexit 1\n")
    done = qemu.run(tmp_path / "image", timeout=20)
    assert (done.ending, done.complaint) == (Ending.FAILED, "no such CPU")


def test_gdb_is_told_when_qemu_refuses(stand_in: Path, tmp_path: Path) -> None:
    stand_in.write_text("#!/bin/sh\necho no such board >&2\nexit 1\n")
    with (
        pytest.raises(BoardError, match="no such board"),
        qemu.stopped_for_gdb(qemu.command(tmp_path / "image", Machine()), tmp_path / "socket", tmp_path / "console"),
    ):
        raise AssertionError("it did not start")


def test_without_qemu_one_line_names_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BoardError) as refused:
        qemu.run(tmp_path / "image")
    assert str(refused.value) == "qemu-system-aarch64 is not installed; install the Debian package qemu-system-arm"
    with pytest.raises(BoardError) as no_gdb:
        demo.gdb_demo(tmp_path)
    assert str(no_gdb.value) == "gdb-multiarch is not installed; install the Debian package gdb-multiarch"


def test_command_lines() -> None:
    line = " ".join(qemu.command(Path("i.img"), Machine(cpu="cortex-a72", cpus=4, memory=2048, gic=2, icount=True, extra=("-s",))))
    assert line == (
        "qemu-system-aarch64 -machine virt,gic-version=2,virtualization=on -cpu cortex-a72 -smp 4 -m 2048 -display none -monitor none"
        " -serial stdio -nic none -no-reboot -kernel i.img -icount shift=0 -s"
    )
    other = " ".join(qemu.command(Path("i.img"), Machine(board="xlnx-zcu102", virtualization=False)))
    assert "-machine xlnx-zcu102,virtualization=off -smp" in other


def test_a_run_that_misses_its_trap_is_an_error(stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "build_demo", lambda out: out / "image")
    stand_in.write_text("#!/bin/sh\necho hello\n")
    with pytest.raises(BoardError, match="before its deliberate trap"):
        demo.run_demo(tmp_path)
    stand_in.write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(BoardError, match="did not end by itself: QEMU failed"):
        demo.run_demo(tmp_path)
    stand_in.write_text('#!/bin/sh\necho "*** end of report"\n')
    assert demo.run_demo(tmp_path) == 0
