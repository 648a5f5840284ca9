# SPDX-License-Identifier: Apache-2.0
"""The machine of a proof: it does nothing and writes down what it was asked to do.

Registers that were not written on this path have an arbitrary value, the same at each read. There is one CPU; what others do in between is
the business of the simulated machine's explorer and of the locks, which this machine lets the language's own `Lock` check.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import z3  # type: ignore[import-untyped]

from delphyne.lang.ints import u64
from delphyne.prove.path import ProverError
from delphyne.prove.symbolic import integer, term
from delphyne.prove.trace import called


class TraceMachine:
    """Stands where `delphyne.lang.machine.Machine` stands."""

    cpu_number = 0

    def __init__(self) -> None:
        self.registers: dict[str, Any] = {}

    def point(self, what: str) -> None:
        """Locks are worth noting; that an atomic was touched is noted by its cell."""
        if what.startswith(("lock ", "unlock ")):
            called(what)

    def wait_until(self, ready: Callable[[], bool], what: str) -> bool:
        """Nobody else runs: whoever waits, waits for ever."""
        return ready()

    def barrier(self, kind: str, domain: str) -> None:
        """Note it as `dsb ish` and the like; `isb` has no domain."""
        called(kind if kind == "isb" else f"{kind} {domain}")

    def tlbi(self, operation: str, broadcast: bool, address: Any) -> None:
        """Note it as `tlbi vae2is` and the like."""
        called(f"tlbi {operation}{'is' if broadcast else ''}", None if address is None else term(_word(address)))

    def cache(self, operation: str, address: Any) -> None:
        """Note it as `cache civac` and the like."""
        called(f"cache {operation}", None if address is None else term(_word(address)))

    def read_register(self, name: str) -> Any:
        """What was written last, else an arbitrary value."""
        if name not in self.registers:
            self.registers[name] = integer(z3.BitVec(f"register {name}", 64))
        return self.registers[name]

    def write_register(self, name: str, value: Any) -> None:
        """Keep it, and note it as `msr NAME`."""
        self.registers[name] = _word(value)
        called(f"msr {name}", term(_word(value)))

    def __getattr__(self, name: str) -> Any:
        raise ProverError(f"a proof has no {name}: give the theorem a stand-in")


def _word(value: Any) -> Any:
    return u64(value) if type(value) is int else value
