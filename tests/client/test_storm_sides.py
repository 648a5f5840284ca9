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
    seen = storm(b"ciphertext", 1)
    first = sum(seen.exports.values())
    assert 1 <= first <= soak.ROW
    for page in range(soak.PAGES):
        seen.memory.write(page * PAGE, b"another!")
    while not seen.over:
        seen.step()
    assert 10 <= sum(seen.exports.values()) < 10 + soak.ROW
    assert seen.plaintext == 0


def test_a_page_that_did_not_change_is_counted_once() -> None:
    seen = storm(b"ciphertext", 1)
    seen.count = soak.PAGES
    for _ in range(2000):
        seen.step()
    assert sum(seen.exports.values()) == soak.PAGES


def test_what_the_guest_wrote_is_found_anywhere_in_each_page() -> None:
    seen = storm(bytes(3000) + soak.MARK, 1)
    assert seen.plaintext == sum(seen.exports.values())
    assert seen.plaintext > 1


def test_a_seed_takes_the_same_again() -> None:
    assert storm(b"ciphertext", 9).exports == storm(b"ciphertext", 9).exports


def test_only_pages_that_are_to_be_swapped_count_as_asked() -> None:
    seen = storm(b"ciphertext", 0)
    while not seen.exports["swap"]:
        assert seen.asked == 0
        seen.step()
    assert seen.asked >= seen.exports["swap"]


def test_progress_is_told_line_by_line_and_nothing_else_is(capsys: pytest.CaptureFixture[str]) -> None:
    progress = board.Progress()
    for text in ("PASS soak x 16, 0 ticks\nsoak: 100", "09 exports so far, 0 plaintext pages", "\nsoak: 48 rounds, 0 failures, 0 plaintext pages\n"):
        progress.show(text)
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "soak: 10009 exports so far, 0 plaintext pages\n")


def test_what_was_taken_last_is_compared_by_one_more_command() -> None:
    made = object.__new__(soak.Soak)  # without KVM
    made.storm = storm(b"ciphertext", 0)
    made.rounds, made.last, made.failures = soak.ROUNDS, False, 0
    word = soak.Command("soak", False, soak.ROUNDS).word
    assert made._next() == word
    made.storm.over = True
    assert [made._next(), made._next()] == [word, 0]


CONSOLE = (
    "soak: seed 1, 1502 exports: 500 by touch, 501 by drop, 501 by swap\n"
    "soak: 48 rounds, 0 failures, 0 plaintext pages\nsoak: 615 pages asked to be swapped, 612 were\n"
)


@pytest.mark.parametrize(("change", "clean"), [(("", ""), True), (("1502 exports", "9 exports"), False), (("0 failures", "1 failures"), False),
                                               (("0 plaintext", "1 plaintext"), False)])
def test_a_storm_is_clean_where_nothing_was_lost_and_nothing_seen(change: tuple[str, str], clean: bool) -> None:
    found = board.TOLD.search(CONSOLE.replace(*change) if change[0] else CONSOLE)
    assert found is not None
    told: board.Told = {name: int(number) for name, number in found.groupdict().items()}  # type: ignore[assignment]
    assert (told["asked"], told["swapped"]) == (615, 612)
    assert board.is_clean(told, 1500) == clean
