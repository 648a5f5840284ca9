# SPDX-License-Identifier: Apache-2.0
"""The host's userland: a small Debian one as an initramfs, built of Debian packages without root.

Its `/init` mounts what a shell needs, reads `/setup.sh` where the image has one (what loads modules and mounts disks), and then either runs the
commands of the kernel parameter `delphyne.run=` (a file name in the image) and powers off, or gives a shell, after `/start.sh` where there is one,
on a display too where there is one.
"""

from __future__ import annotations

from pathlib import Path

from delphyne.board.debian import CACHE, AptRoot
from delphyne.board.userland import MOUNTS, initramfs

SETUP = "setup.sh"
"""Read by `/init` before anything else runs."""
START = "start.sh"
"""Run on the console before the shell is given."""

INIT = f"""{MOUNTS}hostname delphyne
[ -f /{SETUP} ] && . /{SETUP}
script=$(sed -n 's/.*delphyne\\.run=\\([^ ]*\\).*/\\1/p' /proc/cmdline)
if [ -n "$script" ]; then
    sh "$script"
    poweroff -f
fi
[ -e /dev/fb0 ] && (while :; do setsid -c sh </dev/tty1 >/dev/tty1 2>&1; done) &
echo 'A stock Debian kernel above Delphyne. The shell is yours; `poweroff -f` ends the machine.'
exec setsid -c sh -c '[ -f /{START} ] && . /{START}; exec sh'
"""


def build(
    scripts: dict[str, str] | None = None, *, files: dict[str, bytes] | None = None, folder: Path = CACHE, apt: AptRoot | None = None
) -> Path:
    """The initramfs with `scripts` (path in the image -> text) and `files` (path -> content) added; made once for the same content."""
    return initramfs("host", INIT, {path: text.encode() for path, text in (scripts or {}).items()} | (files or {}), folder=folder, apt=apt)
