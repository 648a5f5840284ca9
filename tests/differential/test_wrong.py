# SPDX-License-Identifier: Apache-2.0
"""The fuzzer notices compilers that are wrong: a fuzzer that finds nothing proves nothing."""

from __future__ import annotations

import pytest
from wrong import WRONG

from delphyne.fuzz.campaign import run_seeds
from delphyne.fuzz.ways import Hook
from delphyne.fuzz.workers import Worker

BUDGET = 200
"""Programs within which a wrong compiler must be found."""


@pytest.mark.parametrize("hook", WRONG, ids=lambda hook: hook.__name__)
def test_a_wrong_compiler_is_found(hook: Hook) -> None:
    with Worker(hook=hook) as worker:
        failure = next(run_seeds(range(BUDGET), worker, aarch64=False), None)
    assert failure is not None, f"{BUDGET} programs did not show that {hook.__name__} is wrong"
    broken = [outcome.broken for outcomes in failure.found.values() for outcome in outcomes if outcome.broken]
    assert all("held after the return" in reason for reason in broken), failure.report()
