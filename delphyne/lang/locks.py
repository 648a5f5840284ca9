# SPDX-License-Identifier: Apache-2.0
"""Locks with a name and a rank, taken in rising rank.

The compiler proves the order; here it is checked as it happens, on each CPU of the simulated machine.
"""

from __future__ import annotations

from types import TracebackType

from delphyne.lang import current


class LockError(Exception):
    """A lock was taken out of order or twice, or left by one who does not hold it."""


_held: dict[int, list[Lock]] = {}


def held_locks(cpu: int) -> tuple[Lock, ...]:
    """The locks that a CPU holds, in the order in which it took them."""
    return tuple(_held.get(cpu, ()))


def forget_held_locks() -> None:
    """Release everything: what a test does after a trap, which leaves locks held."""
    for locks in _held.values():
        for lock in locks:
            lock._holder = None
            lock._served = lock._taken
    _held.clear()


class Lock:
    """A ticket lock. `rank` orders it among all locks: a CPU takes a lock only while it holds none of the same or a higher rank.

    Here tickets are only counted: of those who wait any may be next, so that what is tried does not lean on their order."""

    __slots__ = ("_holder", "_served", "_taken", "name", "rank")

    def __init__(self, name: str, rank: int) -> None:
        if type(name) is not str or type(rank) is not int:
            raise TypeError("Lock(name, rank=number)")
        self.name = name
        self.rank = rank
        self._holder: int | None = None
        self._served = 0
        self._taken = 0

    @property
    def held(self) -> bool:
        """Whether any CPU holds it; for tests and for the machine's own checks."""
        return self._holder is not None

    @property
    def tickets(self) -> tuple[int, int]:
        """How many tickets were served, and how many taken, each by its lowest 32 bits: the holder's ticket and the next one."""
        return self._served & 0xFFFF_FFFF, self._taken & 0xFFFF_FFFF

    def held_by(self, cpu: int) -> bool:
        """Whether that CPU holds it."""
        return self._holder == cpu

    def __enter__(self) -> None:
        cpu = current.cpu_number()
        mine = _held.setdefault(cpu, [])
        if self in mine:
            raise LockError(f"{self.name} is taken twice by CPU {cpu}")
        for other in mine:
            if other.rank >= self.rank:
                raise LockError(f"{self.name} (rank {self.rank}) is taken while {other.name} (rank {other.rank}) is held")
        current.point(f"lock {self.name}")
        self._taken += 1
        if not current.wait_until(lambda: self._holder is None, f"lock {self.name}"):
            self._taken -= 1
            raise LockError(f"{self.name} is held by CPU {self._holder} for ever")
        self._holder = cpu
        mine.append(self)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        cpu = current.cpu_number()
        if self._holder != cpu:
            raise LockError(f"{self.name} is left by CPU {cpu}, which does not hold it")
        self._holder = None
        self._served += 1
        _held[cpu].remove(self)
        current.point(f"unlock {self.name}")

    def __repr__(self) -> str:
        return f"Lock({self.name!r}, rank={self.rank})"
