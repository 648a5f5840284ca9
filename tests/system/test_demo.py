# SPDX-License-Identifier: Apache-2.0
"""The demo image in QEMU: every step on the console, on several processors and boards, and a session in gdb."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from delphyne.board import demo, qemu
from delphyne.board.qemu import Ending, Machine
from delphyne.compiler.back.image import Built
from delphyne.el2.arch.cpu import MAX_CPUS, SLOT_BYTES

pytestmark = pytest.mark.system

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return demo.build(tmp_path_factory.mktemp("demo"))


def booted(built: Built, machine: Machine, timeout: float = 90) -> str:
    done = qemu.run(built.image, replace(machine, arguments=demo.ARGUMENTS), timeout=timeout)
    assert done.ending is Ending.OFF, f"{done.ending.value}\n--- console ---\n{done.console}\n--- QEMU ---\n{done.complaint}"
    return done.console


def line_of(file: str, text: str) -> int:
    """The number of the one line of a source file that holds `text`."""
    lines = (ROOT / file).read_text().splitlines()
    (number,) = [number for number, line in enumerate(lines, 1) if text in line]
    return number


def check_scenario(console: str, cpus: int) -> None:
    """What every board has to say, in this order."""
    at = -1
    trap_line = line_of("delphyne/el2/entry/demo.py", "frame.x[0] = frame.x[1] + frame.x[2]")
    for line in [
        "delphyne/0: Delphyne, a hypervisor in typed Python\n",
        "delphyne/0: running at EL2, image at ",
        f"delphyne/0: machine: {cpus} CPUs, ",
        "delphyne/0: own stage-1 map in use",
        "delphyne/0: SHA-256 by general registers: ba7816bf8f01cfea..b410ff61f20015ad is right\n",
        f"delphyne/0: {cpus} of {cpus} CPUs run at EL2\n",
        "delphyne/0: hello from EL1\n",
        "delphyne/0: stage-2 abort: EL1 at 0x1000001c accesses 0x90000024, write 0, fault status 0x5\n",
        "delphyne/0: EL1 goes on; its load gave 0x0\n",
        "*** delphyne stopped on CPU 0: arithmetic overflow\n",
        "  values: 18446744073709551600 (0xfffffffffffffff0), 17 (0x11)\n",
        f"  at      delphyne/el2/entry/demo.py:{trap_line} in delphyne.el2.entry.demo.serve_call\n",
        " in el2_call\n",
        " in call\n",
        f"  stopped {cpus - 1} of {cpus - 1} other CPUs\n",
        "*** end of report\n",
    ]:
        following = console.find(line, at + 1)
        assert following > at, f"missing, or out of order: {line!r}\n--- console ---\n{console}"
        at = following
    for number in range(1, cpus):
        assert f"delphyne/{number}: CPU {number} (affinity " in console, console


@pytest.mark.parametrize(
    ("machine", "crypto"),
    [
        (Machine(cpu="max", cpus=2), True),
        (Machine(cpu="cortex-a57", cpus=1, memory=256, gic=2), True),
        (Machine(cpu="cortex-a53", cpus=8, memory=2048), True),
        (Machine(cpu="a64fx", cpus=4, memory=16384), True),
        (Machine(cpu="neoverse-n1", cpus=2, memory=128), True),
    ],
    ids=lambda item: item.cpu if isinstance(item, Machine) else str(item),
)
def test_the_demo_tells_its_whole_story(built: Built, machine: Machine, crypto: bool) -> None:
    console = booted(built, machine)
    check_scenario(console, machine.cpus)
    assert ("SHA-256 by crypto extensions: ba7816bf8f01cfea..b410ff61f20015ad is right" in console) is crypto, console
    assert f"GICv{machine.gic}" in console


def test_the_image_header_is_what_linux_loaders_read(built: Built) -> None:
    image = built.image.read_bytes()
    assert image[56:60] == b"ARM\x64"
    assert int.from_bytes(image[8:16], "little") == 0
    assert int.from_bytes(image[24:32], "little") == 0xA
    size = int.from_bytes(image[16:24], "little")
    assert size % 4096 == 0
    assert size > len(image) + int(MAX_CPUS) * int(SLOT_BYTES)


def board_tree(source: str, folder: Path) -> Path:
    """A device tree for a board of which QEMU makes none itself."""
    assert shutil.which("dtc"), "install the Debian package device-tree-compiler"
    (folder / "board.dts").write_text(source)
    subprocess.run(["dtc", "-q", "-I", "dts", "-O", "dtb", "-o", str(folder / "board.dtb"), str(folder / "board.dts")], check=True)
    return folder / "board.dtb"


ZCU102 = """
/dts-v1/;
/ {
    compatible = "xlnx,zynqmp-zcu102", "xlnx,zynqmp"; #address-cells = <2>; #size-cells = <2>;
    chosen { stdout-path = "serial0:115200n8"; };
    aliases { serial0 = "/axi/serial@ff000000"; };
    memory@0 { device_type = "memory"; reg = <0 0 0 0x40000000>; };
    cpus { #address-cells = <1>; #size-cells = <0>;
        cpu@0 { device_type = "cpu"; reg = <0>; }; cpu@1 { device_type = "cpu"; reg = <1>; }; };
    psci { compatible = "arm,psci-0.2"; method = "smc"; };
    axi { #address-cells = <2>; #size-cells = <2>; ranges;
        serial@ff000000 { compatible = "xlnx,zynqmp-uart", "cdns,uart-r1p12"; reg = <0 0xff000000 0 0x1000>; };
        gic@f9010000 { compatible = "arm,gic-400"; reg = <0 0xf9010000 0 0x10000 0 0xf9020000 0 0x20000>; }; };
};
"""


VIRT_WITHOUT_RAM = """
/dts-v1/;
/ {
    #address-cells = <2>; #size-cells = <2>;
    chosen { stdout-path = "/serial@9000000"; };
    serial@9000000 { compatible = "arm,pl011"; reg = <0 0x09000000 0 0x1000>; };
};
"""


def test_a_board_with_another_port_and_ram_at_zero(built: Built, tmp_path: Path) -> None:
    """ZynqMP: a Cadence UART, a GICv2, RAM from address 0."""
    tree = board_tree(ZCU102, tmp_path)
    machine = Machine(board="xlnx-zcu102", cpus=4, memory=1024, extra=("-dtb", str(tree), "-audiodev", "none,id=none"))
    console = booted(built, machine)
    check_scenario(console, 2)
    assert "image at 0x200000" in console
    assert "GICv2" in console


def test_entered_at_el1_it_says_so_in_one_line(built: Built) -> None:
    console = booted(built, Machine(cpu="cortex-a57", virtualization=False))
    assert console == "delphyne: entered at EL1; this image needs EL2 (QEMU: -machine virt,virtualization=on)\n"


def spoiled_start(tree: bytes, folder: Path) -> tuple[str, ...]:
    """QEMU options that start the image, loaded as raw data, with x0 at these bytes."""
    (folder / "tree").write_bytes(tree)
    (folder / "start.S").write_text("ldr x0, =0x44000000\nldr x1, =0x40200000\nbr x1\n")
    subprocess.run(["aarch64-linux-gnu-as", "-o", str(folder / "start.o"), str(folder / "start.S")], check=True)
    subprocess.run(["aarch64-linux-gnu-objcopy", "-O", "binary", str(folder / "start.o"), str(folder / "start")], check=True)
    loads = [("tree", "0x44000000"), ("start", "0x46000000")]
    options = [part for name, at in loads for part in ("-device", f"loader,file={folder / name},addr={at},force-raw=on")]
    return (*options, "-device", "loader,addr=0x46000000,cpu-num=0")


@pytest.mark.parametrize("changes", [{0: 0x1234}, {4: 0xFFFF_FFFF}, {4: 0x100}, {20: 15}, {36: 8}, {}], ids=str)
def test_a_spoiled_tree_turns_the_machine_off(built: Built, tmp_path: Path, changes: dict[int, int]) -> None:
    """Without a tree that can be read nobody knows a console, but nothing runs on, and nothing is written anywhere."""
    tree = bytearray(board_tree(VIRT_WITHOUT_RAM, tmp_path).read_bytes())
    for offset, word in changes.items():
        tree[offset : offset + 4] = struct.pack(">I", word)
    done = qemu.run(built.image, Machine(cpus=1, extra=spoiled_start(bytes(tree), tmp_path)), timeout=30)
    assert done.ending is Ending.OFF, f"{done.ending.value}\n{done.console}\n{done.complaint}"
    said = "delphyne/0: the device tree cannot be used\n" in done.console
    assert said is (not changes), done.console


class Gdb:
    """gdb-multiarch in batch mode on a machine that waits before its first instruction."""

    def __init__(self, built: Built, folder: Path) -> None:
        self.built, self.folder = built, folder

    def __call__(self, *commands: str) -> str:
        assert shutil.which(demo.GDB), "install the Debian package gdb-multiarch"
        socket, console = self.folder / "gdb", self.folder / "console"
        line = qemu.command(self.built.image, Machine(cpu="cortex-a57", cpus=1, memory=256, arguments=demo.ARGUMENTS))
        with qemu.stopped_for_gdb(line, socket, console):
            given = [part for line in [*demo.gdb_commands(self.built.elf, socket), *commands] for part in ("-ex", line)]
            done = subprocess.run([demo.GDB, "-nx", "-q", "-batch", *given], capture_output=True, text=True, timeout=120, check=False)
        return f"{done.stdout}\n--- stderr ---\n{done.stderr}\n--- console ---\n{console.read_text()}"


@pytest.fixture
def gdb(built: Built, tmp_path: Path) -> Gdb:
    return Gdb(built, tmp_path)


def test_gdb_breaks_lists_and_steps_in_python(gdb: Gdb) -> None:
    call = 'recorder.show_text(text(b"Delphyne, a hypervisor in typed Python"))'
    line = line_of("delphyne/el2/entry/main.py", call)
    said = gdb(f"hbreak delphyne/el2/entry/main.py:{line}", "continue", "info args", "backtrace", "list", "step", "finish", "next")
    assert f"el2_main (blob={0x4800_0000}, length=1048576) at delphyne/el2/entry/main.py:{line}" in said, said
    assert "blob = 1207959552" in said, said
    assert "in start () at delphyne/el2/entry/el2.S:" in said, said
    assert f"{line}\t        {call}" in said, said
    assert f"{line - 3}\t    tree = fdt.Region(Pa(blob), length)" in said, said
    assert "delphyne.el2.control.log.show_text (data=" in said, said
    assert "log(Level.INFO, f\"running at EL" in said.partition("show_text (data=")[2], said


def test_gdb_prints_arguments_structures_and_arrays(gdb: Gdb) -> None:
    said = gdb("hbreak delphyne.el2.entry.demo.serve_call", "continue", "print *frame", "print/x frame->x[1]", "print frame->x", "backtrace")
    registers = r"\{1, 268435516, 14, 0 <repeats \d+ times>.*\}"  # a call's frame has no x18 to x28
    assert re.search(f"x = {registers}, elr = 268435472, spsr = 965", said), said
    assert "= 0x1000003c" in said, said
    assert re.search(f"= {registers}\n", said), said
    assert "serve_call (frame=0x" in said, said
    assert "el2_call (frame=0x" in said, said
    assert "in call () at delphyne/el2/entry/el2.S:" in said, said


def test_gdb_walks_from_the_report_through_the_trap_to_the_interrupted_code(gdb: Gdb) -> None:
    said = gdb("hbreak trap_report", "continue", "backtrace", "frame 2", "info args")
    frames = [line for line in said.splitlines() if line.startswith("#")]
    wanted = ["trap_report (site=", "in __trap () at delphyne/el2/entry/el2.S:", "serve_call (frame=", "el2_call (frame=0x", "in call () at"]
    for number, text in enumerate(wanted):
        assert text in frames[number], said
    assert "a=18446744073709551600, b=17" in said, said
    assert f"delphyne/el2/entry/demo.py:{line_of('delphyne/el2/entry/demo.py', 'frame.x[0] = frame.x[1] + frame.x[2]')}" in frames[2], said


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        ("set $sp = (unsigned long)&__stacks_start + 0x3800", "data abort"),
        ("set $pc = 0x100", "instruction abort"),
        ("set $pc = (unsigned long)&demo_page", "instruction abort"),
        ("set $pc = $pc + 2", "program counter alignment"),
    ],
    ids=["stack overflow", "wild jump", "jump to constants", "misaligned jump"],
)
def test_a_crash_of_el2_itself_is_reported_on_the_emergency_stack(gdb: Gdb, spoil: str, words: str) -> None:
    """What gdb breaks here is what a bug would break; the guard page is where a stack that runs over ends."""
    crash = ("delete", "hbreak crash_report", "continue", "backtrace", "continue")
    said = gdb("hbreak delphyne.el2.entry.demo.serve_call", "continue", spoil, *crash)
    console = said.partition("--- console ---")[2]
    assert f"*** delphyne stopped on CPU 0: unexpected exception at EL2: {words}\n" in console, said
    assert "  ESR_EL2 " in console, said
    assert "  stopped 0 of 0 other CPUs\n*** end of report" in console, said
    assert "crash_report (frame=" in said, said


def test_a_failure_of_the_report_itself_ends_quietly(gdb: Gdb) -> None:
    said = gdb("hbreak trap_report", "continue", "set $pc = 0x100", "tbreak *(unsigned long)&park", "continue", "backtrace")
    assert "park () at delphyne/el2/entry/el2.S" in said, said
