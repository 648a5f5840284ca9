# SPDX-License-Identifier: Apache-2.0
"""What `make run` shows of a protected guest, before its console is the user's.

The guest fills 4 MiB of its memory with a text that stands nowhere else, not even in its image. Root on the host looks for that text in all memory of
the guest's QEMU, shows what it finds where the guest's memory is, and then pushes the guest out to swap. The guest looks at its text again.

Two programs, one in the guest's initramfs and one on the host. They go on by what each sees on the guest's console, whose log QEMU keeps in a file.
"""

from __future__ import annotations

import shlex
from dataclasses import replace

from delphyne.board import host_python, vmm
from delphyne.board.guestimage import HOLDS, SECRET_WORD, WHOLE
from delphyne.board.qemu import VIRT_IMAGE_BASE
from delphyne.board.vmm import Guest

CONSOLE_LOG = "/tmp/guest.console"
CONSOLE_PORT = vmm.CONSOLE_PORT
GROUPS = "/sys/fs/cgroup"
KERNEL_OFFSET = (VIRT_IMAGE_BASE - 0x4000_0000) + (3 << 20)
"""Bytes from the start of a guest's RAM: 1 MiB into its kernel."""
TEXT = "this is a secret of the guest's, line"

LOOK = f"""#!/bin/sh
# look: counts the guest's text in all memory of its QEMU that can be written, as root sees it
{host_python.command("look", "$(cat /tmp/guest.pid)", shlex.quote(TEXT), hex(KERNEL_OFFSET))}
"""

PUSH = f"""#!/bin/sh
# push: reclaims the memory of the guest's QEMU to zram
before=$(sed -n 's/^pswpout //p' /proc/vmstat)
for i in 1 2 3; do echo 64M > {GROUPS}/guest/memory.reclaim 2>/dev/null; done
echo "The host pushed $(($(sed -n 's/^pswpout //p' /proc/vmstat) - before)) pages out to swap."
"""


def programs(guest: Guest, *, terminal: bool) -> tuple[tuple[str, bytes], ...]:
    """The host's programs `guest`, `look` (with Debian's Python) and `push` for this protected guest, whose image was made with `shown`."""
    line = vmm.command(guest, disk_file="/tmp/disk", console="chardev:console")
    socket = f"socket,id=console,host=127.0.0.1,port={CONSOLE_PORT},telnet=on,server=on,wait=off,logfile={CONSOLE_LOG}"
    ending = _AT_A_TERMINAL if terminal else _ALONE
    start = f"""#!/bin/sh
await() {{
    until grep -q -a "$1" {CONSOLE_LOG} 2>/dev/null; do
        kill -0 $(cat /tmp/guest.pid 2>/dev/null) 2>/dev/null || {{ cat /tmp/guest.log; exit 1; }}
        usleep 300000
    done
}}
if ! {{ pid=$(cat /tmp/guest.pid 2>/dev/null) && kill -0 "$pid" 2>/dev/null; }}; then
    if ! [ -d {GROUPS}/guest ]; then
        echo 512M > /sys/block/zram0/disksize && mkswap /dev/zram0 >/dev/null && swapon /dev/zram0
        mount -t cgroup2 cgroup2 {GROUPS} && echo +memory > {GROUPS}/cgroup.subtree_control && mkdir {GROUPS}/guest
    fi
    cp {vmm.DISK} /tmp/disk
    rm -f /tmp/guest.pid {CONSOLE_LOG}
    echo 'A protected guest boots: its image is measured, and then the host sees nothing of it any more.'
    sh -c 'echo $$ > {GROUPS}/guest/cgroup.procs; exec "$@"' start setsid {shlex.join(line)} -chardev {socket} -pidfile /tmp/guest.pid \\
        </dev/null >/tmp/guest.log 2>&1 &
    until [ -s /tmp/guest.pid ]; do usleep 100000; done
    await '{HOLDS}'
    echo '{HOLDS}'
    look
    push
    {{ echo; sleep 2; }} | nc 127.0.0.1 {CONSOLE_PORT} >/dev/null 2>&1
    await "{WHOLE}"
    echo "{WHOLE}"
fi
{ending}"""
    return (("bin/guest", start.encode()), ("bin/look", LOOK.encode()), ("bin/push", PUSH.encode()), *host_python.files())


_AT_A_TERMINAL = f"""echo 'This is its console. Ctrl-] and then e leaves it for the shell of the host; `look` and `push` are there.'
{{ echo; }} | nc -w 1 127.0.0.1 {CONSOLE_PORT} >/dev/null 2>&1
telnet 127.0.0.1 {CONSOLE_PORT}
cat /tmp/guest.log
echo
echo 'This is the shell of the host. `guest` enters the guest (and starts it where it does not run); `poweroff -f` ends the machine.'
"""

_ALONE = """while kill -0 $(cat /tmp/guest.pid 2>/dev/null) 2>/dev/null; do
    usleep 300000
done
cat /tmp/guest.console
cat /tmp/guest.log
echo 'The guest has ended. This is the host:'
"""


def shown(guest: Guest, *, terminal: bool) -> Guest:
    """The guest with the words on its command line that make it take part, and, where nobody is there to type, report and turn itself off."""
    words = f"quiet {guest.arguments} {SECRET_WORD}{'' if terminal else ' delphyne.report'}"
    return replace(guest, arguments=" ".join(words.split()), extra=guest.extra if terminal else (*guest.extra, "-no-reboot"))
