# SPDX-License-Identifier: Apache-2.0
"""Statements that branch, repeat, leave and lock."""

from __future__ import annotations

from delphyne.fuzz.scope import COST_LIMIT
from delphyne.fuzz.shapes import (
    INTS,
    U64,
)
from delphyne.fuzz.writer import DEPTH, Writer


class Control(Writer):
    """Adds control flow."""

    def branch(self) -> bool:
        """if, elif, else."""
        choices = self.choices
        self.write(f"if {self.test(DEPTH)}:")
        ends = [False]
        self.nested(lambda: ends.append(self.block(4)))
        if choices.chance(25):
            self.write(f"elif {self.test(DEPTH - 1)}:")
            self.nested(lambda: self.block(3))
            ends.append(False)
        if choices.chance(50):
            self.write("else:")
            self.nested(lambda: ends.append(self.block(4)))
            return all(ends[1:])
        return False

    def may_repeat(self, rounds: int) -> bool:
        """Whether a loop of so many rounds stays within the cost of a function."""
        return self.rounds * rounds <= 64 and self.cost + 8 * self.rounds * rounds < COST_LIMIT

    def count_loop(self) -> bool:
        """for .. in uN.range, ends at the edges of the width included."""
        choices = self.choices
        if not self.may_repeat(6):
            return self.store()
        name, shape = self.fresh("i"), choices.pick(INTS)
        kind = choices.below(6)
        if kind < 2:
            ends, rounds = f"{shape.text}({choices.below(5)})", 4
        elif kind == 2:
            ends, rounds = f"{self.integer(shape, 2)} & 3", 3
        elif kind == 3:
            ends, rounds = f"{shape.text}({choices.below(4)}), {self.integer(shape, 2)} & 7", 7
        elif kind == 4:
            ends, rounds = f"{shape.text}.MAX - {choices.below(7)}, {shape.text}.MAX", 6
        else:
            step = choices.pick((2, 3, 100))
            start = choices.pick((f"{shape.text}(1)", f"{shape.text}.MAX - 5"))
            stop = f"{self.integer(shape, 1)} & 15" if start.endswith("(1)") else f"{shape.text}.MAX"
            ends, rounds = f"{start}, {stop}, {step}", 8
        self.write(f"for {name} in {shape.text}.range({ends}):")

        def fill() -> None:
            self.declare(name, shape)
            self.block(4)

        self.repeated(rounds, fill)
        return False

    def while_loop(self) -> bool:
        """while, with a counter that ends it."""
        if not self.may_repeat(5):
            return self.store()
        name = self.fresh("n")
        self.write(f"{name} = u64(0)")
        most = 1 + self.choices.below(5)
        forever = self.choices.chance(30)
        self.write("while True:" if forever else f"while {name} < {most} and {self.test(2)}:")

        def fill() -> None:
            self.write(f"{name} += 1")
            if forever:
                self.write(f"if {name} > {most}:")
                self.nested(lambda: self.write("break"))
            self.declare(name, U64, fixed=True)
            self.block(5)

        self.repeated(most + 1, fill)
        self.declare(name, U64, fixed=True)
        return False

    def leave(self) -> bool:
        """Return, break or continue, under a condition or not."""
        choices = self.choices
        if self.level == 1 or not self.early or choices.chance(50):
            self.write(f"if {self.test(DEPTH - 1)}:")
            self.nested(lambda: self.write(self.way_out()))
            return False
        self.write(self.way_out())
        return True

    def select(self) -> bool:
        """match over an enum."""
        choices = self.choices
        if not self.draft.enums:
            return self.branch()
        enum = choices.pick(self.draft.enums)
        self.write(f"match {self.enumeration(enum, DEPTH)}:")
        self.level += 1
        names = [name for name, _ in enum.members]
        ends = True
        while names and (len(names) > 1 or ends):
            taken = [names.pop(choices.below(len(names))) for _ in range(min(1 + choices.below(2), len(names)))]
            self.write(f"case {' | '.join(f'{enum.text}.{name}' for name in taken)}:")
            self.nested(lambda: self.block(3))
            ends = choices.chance(70)
            if not ends:
                break
        self.write("case _:")
        self.nested(lambda: self.block(3))
        self.level -= 1
        return False

    def hold_lock(self) -> bool:
        """with LOCK."""
        choices = self.choices
        free = [rank for rank in self.draft.locks if rank > max(self.held, default=0)]
        if not free:
            return self.store()
        rank = choices.pick(free)
        before = self.held
        self.write(f"with LOCK{rank}:")
        self.held = (*before, rank)
        self.takes.add(rank)
        ended = [False]
        self.hide(*self.nested(lambda: ended.append(self.block(6))))
        self.held = before
        return ended[-1]
