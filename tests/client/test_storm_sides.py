# SPDX-License-Identifier: Apache-2.0
"""The storm's own side: what counts as an export, and what as a plaintext page."""

from __future__ import annotations

import pytest

from delphyne.board import soak as board
from delphyne.board.guest import program
from delphyne.client import soak
from delphyne.client.memory import PAGE, Memory
from delphyne.lang import Pa, u64


def test_both_sides_write_down_the_same() -> None:
    assert int(program.SOAK_PAGES) == soak.PAGES
    word = int(program.soaked(Pa(u64(0x8C00_1238)), u64(3))).to_bytes(8, "little")
    assert word[2:] == soak.MARK


def test_no_two_places_or_rounds_beside_each_other_hold_the_same() -> None:
    words = {int(program.soaked(Pa(u64(0x8C00_0000 + 8 * place)), u64(number))) for place in range(16) for number in range(16)}
    assert len(words) > 250


def storm(content: bytes, steps: int) -> soak.Storm:
    memory = Memory(soak.PAGES * PAGE, kept=True)
    for page in range(soak.PAGES):
        memory.write(page * PAGE, content.ljust(PAGE, b"\0"))
    made = soak.Storm(memory, 7, 10)
    for _ in range(steps):
        made.step()
    return made


def test_only_what_changes_is_an_export() -> None:
    assert sum(storm(b"", 40).exports.values()) == 0
    seen = storm(b"ciphertext", 9)
    assert sum(seen.exports.values()) == 9
    assert seen.plaintext == 0
    assert not seen.over
    assert storm(b"ciphertext", 12).over


def test_what_the_guest_wrote_is_found_anywhere_in_a_page() -> None:
    assert storm(bytes(3000) + soak.MARK, 5).plaintext == 5


CONSOLE = (
    "soak: seed 1, 1502 exports: 500 by touch, 501 by drop, 501 by swap\n"
    "soak: 48 rounds, 0 failures, 0 plaintext pages\nsoak: 612 pages went to swap\n"
)


@pytest.mark.parametrize(("change", "clean"), [(("", ""), True), (("1502 exports", "9 exports"), False), (("0 failures", "1 failures"), False),
                                               (("0 plaintext", "1 plaintext"), False)])
def test_a_storm_is_clean_where_nothing_was_lost_and_nothing_seen(change: tuple[str, str], clean: bool) -> None:
    found = board.TOLD.search(CONSOLE.replace(*change) if change[0] else CONSOLE)
    assert found is not None
    told: board.Told = {name: int(number) for name, number in found.groupdict().items()}  # type: ignore[assignment]
    assert told["swapped"] == 612
    assert board.is_clean(told, 1500) == clean
