# SPDX-License-Identifier: Apache-2.0
"""What a protected guest leaves behind when it ends by its own doing, and what it is afterwards. Catalogue line G0, without a kexec from inside."""

from __future__ import annotations

from dataclasses import replace

import pytest
from guest_session import RunningGuest, goes_off, look_for, machine, session

from delphyne.board import host_python
from delphyne.board.host import Host
from delphyne.board.vmm import Guest
from delphyne.compiler.back.image import Built

pytestmark = pytest.mark.system

RAM_MIB = 128
FIRST, SECOND = "of-the-first-life", "of-the-second-life"
"""Secrets; the guest gets each in two halves, so that no command line holds it."""


def keep(guest: RunningGuest, secret: str) -> None:
    """The guest has the secret in its memory from here on, many times."""
    guest.run(f"for n in $(seq 2000); do echo {secret[:6]}{secret[6:]}; done > /tmp/secrets")
    assert guest.run(f"grep -c {secret[:6]}.*{secret[6:]} /tmp/secrets") == "2000"


def test_a_guest_that_begins_itself_anew_is_protected_again_and_one_that_goes_off_leaves_nothing(built: Built) -> None:
    """G0: SYSTEM_RESET, SYSTEM_OFF; and no stolen time, of which a host could tell a guest by memory that both reach."""
    shape = Guest("6.1", RAM_MIB, 1, arguments="quiet", protected=True)
    with session(
        Host(kernel="6.1", machine=machine(), files=host_python.files()), built.image, kernels=("6.1",), protected=(shape,)
    ) as host:
        guest = host.start_guest(replace(shape, extra=("-no-shutdown",)))
        guest.boot()
        keep(guest, FIRST)
        guest.shell.start("reboot -f")
        guest.wait_for_login()
        assert guest.run("ls /tmp") == ""
        assert look_for(host, FIRST)[0] == 0
        keep(guest, SECOND)
        assert guest.run("dmesg | grep -ci stolen || true") == "0"
        hits, looked = look_for(host, SECOND)
        assert hits == 0
        assert looked >= RAM_MIB
        assert guest.run("self-check 4 256 2", 240.0).endswith("0 bad")
        assert guest.shell.trouble() == []
        goes_off(host, guest)
        assert look_for(host, FIRST)[0] == 0
        hits, looked = look_for(host, SECOND)
        assert hits == 0
        assert looked >= RAM_MIB
        guest.end()
        assert host.shell.trouble() == []
