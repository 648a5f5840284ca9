# SPDX-License-Identifier: Apache-2.0
"""The `delphyne` command: the words people type, each handed to the room that knows.

Nothing is decided here. A user's mistake ends in one line on stderr and exit code 1 or 2, never in a Python traceback; what other programs
read has `--json`.
"""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from delphyne.board.host import Host

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help="A hypervisor for EL2 in typed Python.")
bench_app = typer.Typer(no_args_is_help=True, help="Measure.")
app.add_typer(bench_app, name="bench")

Debug = Annotated[bool, typer.Option("--debug", help="The image that shows on the console what the host provokes, and itself to its counters.")]
Json = Annotated[bool, typer.Option("--json", help="Output for programs.")]


class UserError(Exception):
    """What the user has to mend, in one line: what happened, where, what to do."""


class Emit(StrEnum):
    """What `compile` writes."""

    ir = "ir"
    asm = "asm"
    obj = "obj"


class TargetName(StrEnum):
    """What `compile` compiles for."""

    aarch64 = "aarch64"
    native = "native"


class Board(StrEnum):
    """What `run` and `gdb` boot a host on."""

    virt = "virt"
    zcu102 = "zcu102"


Kernel = Annotated[str, typer.Option(help="6.1, 6.12, either with -rt or -cloud, a Debian package name, or a file.")]
BoardOption = Annotated[Board, typer.Option(help="QEMU's machine. The ZCU102 has its own processor, four CPUs and GICv2.")]
Cpu = Annotated[str, typer.Option(help="QEMU's CPU model.")]
Smp = Annotated[int, typer.Option(help="CPUs.", min=1)]
Memory = Annotated[int, typer.Option(help="RAM in MiB.", min=64)]
Gic = Annotated[int, typer.Option(help="2 or 3.", min=2, max=3)]
Append = Annotated[str, typer.Option(help="More of the kernel's command line.")]


class GuestGic(StrEnum):
    """A guest's interrupt controller."""

    host = "host"
    v2 = "2"
    v3 = "3"


class Transport(StrEnum):
    """A guest's virtio transport."""

    mmio = "mmio"
    pci = "pci"


def _el2_files() -> list[Path]:
    return sorted((ROOT / "delphyne" / "el2").rglob("*.py"))


def _existing(paths: list[Path]) -> list[Path]:
    for path in paths:
        if not path.is_file():
            raise UserError(f"{path}: no such file")
        if path.suffix != ".py":
            raise UserError(f"{path}: not a Python file")
    return paths


@app.command()
def check(
    files: Annotated[list[Path] | None, typer.Argument(help="Python files; all of el2/ where none is given.")] = None,
    json: Json = False,
) -> None:
    """Refuse what is outside the subset, with place, reason and remedy. Needs no LLVM."""
    from delphyne.compiler.front import check_paths

    paths = _existing(files) if files else _el2_files()
    diagnostics = check_paths(paths)
    if json:
        import json as json_module

        typer.echo(json_module.dumps([diagnostic.as_json() for diagnostic in diagnostics], indent=2))
    else:
        for diagnostic in diagnostics:
            typer.echo(diagnostic.render(color=sys.stdout.isatty()))
        verdict = f"{len(diagnostics)} refusals" if diagnostics else "nothing refused"
        typer.echo(f"{len(paths)} files checked, {verdict}")
    raise typer.Exit(1 if diagnostics else 0)


@app.command("compile")
def compile_file(
    file: Annotated[Path, typer.Argument(help="A Python file of the language.")],
    emit: Annotated[Emit, typer.Option(help="What to write.")] = Emit.obj,
    target: Annotated[TargetName, typer.Option(help="native: callable from CPython on this machine.")] = TargetName.aarch64,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Where; beside the file where it is not given, `-` for stdout.")] = None,
    opt: Annotated[int, typer.Option(help="0 or 2.", min=0, max=2)] = 2,
) -> None:
    """Compile one file: LLVM IR, assembly or an object. A refused program leaves no file behind."""
    from delphyne.compiler.back.ir import AARCH64, NATIVE, emit_ir
    from delphyne.compiler.back.lower import lower
    from delphyne.compiler.front import compile_paths

    program = compile_paths(_existing([file]))
    chosen = NATIVE if target is TargetName.native else AARCH64
    data = lower(emit_ir(program, chosen), chosen, emit=emit.value, opt=opt).data
    if out is not None and str(out) == "-":
        sys.stdout.buffer.write(data)
        return
    place = out or file.with_suffix({Emit.ir: ".ll", Emit.asm: ".s", Emit.obj: ".o"}[emit])
    place.write_bytes(data)
    typer.echo(f"{place}: {len(data)} bytes")


@app.command()
def build(debug: Debug = False) -> None:
    """Make build/delphyne.elf and build/delphyne.img."""
    from delphyne.board.host import build as build_image

    built = build_image(debug=debug)
    typer.echo(f"{os.path.relpath(built.image)} and {os.path.relpath(built.elf)}")


@app.command()
def bundle(
    kernel: Kernel = "6.1",
    initrd: Annotated[Path | None, typer.Option(help="An initramfs; the small Debian userland of `run` where none is given.")] = None,
    append: Annotated[str, typer.Option(help="The kernel's command line.")] = "",
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write.")] = BUILD / "delphyne-bundle.img",
) -> None:
    """Make one bootable file of EL2, a kernel, its initrd and its command line, for loaders that load a single file."""
    from delphyne.board import bundle as tool
    from delphyne.board import hostimage
    from delphyne.board.host import build as build_image
    from delphyne.board.kernels import kernel_file

    made = tool.write(out, build_image().image, kernel_file(kernel), initrd or hostimage.build(), append)
    typer.echo(f"{os.path.relpath(made)}: {made.stat().st_size} bytes")


@app.command()
def demo() -> None:
    """Boot EL2 alone, without a host: its self-tests, a small program at EL1, and the report of a deliberate trap."""
    from delphyne.board.demo import run_demo

    raise typer.Exit(run_demo(BUILD))


def _host(kernel: str, board: Board, cpu: str, smp: int, memory: int, gic: int, append: str) -> Host:
    from delphyne.board import host as hosts
    from delphyne.board import kernels
    from delphyne.board.qemu import Machine

    machine = Machine(cpu=cpu, cpus=smp, memory=memory, gic=gic) if board is Board.virt else hosts.zcu102(kernels.kernel_file(kernel))
    return hosts.Host(kernel=kernel, machine=machine, arguments=append)


@app.command()
def run(
    kernel: Kernel = "6.1",
    board: BoardOption = Board.virt,
    cpu: Cpu = "cortex-a57",
    smp: Smp = 2,
    memory: Memory = 1024,
    gic: Gic = 3,
    append: Append = "",
    plain: Annotated[bool, typer.Option("--plain", help="The same host without Delphyne, its kernel at EL2.")] = False,
    graphics: Annotated[bool, typer.Option("--graphics", help="A display by SPICE, with a shell on it too.")] = False,
    gdb: Annotated[bool, typer.Option("--gdb", help="Wait for gdb at port 1234 before the first instruction: delphyne gdb attaches.")] = False,
    debug: Debug = False,
    guest: Annotated[bool, typer.Option("--guest", help="Boot a guest under the host's KVM, in Debian's own QEMU, and enter it.")] = False,
    protected: Annotated[bool, typer.Option("--protected", help="With --guest: a protected one, and what its host sees of it.")] = False,
    guest_kernel: Annotated[str, typer.Option(help="The guest's kernel: 6.1, 6.12, a Debian package name, its file, or 6.12-pkvm.")] = "6.1",
    guest_memory: Annotated[int, typer.Option(help="The guest's RAM in MiB.", min=64)] = 256,
    guest_smp: Annotated[int, typer.Option(help="The guest's CPUs.", min=1)] = 2,
    guest_gic: Annotated[GuestGic, typer.Option(help="The guest's interrupt controller; `host` takes the one that the host has.")] = GuestGic.host,
    guest_transport: Annotated[Transport, typer.Option(help="How the guest finds its virtio devices.")] = Transport.mmio,
    guest_append: Annotated[str, typer.Option(help="More of the guest kernel's command line.")] = "",
) -> None:
    """Boot a stock Debian kernel above Delphyne and give its shell, or with --guest that of a guest under its KVM."""
    from dataclasses import replace

    from delphyne.board.debugger import PORT
    from delphyne.board.host import interactive
    from delphyne.board.vmm import Guest

    if graphics and board is not Board.virt:
        raise UserError("--graphics needs the board virt: the ZCU102 has no PCI in QEMU")
    if protected and plain:
        raise UserError("--protected needs Delphyne: plain KVM cannot protect a guest")
    if protected and gic != 3:
        raise UserError("--protected needs a GICv3, for the host and for the guest")
    host = replace(_host(kernel, board, cpu, smp, memory, gic, append), plain=plain, graphics=graphics)
    inner = Guest(
        guest_kernel, guest_memory, guest_smp, gic=guest_gic.value, transport=guest_transport.value, arguments=guest_append, protected=protected
    )
    raise typer.Exit(interactive(host, guest=inner if guest or protected else None, gdb_port=PORT if gdb else None, debug=debug))


@app.command()
def exits(
    kinds: Annotated[list[str] | None, typer.Argument(help="Kinds of exit; all where none is given.")] = None,
    kernel: Annotated[str, typer.Option(help="6.1, 6.12, a Debian package name, or a file.")] = "6.1",
    cpu: Annotated[str, typer.Option(help="QEMU's CPU model.")] = "cortex-a57",
    smp: Annotated[int, typer.Option(help="CPUs of the host, and as many of the guest.", min=1, max=8)] = 2,
    memory: Annotated[int, typer.Option(help="RAM of the host in MiB.", min=256)] = 1024,
    gic: Annotated[int, typer.Option(help="The guest's interrupt controller, 2 or 3; the host has the same.", min=2, max=3)] = 3,
    times: Annotated[int, typer.Option(help="How often each.", min=1, max=128)] = 4,
    append: Annotated[str, typer.Option(help="More of the kernel's command line.")] = "",
    plain: Annotated[bool, typer.Option("--plain", help="The same host without Delphyne, its kernel at EL2.")] = False,
    protected: Annotated[bool, typer.Option("--protected", help="The guest becomes a protected one.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds that the machine may run.")] = 240.0,
) -> None:
    """Boot a host and let a bare guest cause every kind of exit under its KVM, without and with SIMD: PASS or FAIL for each."""
    import tempfile

    from delphyne.board import host as board_host
    from delphyne.board.bare_guest import NOT_PROTECTED, smoke
    from delphyne.board.guest.build import build as build_guest
    from delphyne.board.host import Host
    from delphyne.board.qemu import Machine
    from delphyne.client.bare_guest import KINDS

    if protected and plain:
        raise UserError("plain KVM has no protected guests")
    known = [kind for kind in KINDS if not protected or kind not in NOT_PROTECTED]
    unknown = sorted(set(kinds or ()) - set(known))
    if unknown:
        raise UserError(f"there is no kind of exit {', '.join(unknown)}; there are {', '.join(known)}")
    host = Host(kernel=kernel, machine=Machine(cpu=cpu, cpus=smp, memory=memory, gic=gic), arguments=append, plain=plain)
    wanted = kinds or [kind for kind in known if smp > 1 or kind != "ipi"]
    image = BUILD / "delphyne.img" if plain else board_host.build().image
    with tempfile.TemporaryDirectory(prefix="delphyne-guest-") as folder:
        guest = build_guest(Path(folder))
        passed, done = smoke(
            host, image, guest, wanted, times=times, timeout=timeout, show=lambda text: typer.echo(text, nl=False), protected=protected
        )
    if not passed:
        raise UserError(f"not every kind passed: {done.ending.value} after {done.seconds:.0f} s {done.complaint}".rstrip())


@app.command()
def hostimage(
    flavours: Annotated[bool, typer.Option("--flavours", help="The kernels that only the nightly tests boot too: rt, cloud, 6.12-pkvm.")] = False,
) -> None:
    """Fetch from Debian, and build, all that hosts and guests are booted with: kernels, userland, QEMU, kexec, modules. Kept in build/cache."""
    from delphyne.board import debian, host_programs, host_python, kmodule, pkvm_kernel
    from delphyne.board.hostimage import build as build_userland

    for line in debian.KERNELS:
        typer.echo(os.path.relpath(debian.kernel(line)))
        for module in ("hostile", "hostile_kvm", "hostile_vcpu", "hostile_table", "guest-dma"):
            typer.echo(os.path.relpath(kmodule.build(module, line)))
    for line in debian.FLAVOURS if flavours else ():
        typer.echo(os.path.relpath(debian.kernel(line)))
    if flavours:
        typer.echo(os.path.relpath(pkvm_kernel.build()))
    host_programs.files("kexec-tools", "sbin/kexec")
    host_python.files()
    typer.echo(os.path.relpath(build_userland()))
    guestimage()


@app.command()
def guestimage() -> None:
    """Fetch from Debian, and build, what guests are booted with: the host's disk with QEMU, kernels, userlands, and the guests' own disk."""
    from delphyne.board import debian, vmm

    typer.echo(os.path.relpath(vmm.build({line: debian.kernel(line) for line in debian.KERNELS})))


@app.command("guest-module")
def guest_module(kernel: Annotated[str, typer.Option(help="The guest's kernel: 6.1, 6.12, a Debian package name, or its file.")] = "6.1") -> None:
    """Build the module by which a protected guest's virtio devices work, for a stock Debian kernel. It is loaded before virtio's own modules."""
    from delphyne.board import kmodule

    typer.echo(os.path.relpath(kmodule.build("guest-dma", kernel)))


@app.command("guest-pkvm")
def guest_pkvm(
    kernel: Annotated[str, typer.Option(help="The host's: 6.1, 6.12, a Debian package name, or a file.")] = "6.12",
    transport: Annotated[Transport, typer.Option(help="How the guest finds its virtio devices.")] = Transport.mmio,
    json: Json = False,
) -> None:
    """Build a 6.12 with mainline's pKVM guest driver of Debian's source, boot it as a protected guest without any module, and say what that shows."""
    from delphyne.board import pkvm_guest

    raise typer.Exit(0 if pkvm_guest.run(kernel, transport.value, json=json) else 1)


@app.command("guest-image")
def guest_image(
    kernel: Annotated[Path | None, typer.Option(help="The guest's vmlinuz, an arm64 Image.")] = None,
    initrd: Annotated[Path | None, typer.Option(help="Its initramfs.")] = None,
    dtb: Annotated[Path | None, typer.Option(help="QEMU's own device tree: -machine virt,..,dtb-randomness=off,dumpdtb=FILE.")] = None,
    cmdline: Annotated[str, typer.Option(help="The kernel's command line.")] = "console=ttyAMA0",
    dma_pool: Annotated[int, typer.Option(help="MiB of a restricted DMA pool, for kernels with pKVM's guest driver.", min=0)] = 0,
    output: Annotated[Path | None, typer.Option(help="The image to write.")] = None,
    show: Annotated[Path | None, typer.Option(help="Show the manifest of an image, and the launch measurement that EL2 will compute.")] = None,
    measure: Annotated[Path | None, typer.Option(help="Say that measurement of an image, and nothing else.")] = None,
    json: Json = False,
) -> None:
    """Make the image of a protected guest: one file for QEMU's -kernel, which makes itself protected and then boots a stock kernel."""
    from delphyne.board import protected_image

    if measure is not None:
        said = protected_image.measure(protected_image.manifest_of(_content(measure))).hex()
        typer.echo(f'{{"measurement": "{said}"}}' if json else said)
        return
    if show is not None:
        image = _content(show)
    else:
        if kernel is None or initrd is None or dtb is None or output is None:
            raise UserError("an image needs --kernel, --initrd, --dtb and --output; --show FILE looks at one")
        image = protected_image.build(_content(kernel), _content(initrd), _content(dtb), cmdline, dma_pool << 20)
        _write(output, image)
    typer.echo(protected_image.describe(image, as_json=json))


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as problem:
        raise UserError(f"{path}: {problem.strerror}") from None


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as problem:
        raise UserError(f"{path}: {problem.strerror}") from None


@app.command()
def gdb(
    kernel: Kernel = "6.1",
    board: BoardOption = Board.virt,
    cpu: Cpu = "cortex-a57",
    smp: Smp = 2,
    memory: Memory = 1024,
    gic: Gic = 3,
    append: Append = "",
    kernel_symbols: Annotated[bool, typer.Option("--kernel-symbols", help="Fetch the kernel's debug package (about a gigabyte).")] = False,
    alone: Annotated[bool, typer.Option("--alone", help="EL2 alone with its self-tests, without a host.")] = False,
    debug: Debug = False,
) -> None:
    """Put gdb-multiarch on a host: the one that waits (`run --gdb`, with the same kernel and board), or one that is started here, stopped."""
    from delphyne.board import debugger
    from delphyne.board.demo import gdb_demo

    if alone:
        raise typer.Exit(gdb_demo(BUILD))
    host = _host(kernel, board, cpu, smp, memory, gic, append)
    raise typer.Exit(debugger.gdb(host, fetch_symbols=kernel_symbols, debug=debug))


@app.command()
def profile(kernel: Annotated[Path, typer.Argument(help="An arm64 vmlinuz.")], json: Json = False) -> None:
    """Say what EL2 will find in a kernel: layouts and call numbers, or why it cannot be served."""
    from delphyne.kernel.profile import main as run_profile

    raise typer.Exit(run_profile([str(kernel), *(["--json"] if json else [])]))


@app.command()
def explain(code: Annotated[str, typer.Argument(help="A number such as E0201.")]) -> None:
    """Say what a refusal means, why it is refused and what to write instead."""
    from delphyne.compiler.front import explain as explain_code

    text = explain_code(code.upper())
    if text is None:
        raise UserError(f"there is no refusal {code}; `delphyne check` prints the numbers that exist")
    typer.echo(text)


@app.command()
def prove(
    names: Annotated[list[str] | None, typer.Argument(help="Theorems or subjects; all where none is given.")] = None,
    mutants: Annotated[bool, typer.Option("--mutants", help="Also generate mutants and count the killed.")] = False,
    json: Json = False,
) -> None:
    """Prove the stated theorems of the files that run at EL2."""
    from delphyne import prove as room

    raise typer.Exit(room.run(names or None, json=json, mutants=mutants))


@app.command()
def fuzz(
    count: Annotated[int, typer.Option(min=1, help="Programs.")] = 500,
    seed: Annotated[int, typer.Option(help="The same seed makes the same programs.")] = 1,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
) -> None:
    """Run generated programs in every way there is and compare."""
    from delphyne.fuzz.__main__ import main as run_fuzz

    raise typer.Exit(run_fuzz(["--count", str(count), "--seed", str(seed), "--jobs", str(jobs)]))


@app.command()
def attack(
    only_list: Annotated[bool, typer.Option("--list", help="Only say which lines there are and what is known of them.")] = False,
    json: Json = False,
) -> None:
    """Attack EL2 from a hostile host, line by line of the catalogue."""
    from delphyne.board import attacks

    cases = attacks.count_cases(ROOT)
    rows = [attack.as_json(cases) for attack in attacks.CATALOGUE]
    if json:
        import json as json_module

        typer.echo(json_module.dumps({"rows": rows}, indent=2))
    else:
        for row in rows:
            typer.echo(f"{row['line']:<4} {row['verdict']:<16} {row['cases']:>4} cases  {row['what']}")
    if only_list:
        return
    import subprocess

    command = [sys.executable, "-m", "pytest", *attacks.files()]
    raise typer.Exit(subprocess.run(command, cwd=ROOT, check=False, stdout=sys.stderr if json else None).returncode)


@bench_app.command("language")
def bench_language(json: Json = False) -> None:
    """Instruction counts of compiled typed Python against C, with and without its checks, and the cost of the tools."""
    from delphyne.bench.language import run as run_bench

    rows = run_bench(json=json)
    raise typer.Exit(0 if all(row["ok"] for row in rows) else 1)


@bench_app.command("boot")
def bench_boot(json: Json = False) -> None:
    """Exact instruction counts of a host's boot above EL2, against the same kernel alone, and what EL2 takes."""
    from delphyne.bench.boot import run as run_bench

    rows = run_bench(json=json)
    raise typer.Exit(0 if all(row["ok"] for row in rows) else 1)


@bench_app.command("kvm")
def bench_kvm(
    kinds: Annotated[list[str] | None, typer.Argument(help="Kinds of exit; all where none is given.")] = None,
    kernel: Annotated[str, typer.Option(help="6.1, 6.12, a Debian package name, or a file.")] = "6.1",
    cpu: Annotated[str, typer.Option(help="QEMU's CPU model.")] = "cortex-a57",
    functions: Annotated[bool, typer.Option("--functions", help="Also show which functions of EL2 took how much.")] = False,
    protected: Annotated[bool, typer.Option("--protected", help="A protected guest above Delphyne; and its pages' way out and back.")] = False,
    json: Json = False,
) -> None:
    """Exact instruction counts of each kind of exit under KVM, above Delphyne against the same kernel alone."""
    from delphyne.bench import kvm
    from delphyne.bench import protected as protected_guest

    known = protected_guest.KINDS if protected else kvm.KINDS
    unknown = sorted(set(kinds or ()) - set(known))
    if unknown:
        raise UserError(f"there is no kind of exit {', '.join(unknown)}; there are {', '.join(known)}")
    measured = protected_guest.run if protected else kvm.run
    raise typer.Exit(0 if measured(kernel, cpu, kinds, json=json, by_function=functions) else 1)


@bench_app.command("guest")
def bench_guest(
    kernel: Annotated[str, typer.Option(help="The host's: 6.1, 6.12, a Debian package name, or a file.")] = "6.1",
    guest_kernel: Annotated[str, typer.Option(help="The guest's.")] = "6.1",
    cpu: Annotated[str, typer.Option(help="QEMU's CPU model.")] = "cortex-a57",
    protected: Annotated[bool, typer.Option("--protected", help="A protected guest above Delphyne, from its kernel's first line on.")] = False,
    json: Json = False,
) -> None:
    """Exact instruction counts of a stock guest's boot to its login, all levels, above Delphyne against the same host alone."""
    from delphyne.bench import guest_boot

    raise typer.Exit(0 if guest_boot.run(kernel, guest_kernel, cpu, protected=protected, json=json) else 1)


@bench_app.command("virtio")
def bench_virtio(
    kernel: Annotated[str, typer.Option(help="The host's: 6.1, 6.12, a Debian package name, or a file.")] = "6.1",
    guest_kernel: Annotated[str, typer.Option(help="The guest's.")] = "6.1",
    cpu: Annotated[str, typer.Option(help="QEMU's CPU model.")] = "cortex-a57",
    json: Json = False,
) -> None:
    """Exact instruction counts of a MiB through a protected guest's virtio disk and network, against an ordinary guest that copies too."""
    from delphyne.bench import virtio

    raise typer.Exit(0 if virtio.run(kernel, guest_kernel, cpu, json=json) else 1)


@bench_app.command("dm-crypt")
def bench_dm_crypt(
    kernel: Annotated[str, typer.Option(help="6.1, 6.12, a Debian package name, or a file of one.")] = "6.1",
    cpu: Annotated[str, typer.Option(help="QEMU's CPU model.")] = "cortex-a57",
    json: Json = False,
) -> None:
    """Exact instruction counts of a page's export and import at EL2, against the kernel's dm-crypt with authentication."""
    from delphyne.bench import dm_crypt

    raise typer.Exit(0 if dm_crypt.run(kernel, cpu, json=json) else 1)


@bench_app.command("stays")
def bench_stays(
    script: Annotated[Path | None, typer.Option(help="A shell script for the host; the bare guest's exits where none is given.")] = None,
    times: Annotated[int, typer.Option(help="How often each kind of exit.", min=1, max=128)] = 64,
    kernel: Annotated[str, typer.Option(help="6.1, 6.12, a Debian package name, or a file.")] = "6.1",
    cpu: Annotated[str, typer.Option(help="QEMU's CPU model.")] = "cortex-a57",
    protected: Annotated[bool, typer.Option("--protected", help="The bare guest is a protected one, and its pages go out and come back.")] = False,
    general_registers: Annotated[
        bool, typer.Option("--general-registers", help="EL2 does without the crypto extensions, as on a processor that has none.")
    ] = False,
    inside: Annotated[bool, typer.Option("--inside", help="EL2 measures itself, nearly at full speed, and says how the longest began.")] = False,
    guests: Annotated[int, typer.Option(help="How many bare guests at once, with two CPUs for each.", min=1, max=4)] = 1,
    json: Json = False,
) -> None:
    """Say how many instructions a CPU stays at EL2, interrupts masked, at most, and in which functions."""
    from delphyne.bench import stays, stays_inside

    if script is not None and not script.is_file():
        raise UserError(f"{script}: no such file")
    if inside and guests != 1:
        raise UserError("--inside measures one CPU: --guests is not for it")
    if inside:
        short = stays_inside.run(kernel, cpu, script=script, times=times, is_protected=protected, general_registers=general_registers, json=json)
    else:
        short = stays.run(
            kernel, cpu, script=script, times=times, is_protected=protected, general_registers=general_registers, guests=guests, json=json
        )  # fmt: skip
    raise typer.Exit(0 if short else 1)


@app.command("soak")
def run_soak(
    count: Annotated[int, typer.Option(help="How often a page is to be exported.", min=1)] = 1_000_000,
    seed: Annotated[int, typer.Option(help="Of what is taken, and how.")] = 1,
    kernel: Annotated[str, typer.Option(help="6.1, 6.12, a Debian package name, or a file.")] = "6.1",
    json: Json = False,
) -> None:
    """Take a protected guest's pages away at random, by touch, unmapping and swap, while it compares every byte of them."""
    from delphyne.board import soak

    raise typer.Exit(0 if soak.soak(kernel, seed, count, json=json) else 1)


@app.command("test")
def run_tests(
    nightly: Annotated[bool, typer.Option("--nightly", help="Everything, for hours.")] = False,
    stage: Annotated[list[str] | None, typer.Option(help="Only the stages whose names contain this; may be given several times.")] = None,
) -> None:
    """Run the rings of tests, the quick ones first."""
    from delphyne.stages import NIGHTLY, QUICK, StageError, chosen, run_stages

    try:
        stages = chosen(NIGHTLY if nightly else QUICK, stage or [])
    except StageError as error:
        raise UserError(str(error)) from None
    raise typer.Exit(run_stages(stages))


def _user_errors() -> tuple[type[Exception], ...]:
    """What the rooms raise for people. Imported late: `check` needs none of the compiler."""
    from delphyne.bench.trace import TraceError
    from delphyne.board.bare.bare import BareError
    from delphyne.board.debian import PackageError
    from delphyne.board.qemu import BoardError
    from delphyne.compiler.back.errors import BackError
    from delphyne.compiler.front import Refused
    from delphyne.kernel.profile import ProfileError

    return (PackageError, BoardError, BareError, BackError, Refused, ProfileError, TraceError)


def main() -> None:
    """Entry of the console script."""
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    try:
        app()
    except UserError as error:
        typer.echo(f"delphyne: {error}", err=True)
        raise SystemExit(1) from None
    except _user_errors() as error:
        typer.echo(f"delphyne: {error}", err=True)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
