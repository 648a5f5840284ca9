# SPDX-License-Identifier: Apache-2.0
"""A stock kernel sets up dm-crypt over dm-integrity as it is asked, and the program that counts its pages finds them kept and guarded."""

from __future__ import annotations

import pytest

from delphyne.bench import dm_crypt

pytestmark = pytest.mark.system


@pytest.mark.parametrize("kernel", ["6.1", "6.12"])
def test_pages_go_through_dm_crypt_and_cost_more_than_the_disk(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, number in (("ROUNDS", 1), ("SHORT", 64), ("LONG", 192)):
        monkeypatch.setattr(dm_crypt, name, number)
    for row in dm_crypt.rows(dm_crypt.measure_kernel(kernel, "cortex-a57"), 0):
        assert row["write"] > row["disk"] > 0
        assert row["read"] > row["disk"]
