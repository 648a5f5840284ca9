# SPDX-License-Identifier: Apache-2.0
"""What `delphyne guest-pkvm` concludes from what a guest, its host and EL2's frame table say: everything that is missing or wrong is not shown."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from unittest import mock

import pytest
from typer.testing import CliRunner

from delphyne import cli
from delphyne.board import host, pkvm_guest, pkvm_kernel, vmm
from delphyne.board.pkvm_guest import Counted

MANY = "c35cc7d8d91728a0cb052831bc4ef372"
OTHER = "d41d8cd98f00b204e9800998ecf8427e"
CONSOLE = f"""pkvm: kernel 6.12.117
pkvm: modules 0
pkvm: services 0x000003fd
pkvm: pool 0x000000004f000000 16
pkvm: read {MANY}  -
pkvm: back {MANY}  -
pkvm: fetched {OTHER}  -
pkvm: used 300
pkvm: trouble 0
pkvm: the guest waits
pkvm: written {MANY}  -
pkvm: served {OTHER}  -
"""
POOL = tuple(range(0x4F000, 0x50000))
COUNTED = Counted(9000, POOL)


def not_shown(console: str, counted: Counted = COUNTED) -> list[str]:
    return [row["name"] for row in pkvm_guest.rows(console, counted) if not row["ok"]]


def test_all_of_it_is_shown() -> None:
    assert not_shown(CONSOLE) == []
    seen = {row["name"]: row["seen"] for row in pkvm_guest.rows(CONSOLE, COUNTED)}
    assert seen["the DMA pool of its device tree"] == "16 MiB at 0x4f000000"
    assert seen["pages shared, by EL2's frame table"] == "4096 of 4096 pages of the pool, 0 others; 9000 are private"


@pytest.mark.parametrize(
    ("was", "instead", "name"),
    [
        ("modules 0", "modules 3", "the guest's kernel, and its modules"),
        ("services 0x000003fd", "services 0x000003f5", "hypervisor services that it found"),
        ("services 0x000003fd", "services ", "hypervisor services that it found"),
        (f"read {MANY}", f"read {OTHER}", "1 MiB read from the disk"),
        (f"back {MANY}", f"back {OTHER}", "1 MiB written, as it reads it again"),
        (f"written {MANY}", f"written {OTHER}", "1 MiB written, as the host sees it"),
        (f"fetched {OTHER}", f"fetched {MANY}", "a file fetched from the host"),
        ("used 300", "used 0", "slots of the pool in use"),
        ("trouble 0", "trouble 1", "lines of trouble in its log"),
    ],
)
def test_what_is_wrong_is_not_shown(was: str, instead: str, name: str) -> None:
    assert was in CONSOLE
    assert not_shown(CONSOLE.replace(was, instead)) == [name]


@pytest.mark.parametrize(
    "counted",
    [replace(COUNTED, shared=POOL[:-1]), replace(COUNTED, shared=(*POOL, 0x40200)), replace(COUNTED, private=0), Counted(9000, ())],
    ids=["one less", "one elsewhere", "nothing private", "nothing"],
)
def test_the_frame_table_has_to_share_the_pool_and_nothing_else(counted: Counted) -> None:
    assert not_shown(CONSOLE, counted) == ["pages shared, by EL2's frame table"]


def test_who_says_nothing_shows_nothing() -> None:
    assert len(not_shown("", Counted(0, ()))) == len(pkvm_guest.rows("", Counted(0, ())))


@pytest.mark.parametrize("script", [pkvm_guest.REPORT, pkvm_guest.script(pkvm_guest.the_guest())])
def test_its_scripts_are_shell(script: str) -> None:
    done = subprocess.run(["sh", "-n"], input=script, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_guest_is_on_the_machine_that_protected_guests_have() -> None:
    line = " ".join(vmm.command(pkvm_guest.the_guest(), disk_file="/d", console="stdio"))
    assert "-machine virt,accel=kvm,gic-version=host,its=off,dtb-randomness=off,mem-merge=off " in line
    assert "virtio-blk-device,drive=disk,iommu_platform=on" in line
    assert "-kernel /tools/guest/protected-6.12-pkvm-2-256.img" in line


@pytest.mark.parametrize(("console", "status"), [(CONSOLE, 0), (CONSOLE.replace("used 300", "used 0"), 1)])
def test_the_exit_status_says_whether_all_of_it_is_shown(console: str, status: int) -> None:
    with (
        mock.patch.object(pkvm_kernel, "build"),
        mock.patch.object(host, "build"),
        mock.patch.object(pkvm_guest, "boot", return_value=(console, COUNTED)) as boot,
    ):
        done = CliRunner().invoke(cli.app, ["guest-pkvm", "--json", "--kernel", "6.1", "--transport", "pci"])
        shown = CliRunner().invoke(cli.app, ["guest-pkvm"])
    assert (done.exit_code, shown.exit_code) == (status, status)
    said = json.loads(done.stdout)
    assert (said["kernel"], said["transport"]) == ("6.1", "pci")
    assert [row["name"] for row in said["rows"] if not row["ok"]] == ["slots of the pool in use"] * status
    assert shown.stdout.count("NOT SHOWN") == status
    assert [call.args[:2] for call in boot.call_args_list] == [("6.1", pkvm_guest.the_guest("pci")), ("6.12", pkvm_guest.the_guest("mmio"))]
