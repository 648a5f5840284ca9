# SPDX-License-Identifier: Apache-2.0
"""A host with guests, driven from here: its shell by the serial port, and for each guest its shell, QEMU's QMP and its gdb stub by TCP.

The host's QEMU forwards loopback ports of this machine to the host, where the guests' QEMU listens; nothing else of the network is reached. A shell
is left without echo, prompt and line editing: a command's output and its exit code are all that comes back. Whatever fails carries the consoles.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import re
import shlex
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pexpect
import pexpect.fdpexpect
from gdb_remote import Stub
from qemu.qmp.legacy import QEMUMonitorProtocol

from delphyne.board import host as host_room
from delphyne.board import host_python, qemu, vmm
from delphyne.board.vmm import Guest

GUESTS = 2
CONSOLE, QMP, GDB = 4001, 4101, 4201
"""First of the host's TCP ports for guests: guest N has the port plus N."""
BOOT = 180.0
"""Seconds of real time for a boot. This limit and those of commands are for a quiet machine, and `qemu.BUSY` times as long in fact."""

TROUBLE = (
    "WARNING: |BUG: |Oops|Internal error|Unable to handle|Call trace:|Kernel panic|SError|self-detected stall|detected stalls|soft lockup"
    "|blocked for more|Bad mode|list_(add|del) corruption|allocation failure"
    "|[Uu]nhandled .*(fault|exit)|kvm.*([Ff]ailed|error|[Uu]nsupported)|I/O error|unexpected"
)
"""Lines of a kernel's log that plain KVM does not give in any of these tests (an extended regular expression)."""
LOOKED = re.compile(r"The host's root looked through (\d+) MiB of the guest's QEMU and found the secret (\d+) times\.")
"""What `client/look.py` says."""


class Trouble(Exception):
    """A command that failed or did not end, or a machine that did not come."""


class Shell:
    """A busybox shell at the end of a stream of bytes. `log` is all that came from it."""

    def __init__(self, stream: pexpect.spawnbase.SpawnBase, name: str) -> None:
        self.name = name
        self.log = io.StringIO()
        stream.logfile_read = self.log
        self._stream = stream
        self._numbers = itertools.count(1)

    def wait_for(self, text: str, timeout: float = BOOT) -> None:
        """Until `text` has come."""
        try:
            self._stream.expect_exact(text, timeout=qemu.BUSY * timeout)
        except (pexpect.TIMEOUT, pexpect.EOF) as problem:
            raise Trouble(f"{self.name}: no '{text}' ({type(problem).__name__}, {qemu.BUSY * timeout:.0f} s)") from None

    def take(self) -> None:
        """After the first prompt: make the shell one for programs, and keep the kernel's log off the console."""
        self._stream.sendline("stty -echo; exec sh /proc/self/fd/0")
        self.run("dmesg -n 1")

    def start(self, command: str) -> int:
        """Say `command` and do not wait; `finish` does. No shell answers anything else meanwhile."""
        number = next(self._numbers)
        self._stream.sendline(f"{{ {command}\n}}; printf '\\n@%s@%d@\\n' {number} $?")
        return number

    def finish(self, number: int, timeout: float = 60.0, *, check: bool = True) -> str:
        """The output of command `number`; with `check`, an exit code that is not 0 raises Trouble."""
        try:
            # EL2 may say something on the same console just before it, and then it begins no line.
            self._stream.expect(rf"[\r\n]*@{number}@(\d+)@\r*\n", timeout=qemu.BUSY * timeout)
        except (pexpect.TIMEOUT, pexpect.EOF) as problem:
            raise Trouble(f"{self.name}: command {number} did not end ({type(problem).__name__}, {qemu.BUSY * timeout:.0f} s)") from None
        output = self._stream.before.replace("\r", "")
        code = int(self._stream.match[1])
        if check and code:
            raise Trouble(f"{self.name}: command {number} ended with {code}: {output.strip()}")
        return output.strip()

    def go_on(self, other: Shell) -> None:
        """Be the shell that `other` was, whose machine has moved: what was started there ends here."""
        self._numbers = other._numbers

    def run(self, command: str, timeout: float = 60.0, *, check: bool = True) -> str:
        """The output of `command`."""
        return self.finish(self.start(command), timeout, check=check)

    def trouble(self) -> list[str]:
        """What the kernel's log says that plain KVM would not. Looked for over there: a guest's console is slow."""
        found = self.run(f"dmesg | grep -E '{TROUBLE}' | grep -v 'Command line:'", check=False)
        return found.splitlines()


class RunningGuest:
    """A guest whose QEMU was started in the host."""

    def __init__(self, host: HostSession, number: int, guest: Guest) -> None:
        self.host, self.number, self.guest = host, number, guest
        self._socket = host.connect(CONSOLE + number)
        self._socket.setblocking(True)
        stream = pexpect.fdpexpect.fdspawn(self._socket, encoding="utf-8", codec_errors="replace")
        self.shell = Shell(stream, f"guest {number}")
        self.monitor = QEMUMonitorProtocol(host.connect(QMP + number))
        self.monitor.connect(negotiate=True)

    def qmp(self, command: str, **arguments: object) -> object:
        """QEMU's answer to a command of its monitor; an error raises."""
        return self.monitor.cmd(command, **arguments)

    def boot(self, timeout: float = BOOT) -> None:
        """Let the stopped machine run, to its login shell."""
        self.qmp("cont")
        self.wait_for_login(timeout)

    def wait_for_login(self, timeout: float = BOOT) -> None:
        """Until the guest's kernel is up, then take its shell."""
        self.shell.wait_for("as a guest of KVM", timeout)
        self.shell.wait_for("# ")
        self.shell.take()

    def run(self, command: str, timeout: float = 60.0) -> str:
        """A command in the guest."""
        return self.shell.run(command, timeout)

    def stub(self) -> Stub:
        """QEMU's gdb stub."""
        return Stub(self.host.connect(GDB + self.number))

    def end(self) -> None:
        """End its QEMU, and wait until the host has taken all of it back."""
        self.close()
        self.host.end_guest(self.number)

    def close(self) -> None:
        """Leave the connections; the guest runs on."""
        with contextlib.suppress(Exception):  # the other side may be gone already
            self.monitor.close()
        self._socket.close()


class HostSession:
    """A booted host and its guests."""

    def __init__(self, stream: pexpect.spawn, ports: dict[int, int]) -> None:
        self._ports = ports
        self.shell = Shell(stream, "host")
        self.guests: list[RunningGuest] = []

    def connect(self, port: int) -> socket.socket:
        """A connection to a TCP port of the host, on which somebody has to listen already."""
        return socket.create_connection(("127.0.0.1", self._ports[port]), timeout=60)

    def run(self, command: str, timeout: float = 60.0) -> str:
        """A command in the host."""
        return self.shell.run(command, timeout)

    def start_guest(self, guest: Guest, number: int = 0, *, own_disk: bool = True) -> RunningGuest:
        """Start a guest's QEMU with its machine stopped. Without `own_disk` it goes on with the disk of the last guest of this number."""
        disk = f"/tmp/disk{number}"
        if own_disk:
            self.run(f"cp {vmm.DISK} {disk}")
        ports = ("-qmp", f"tcp:0.0.0.0:{QMP + number},server=on,wait=off", "-gdb", f"tcp:0.0.0.0:{GDB + number}")
        console = f"tcp:0.0.0.0:{CONSOLE + number},server=on,wait=off"
        line = vmm.command(replace(guest, extra=(*guest.extra, *ports)), disk_file=disk, console=console)
        self.run(f"rm -f /tmp/guest{number}.pid; {shlex.join(line)} -S -daemonize -pidfile /tmp/guest{number}.pid", timeout=BOOT)
        running = RunningGuest(self, number, guest)
        self.guests.append(running)
        return running

    def boot_guest(self, guest: Guest, number: int = 0) -> RunningGuest:
        """Start a guest, up to its shell."""
        running = self.start_guest(replace(guest, arguments=f"quiet {guest.arguments}".strip()), number)
        running.boot()
        return running

    def end_guest(self, number: int, signal: str = "KILL") -> None:
        """End the QEMU of guest `number` by a signal, and wait until its process is gone."""
        pid = f"/tmp/guest{number}.pid"
        self.run(f"kill -{signal} $(cat {pid}) && while kill -0 $(cat {pid}) 2>/dev/null; do usleep 100000; done; rm {pid}", timeout=BOOT)

    def consoles(self) -> str:
        """All that was said, for who has to find out what went wrong."""
        shells = [self.shell, *(guest.shell for guest in self.guests)]
        return "\n".join(f"--- console of {shell.name} ---\n{shell.log.getvalue()}" for shell in shells).replace("\r", "")


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextlib.contextmanager
def session(
    host: host_room.Host, image: Path, *, kernels: tuple[str, ...] = ("6.1", "6.12"), protected: tuple[Guest, ...] = ()
) -> Iterator[HostSession]:
    """The host, booted to its shell; it is ended afterwards however that goes. All hosts have the same disk with both kernels for guests, but those
    that have images of protected ones."""
    far = [base + number for base in (CONSOLE, QMP, GDB) for number in range(GUESTS)]
    ports = dict(zip(far, _free_ports(len(far)), strict=True))
    host = replace(host, guest_kernels=kernels, protected=protected, forwards=tuple((near, port) for port, near in ports.items()))
    line = host_room.command(host, image)
    stream = pexpect.spawn(line[0], line[1:], timeout=60, encoding="utf-8", codec_errors="replace", echo=False)
    running = HostSession(stream, ports)
    try:
        running.shell.wait_for("The shell is yours")
        running.shell.wait_for("# ")
        running.shell.take()
        yield running
    except BaseException as problem:
        problem.add_note(running.consoles())
        raise
    finally:
        for guest in running.guests:
            guest.close()
        stream.close(force=True)


def look_for(host: HostSession, text: str, number: int = 0) -> tuple[int, int]:
    """How often root finds `text` in the memory of a guest's QEMU, and in how many MiB it looked. The host has `host_python.files()`."""
    said = host.run(host_python.command("look", f"$(cat /tmp/guest{number}.pid)", text), 400.0)
    found = LOOKED.fullmatch(said)
    assert found is not None, said
    return int(found[2]), int(found[1])


def goes_off(host: HostSession, guest: RunningGuest) -> None:
    """The guest turns itself off; its QEMU, which was told so, stays, and with it the memory that was the guest's."""
    guest.shell.start("poweroff -f")
    has_gone_off(host, guest)


def has_gone_off(host: HostSession, guest: RunningGuest) -> None:
    """Until that has happened, within a minute."""
    for _ in range(600):
        status = guest.qmp("query-status")
        assert isinstance(status, dict)
        if status["status"] == "shutdown":
            return
        host.run("usleep 100000")
    raise AssertionError(f"the guest is {status}")


def machine(cpu: str = "cortex-a57", cpus: int = 2, memory: int = 2048, gic: int = 3) -> qemu.Machine:
    """A machine for a host with guests."""
    return qemu.Machine(cpu=cpu, cpus=cpus, memory=memory, gic=gic)
