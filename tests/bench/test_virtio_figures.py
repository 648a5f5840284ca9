# SPDX-License-Identifier: Apache-2.0
"""What the guest of the virtio figures is told to do, and what is made of the counts."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from delphyne.bench import guest_boot, virtio


def test_each_kind_is_done_once_before_it_is_counted_four_times() -> None:
    steps, last = virtio.steps()
    assert [text for text, _ in steps] == [guest_boot.BANNER, *(f"part-{number}" for number in range(4, 20))]
    assert [typed for _, typed in steps[1:]] == [*virtio.KINDS] * 4
    assert last == "part-20"


def test_what_is_typed_says_none_of_the_texts_and_is_a_line_that_a_shell_takes() -> None:
    """The guest's console shows what is typed on it."""
    steps, last = virtio.steps()
    typed = steps[0][1]
    assert "\n" not in typed
    assert len(typed) < 1000
    assert not any(text in typed for text in [*(text for text, _ in steps), last])
    shell = shutil.which("sh")
    assert shell is not None
    counting = typed[typed.index("p=0") : typed.index("; r(){")]
    done = subprocess.run([shell, "-c", f"{counting}; e; e"], capture_output=True, text=True, check=True)
    assert done.stdout == "part-1\npart-2\n"


def test_the_ordinary_guest_copies_too() -> None:
    guest = guest_boot.measured_guest("6.1", protected=True)
    line = virtio.plain_line(guest)
    assert [word for word in line if word.startswith("virtio-") and "iommu_platform=on" not in word] == ["virtio-mmio.force-legacy=false"]
    assert virtio.POOL_SIDE in line[line.index("-append") + 1]
    assert "-initrd" in line


@pytest.mark.parametrize(("every", "ok"), [(1_000_000, True), (1_054_000, True), (1_060_000, False)])
def test_figures_are_for_each_mebibyte(every: int, ok: bool) -> None:
    dear, cheap = [{"all": 9_000_000}] * 4, [{"all": 1_000_000}] * 4
    made = virtio.rows([{"all": every}] * 4 + 3 * dear, cheap + dear + 2 * cheap)
    assert [row["name"] for row in made] == list(virtio.KINDS.values())
    assert [row["ok"] for row in made] == [ok] * 4
    assert made[0]["plain"] == 1_000_000 / virtio.MEBIBYTES
    assert made[0]["ratio"] == every / 1_000_000, "the least of each side, whichever round it was"
    assert made[0]["ratio_of_means"] == round((27_000_000 + every) / 12_000_000, 4)
    assert made[0]["delphyne_rounds"] == [count / virtio.MEBIBYTES for count in (every, 9_000_000, 9_000_000, 9_000_000)]
    assert virtio.spread(made[0]) == "800.0%"
