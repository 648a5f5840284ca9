# SPDX-License-Identifier: Apache-2.0
"""The explorer: runs programs on several CPUs of a simulated machine, one step at a time, in many orders.

A step ends where another CPU may matter: at atomics, locks, barriers, TLB and cache operations, device and guest accesses. Each program
runs in a thread of its own, but only the one that holds the baton runs, so a run is decided by its choices alone and can be repeated.

`explore` tries all orders with at most so many preemptions (a switch away from a CPU that could have gone on), then random ones; the first
order in which anything fails is raised as `Failed` with its schedule, and `replay` runs that order again. A CPU that waits for ever, in a
lock or by turning round and round, is a failure too.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from delphyne.lang.locks import forget_held_locks
from delphyne.lang.machine.core import Machine

PATIENCE = 64
"""Steps in a row after which a CPU that may be waiting in a loop gives way to the others, free of charge."""


@dataclass(slots=True)
class Scenario:
    """What runs: one program for each of the first CPUs of `machine`; `check` at the end; `invariant` before every step.

    `prepare` runs first, on CPU 0 alone: a place for what a boot would do."""

    machine: Machine
    programs: Sequence[Callable[[], None]]
    check: Callable[[], None] = lambda: None
    invariant: Callable[[], None] = lambda: None
    prepare: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True)
class Step:
    """One choice: which CPUs could run, which of them was running, which was chosen, and before what."""

    runnable: tuple[int, ...]
    running: int | None
    chosen: int
    what: str


class Failed(Exception):
    """A failing order. `schedule` is what `replay` takes; the cause is what went wrong."""

    def __init__(self, schedule: tuple[int, ...], steps: Sequence[Step], error: BaseException) -> None:
        super().__init__(schedule, error)
        self.schedule = schedule
        self.steps = tuple(steps)
        self.error = error

    def __str__(self) -> str:
        lines = [f"{type(self.error).__name__}: {self.error}", f"schedule {self.schedule}"]
        lines += [f"  CPU {step.chosen}: {step.what}" for step in self.steps]
        return "\n".join(lines)


class Stuck(Exception):
    """Nobody can go on, or a run does not end."""


class _Abandoned(BaseException):
    """Ends the thread of a run that is over; not caught by `except Exception`."""


@dataclass(slots=True)
class Explored:
    """How many orders were tried, and whether those within the bound on preemptions are all."""

    runs: int
    complete: bool


@dataclass(slots=True)
class _Runner:
    number: int
    program: Callable[[], None]
    baton: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    thread: threading.Thread | None = None
    ready: Callable[[], bool] | None = None
    what: str = "start"
    done: bool = False
    in_a_row: int = 0


Choose = Callable[[int, tuple[int, ...], int | None], int]
"""Given the number of the step, the CPUs that could run and the one that was running: who runs next."""


class Schedule:
    """One run of a scenario."""

    def __init__(self, scenario: Scenario, choose: Choose, limit: int) -> None:
        self.scenario = scenario
        self.choose = choose
        self.limit = limit
        self.steps: list[Step] = []
        self.error: BaseException | None = None
        self._over = False
        self._runners = [_Runner(number, program) for number, program in enumerate(scenario.programs)]
        self._back = threading.Semaphore(0)

    def run(self) -> None:
        """Run to the end; raises what failed."""
        machine = self.scenario.machine
        if len(self._runners) > len(machine.cpus):
            raise ValueError(f"{len(self._runners)} programs for {len(machine.cpus)} CPUs")
        forget_held_locks()
        machine.schedule = self
        try:
            for runner in self._runners:
                runner.thread = threading.Thread(target=self._live, args=(runner,), daemon=True)
                runner.thread.start()
            self._conduct()
        finally:
            self._abandon()
            machine.schedule = None
            machine.cpu_number = 0
            forget_held_locks()
        self.scenario.check()

    def _conduct(self) -> None:
        running: int | None = None
        while True:
            self.scenario.invariant()
            waiting = [runner for runner in self._runners if not runner.done]
            if not waiting:
                return
            runnable = tuple(runner.number for runner in waiting if runner.ready is None or runner.ready())
            if not runnable:
                raise Stuck("all wait: " + ", ".join(f"CPU {runner.number} for {runner.what}" for runner in waiting))
            if len(self.steps) >= self.limit:
                raise Stuck(f"no end after {self.limit} steps")
            if running is not None and self._runners[running].in_a_row >= PATIENCE and len(runnable) > 1:
                runnable = tuple(number for number in runnable if number != running)
            still = running if running in runnable else None
            chosen = self.choose(len(self.steps), runnable, still)
            if chosen not in runnable:
                raise ValueError(f"CPU {chosen} cannot run at step {len(self.steps)}: the schedule is of another program")
            self.steps.append(Step(runnable, still, chosen, self._runners[chosen].what))
            for runner in self._runners:
                runner.in_a_row = runner.in_a_row + 1 if runner.number == chosen else 0
            running = chosen
            self._give(self._runners[chosen])
            if self.error is not None:
                raise self.error

    def _give(self, runner: _Runner) -> None:
        self.scenario.machine.cpu_number = runner.number
        runner.baton.release()
        self._back.acquire()

    def _live(self, runner: _Runner) -> None:
        runner.baton.acquire()
        try:
            if not self._over:
                runner.program()
        except _Abandoned:
            pass
        except BaseException as error:
            if not self._over:
                self.error = error
        runner.done = True
        self._back.release()

    def _abandon(self) -> None:
        """Let every thread unwind, one after the other."""
        self._over = True
        for runner in self._runners:
            if runner.thread is not None:
                if not runner.done:
                    self._give(runner)
                runner.thread.join()

    def _pause(self, what: str, ready: Callable[[], bool] | None) -> bool:
        """Give the baton back until it comes again; False at once where the caller is not the program that holds it."""
        runner = self._runners[self.scenario.machine.cpu_number]
        if self._over or runner.thread is not threading.current_thread():
            return False
        runner.what, runner.ready = what, ready
        self._back.release()
        runner.baton.acquire()
        runner.ready = None
        if self._over:
            raise _Abandoned
        return True

    def point(self, what: str) -> None:
        """The program that runs comes to a place where another may run first."""
        self._pause(what, None)

    def wait_until(self, ready: Callable[[], bool], what: str) -> bool:
        """The program that runs cannot go on before `ready()`. False for anybody else (an invariant, a run that is over): nobody would wake it."""
        while not ready():
            if not self._pause(what, ready):
                return False
        return True


def _run(build: Callable[[], Scenario], choose: Choose, limit: int) -> list[Step]:
    """One run of a new scenario, inside its machine; gives the steps it took."""
    scenario = build()
    with scenario.machine:
        scenario.prepare()
        schedule = Schedule(scenario, choose, limit)
        try:
            schedule.run()
        except Exception as error:
            raise Failed(tuple(step.chosen for step in schedule.steps), schedule.steps, error) from error
    return schedule.steps


def _follow(prefix: tuple[int, ...]) -> Choose:
    """The choices of `prefix`, then whoever was running, else the first that can."""

    def choose(step: int, runnable: tuple[int, ...], running: int | None) -> int:
        if step < len(prefix):
            return prefix[step]
        return runnable[0] if running is None else running

    return choose


def _preemptions(steps: Sequence[Step], upto: int) -> int:
    return sum(1 for step in steps[:upto] if step.running is not None and step.chosen != step.running)


def explore(
    build: Callable[[], Scenario], preemptions: int = 2, runs: int = 2000, random_runs: int = 0, seed: int = 0, limit: int = 20_000
) -> Explored:
    """Tries up to `runs` orders with at most `preemptions`, then `random_runs` random ones that `seed` decides. Raises Failed.

    `build` makes a new scenario for every run; what it resets (boot arrays, statics) is its business."""
    todo: list[tuple[int, ...]] = [()]
    done = 0
    while todo and done < runs:
        prefix = todo.pop()
        steps = _run(build, _follow(prefix), limit)
        done += 1
        for at in range(len(steps) - 1, len(prefix) - 1, -1):
            step = steps[at]
            cost = _preemptions(steps, at) + (1 if step.running is not None else 0)
            if cost <= preemptions:
                chosen = tuple(earlier.chosen for earlier in steps[:at])
                todo += [(*chosen, other) for other in step.runnable if other != step.chosen]
    complete = not todo
    for number in range(random_runs):
        source = random.Random(f"{seed}.{number}")
        _run(build, lambda step, runnable, running, source=source: source.choice(runnable), limit)  # type: ignore[misc]
    return Explored(done + random_runs, complete)


def replay(build: Callable[[], Scenario], schedule: Sequence[int], limit: int = 20_000) -> None:
    """Runs one order again. Raises Failed as `explore` did."""
    _run(build, _follow(tuple(schedule)), limit)
