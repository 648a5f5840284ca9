# SPDX-License-Identifier: Apache-2.0
"""A hostile root against the pages of protected guests: what it touches, alters, exchanges, brings back, writes while EL2 takes it, and takes again
and again (delphyne/client/hostile_touch.py, hostile_pages.py, hostile_means.py; modules/hostile for what the kernel does). Catalogue lines H9, H14,
H18 to H21, H23, H27, G0 and G5.

One boot of a host for all tests of a kernel. Each of its guests finds what it had, or is stopped and stays so; that is seen in the guest, in what its
VMM is told, and in what EL2 logs.
"""

from __future__ import annotations

import re

import pytest
from hostile_kvm import TROUBLE

from delphyne.board import bare_guest, host, host_python, kmodule, qemu
from delphyne.board.guest import build as guest_build
from delphyne.client.hostile_means import COUNTING
from delphyne.client.hostile_touch import KERNEL_READS, KERNEL_WRITES, READS, WRITES
from delphyne.compiler.back.image import Built
from delphyne.el2.arch.err import Err

pytestmark = pytest.mark.system

GUESTS = {"6.1": 4, "6.12": 20}
"""Guests for each kind of scribble, by kernel: the second one runs at night."""
TAKEN = {"6.1": 125, "6.12": 1000}
"""How often eight pages are taken."""
FORGERIES = ("bit", "last-bit", "zeroes", "exchanged", "older", "of-another-vm", "clean", "tree", "code")
WELL = "take-4kx4"
STOPPED = re.compile(r"protected guest (\d+) is stopped: its page (0x[0-9a-f]+) cannot come back \((\d+)\)")


@pytest.fixture(scope="module", params=["6.1", pytest.param("6.12", marks=pytest.mark.slow)])
def console(built: Built, guest: guest_build.Guest, request: pytest.FixtureRequest) -> str:
    """What a host said that attacked its guests in all these ways; afterwards a guest whose VMM behaves is well, and so is the host."""
    kernel = request.param
    image = f"/{bare_guest.IMAGE}"
    runs = [
        host_python.command("hostile_touch", image, "3"),
        host_python.command("hostile_means", image, "3"),
        host_python.command("hostile_pages", "forge", image, "3"),
        host_python.command("hostile_pages", "scribble", image, "3", str(GUESTS[kernel])),
        host_python.command("hostile_pages", "often", image, "3", str(TAKEN[kernel])),
        host_python.command("bare_guest", "--protected", image, "2", "3", WELL),
    ]
    machine = qemu.Machine(cpu="cortex-a57" if kernel == "6.1" else "max", cpus=2, memory=1024)
    files = (("hostile.ko", kmodule.build("hostile", kernel).read_bytes()),)
    script = f"{bare_guest.NO_POLLING}insmod /hostile.ko\n{chr(10).join(runs)}\ndmesg\n"
    done = host.run(
        bare_guest.prepared(host.Host(kernel=kernel, machine=machine, files=files), guest, script, protected=True), built.image, timeout=300.0
    )
    assert done.ending is qemu.Ending.OFF, f"{done.ending.value}\n{done.console[-20000:]}\n{done.complaint}"
    assert f"bare guest: 0{bare_guest.END}" in done.console, done.console[-20000:]
    for word in TROUBLE:
        assert word not in done.console, f"{word}\n{done.console[-20000:]}"
    return done.console


def said(console: str, what: str) -> str:
    """What was said of one attack."""
    lines = re.findall(rf"^hostile {re.escape(what)} (.*?)\r?$", console, re.MULTILINE)
    assert len(lines) == 1, f"{what}: {lines}\n{console[-20000:]}"
    return str(lines[0])


def numbers(text: str) -> dict[str, int]:
    return {name: int(x) for name, x in re.findall(r"(\S+) (\d+)", text)}


def test_whatever_only_reads_gets_ciphertext_and_costs_the_guest_nothing(console: str) -> None:
    """H14: by EL0's loads, over a page's end, by a fetch, by the kernel for it and by the kernel's own instructions and tables."""
    ways = len(READS) + len(KERNEL_READS) + 2
    assert said(console, "touch: reads") == f"passed ways {ways} shown 0 plaintext 0"


def test_whatever_writes_stops_the_guest(console: str) -> None:
    """H14 and H18: and that guest alone, which no try of its VMM's brings back."""
    for name in (*(f"el0-{way}" for way in WRITES), "el0-system-call", *(f"el1-{way}" for way in KERNEL_WRITES)):
        assert said(console, f"touch: {name}") == "stopped stays 1", name


def test_what_comes_back_altered_exchanged_old_or_from_another_guest_stops_the_guest(console: str) -> None:
    """H18, H19 and H21; the log has the guest and its page."""
    for name in FORGERIES:
        assert said(console, f"pages: forge {name}") == "stopped stays 1 failures 0", name
    writing = len(WRITES) + 1 + len(KERNEL_WRITES)
    pages = [(guest, page) for guest, page, why in STOPPED.findall(console) if int(why) == Err.INTEGRITY.raw]
    assert len({guest for guest, _ in pages}) >= len(FORGERIES) + writing, pages
    assert {"0x8c005000", "0x400fe000", "0x400ff000"} <= {page for _, page in pages}, pages


def test_what_the_host_writes_meanwhile_is_verified_or_comes_too_late(console: str) -> None:
    """H9: no guest has found a byte of the host's."""
    for name in ("given", "brought", "measured"):
        seen = numbers(said(console, f"pages: scribble {name}"))
        assert seen["wrong"] == 0, f"{name}: {seen}\n{console[-20000:]}"
        assert seen["writes"] > 100, f"{name}: {seen}"
    assert numbers(said(console, "pages: scribble brought"))["stopped"] > 0, "nobody wrote in time"


def test_pages_of_one_content_never_look_alike(console: str) -> None:
    """H20: a thousand exports of one content, and of each page as often as it was taken."""
    seen = said(console, "pages: often")
    assert seen.startswith("passed "), seen
    assert numbers(seen.removeprefix("passed "))["pages"] >= 1000, seen
    assert numbers(seen.removeprefix("passed "))["repeated"] == 0, seen


def test_a_guest_goes_on_when_its_memory_was_read_only_for_a_while(console: str) -> None:
    """H19: nothing leaves in clear because of that."""
    assert said(console, "means: read-only") == "passed refusals 1 plaintext 0"


def test_a_clean_page_comes_back_as_one_that_may_only_be_read(console: str) -> None:
    """H19."""
    assert said(console, "means: clean") == "passed"


def test_no_counter_goes_back(console: str) -> None:
    """H27."""
    seen = said(console, "means: counter")
    assert seen.startswith("passed "), seen
    assert numbers(seen.removeprefix("passed "))["moves"] > 64, seen


def test_a_page_that_was_given_up_may_be_lost_and_no_other(console: str) -> None:
    """G0: a balloon, and free page reporting, with RELINQUISH and without."""
    assert said(console, "means: balloon") == "passed zero 4 lost stopped stays 1"


def test_no_page_of_a_guests_is_merged(console: str) -> None:
    """H23: the kernel merges pages of one content while they are the VMM's; of those that the guest has since taken, none, though all hold that."""
    assert said(console, "means: merge") == "passed merged 768 512 512"


def test_exclusives_on_a_page_that_comes_and_goes(console: str) -> None:
    """G5: no addition is lost."""
    seen = said(console, "means: exclusive")
    assert seen.startswith("passed "), seen
    assert numbers(seen.removeprefix("passed "))["exports"] >= COUNTING, seen
