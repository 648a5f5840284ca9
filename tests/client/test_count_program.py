# SPDX-License-Identifier: Apache-2.0
"""The program that counts instructions of the whole machine: what it asks the kernel for. That its counts are right is seen by tests/system."""

from __future__ import annotations

import os
import struct

import pytest

from delphyne.client import count


def test_the_attribute_is_that_of_the_first_version() -> None:
    assert struct.calcsize(count.ATTRIBUTE) == 64


def test_levels_exclude_one_another() -> None:
    every = count.EXCLUDE_USER | count.EXCLUDE_KERNEL | count.EXCLUDE_HYPERVISOR
    assert [every & ~excluded for excluded in count.LEVELS.values()] == [every, count.EXCLUDE_USER, count.EXCLUDE_KERNEL, count.EXCLUDE_HYPERVISOR]


def test_the_way_is_divided_by_texts_and_lines() -> None:
    steps, command = count.divided(["--at", "login:", "root", "--at", "# ", "ls", "done", "qemu", "-m", "1"])
    assert steps == [(b"login:", b"root"), (b"# ", b"ls"), (b"done", b"")]
    assert command == ["qemu", "-m", "1"]


@pytest.mark.parametrize(
    ("said", "lines", "missing"),
    [
        ([b"x log", b"in: y # z", b"done"], [b"root", b"ls", b""], None),
        ([b"login: # done"], [b"root", b"ls", b""], None),
        ([b"# login: done"], [b"root"], b"# "),
        ([b"login:", b"login:"], [b"root"], b"# "),
        ([], [], b"login:"),
    ],
)
def test_texts_are_waited_for_in_order(
    said: list[bytes], lines: list[bytes], missing: bytes | None, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """Also where one comes in two pieces, or several in one; what was seen for one text does not count for the next."""
    near, far = os.pipe()
    for piece in said:
        os.write(far, piece)
    os.close(far)
    reached: list[bytes] = []
    assert count.follow(near, [(b"login:", b"root"), (b"# ", b"ls"), (b"done", b"")], reached.append) == missing
    os.close(near)
    assert reached == lines
    assert capfdbinary.readouterr().out == b"".join(said)
