# SPDX-License-Identifier: Apache-2.0
"""How long ten thousand steps of hypothesis on the page-table code take in CPython: map, unmap and translate against a dictionary."""

from __future__ import annotations

import time
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from delphyne.el2.arch.err import Err
from delphyne.el2.arch.pagetable import Stage2Memory
from delphyne.el2.memory import pages, stage2
from delphyne.el2.memory.pages import PoolName, Region, TablePool
from delphyne.el2.memory.stage2 import Rights
from delphyne.el2.memory.tables import Space
from delphyne.lang import Array, Ipa, Pa, u16, u64
from delphyne.lang.machine import Machine

STEPS = 10_000
STEPS_EACH = 50
PAGE = 4096
RAM = 0x4000_0000
TABLE_PAGES = 8
"""The start table, one of level 2 and three of level 3 are all that the pages above can need."""
RIGHTS = Rights(True, True, False)
PAGES = st.one_of(st.integers(0, 31), st.integers(500, 530), st.integers(1000, 1050))


class Tables(RuleBasedStateMachine):
    """One stage-2 space beside a dictionary from page to page."""

    taken = 0
    """Steps that were run, over all machines."""

    def __init__(self) -> None:
        super().__init__()
        for attached in (pages.TABLES, pages.ORDER, pages.PLACE):
            attached.detach()
        pages.POOLS.copy_from(Array[TablePool, 5]())
        pages.REGION.copy_from(Region())
        self.machine = Machine(ram_base=RAM, ram_size=1 << 20, registers={"VTTBR_EL2": 0})
        self.machine.__enter__()
        self.space = Space()
        self.model: dict[int, int] = {}
        _done(pages.attach(Pa(u64(RAM)), Pa(u64(RAM + TABLE_PAGES * PAGE)), u64(TABLE_PAGES)))
        _done(pages.assign(PoolName.STARTS, u64(1), u64(1)))
        _done(pages.assign(PoolName.GUESTS, u64(1), u64(TABLE_PAGES - 1)))
        _done(stage2.create(self.space, u64(39), PoolName.STARTS, PoolName.GUESTS, u16(1)))

    def teardown(self) -> None:
        """Ends the machine."""
        self.machine.__exit__(None, None, None)

    @rule(first=PAGES, count=st.integers(1, 4), output=st.integers(0, 1 << 20))
    def map(self, first: int, count: int, output: int) -> None:
        """Map a few pages, which succeeds where all of them are free."""
        Tables.taken += 1
        free = all(page not in self.model for page in range(first, first + count))
        size = u64(count * PAGE)
        result = stage2.map_range(self.space, Ipa(u64(first * PAGE)), Pa(u64(output * PAGE)), size, Stage2Memory.NORMAL, RIGHTS)
        assert (result is None) == free, result
        if free:
            self.model.update({first + n: output + n for n in range(count)})

    @rule(first=PAGES, count=st.integers(1, 4))
    def unmap(self, first: int, count: int) -> None:
        """Unmap a few pages, mapped or not."""
        Tables.taken += 1
        result = stage2.unmap_range(self.space, Ipa(u64(first * PAGE)), u64(count * PAGE))
        assert result == count * PAGE, result
        for page in range(first, first + count):
            self.model.pop(page, None)

    @rule(page=PAGES)
    def translate(self, page: int) -> None:
        """Look a page up."""
        Tables.taken += 1
        found = stage2.translate(self.space, Ipa(u64(page * PAGE + 8)))
        expected = self.model.get(page)
        assert (found is None) == (expected is None)
        assert found is None or found.pa.raw == u64(expected * PAGE + 8)  # type: ignore[operator]


def _done(result: Any) -> None:
    assert not isinstance(result, Err), result


def measure() -> float:
    """Processor seconds for STEPS steps."""
    Tables.taken = 0
    plan = settings(
        max_examples=STEPS // STEPS_EACH,
        stateful_step_count=STEPS_EACH,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    started = time.process_time()
    while Tables.taken < STEPS:
        run_state_machine_as_test(Tables, settings=plan)
    return (time.process_time() - started) * STEPS / Tables.taken
