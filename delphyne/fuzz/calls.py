# SPDX-License-Identifier: Apache-2.0
"""Calls as statements, and what is done with options, results, tuples and handles."""

from __future__ import annotations

from delphyne.fuzz.control import Control
from delphyne.fuzz.declare import Static
from delphyne.fuzz.shapes import (
    Handle,
    Option,
    PoolOf,
    Result,
    Shape,
    Slice,
    Tuple,
    Unit,
    is_place,
    is_scalar,
)
from delphyne.fuzz.writer import DEPTH


class Calls(Control):
    """Adds calls."""

    def call_statement(self) -> bool:
        """A call by itself, or kept in a new local."""
        found = self.routines(lambda routine: not isinstance(routine.result, Option | Result | Tuple))
        if not found:
            return self.store()
        routine = self.choices.pick(found)
        text = self.call(routine, DEPTH)
        if text is None:
            return self.store()
        if is_scalar(routine.result):
            name = self.fresh("v")
            self.write(f"{name} = {text}")
            self.declare(name, routine.result)
        elif is_place(routine.result) or isinstance(routine.result, Slice):
            name = self.fresh("r")
            self.write(f"{name} = {text}")
            self.declare(name, routine.result, not isinstance(routine.result, Slice) or routine.result.writable)
        else:
            self.write(text)
        return False

    def use_option(self) -> bool:
        """Asks an option of this scope."""
        choices = self.choices
        found = [variable for variable in self.scope if isinstance(variable.shape, Option)]
        if not found:
            return self.declare_option()
        variable = choices.pick(found)
        assert isinstance(variable.shape, Option)
        self.unwrap(variable.name, variable.shape.item)
        return False

    def unwrap(self, name: str, item: Shape) -> None:
        """Asks whether `name` is None, in one of the three ways."""
        kind = self.choices.below(3)
        if kind == 0:
            self.write(f"if {name} is not None:")
            if self.narrowed(name, item, 4):
                self.hide(name)
            return
        self.write(f"if {name} is None:")
        if kind == 1:
            ended = [False]

            def fill() -> None:
                self.hide(name)
                ended.append(self.block(2))

            self.nested(fill)
            self.write("else:")
            if self.narrowed(name, item, 4) or ended[-1]:
                self.hide(name)
            return
        self.nested(lambda: self.write(self.way_out()))
        self.rename(name, item)
        self.hide(name)

    def rename(self, name: str, item: Shape) -> None:
        """From here on `name` is known to hold its item; assigned to a name of its own, as the narrowing ends where this block ends."""
        fresh = self.fresh("v" if is_scalar(item) else "r")
        self.write(f"{fresh} = {name}")
        self.declare(fresh, item)

    def use_result(self) -> bool:
        """Calls a function that may fail, and asks."""
        choices = self.choices
        found = self.routines(lambda routine: isinstance(routine.result, Result))
        routine = choices.pick(found) if found else None
        text = self.call(routine, DEPTH) if routine else None
        if routine is None or text is None:
            return self.use_option()
        assert isinstance(routine.result, Result)
        item = routine.result.item
        name = self.fresh("e")
        self.write(f"{name} = {text}")
        kind = choices.below(3)
        if kind == 0:
            self.write(f"if isinstance({name}, Err):")
            self.nested(lambda: self.write(f"note32({name}.raw)"))
            if not isinstance(item, Unit):
                self.write("else:")
                self.narrowed(name, item, 4)
        elif kind == 1 and not isinstance(item, Unit):
            self.write(f"if not isinstance({name}, Err):")
            self.narrowed(name, item, 4)
        else:
            self.write(f"if isinstance({name}, Err):")
            passes = isinstance(self.result, Result) and choices.chance(60)
            self.nested(lambda: self.write(f"return {name}" if passes else self.way_out()))
            if not isinstance(item, Unit):
                self.rename(name, item)
        return False

    def use_tuple(self) -> bool:
        """a, b = f()"""
        choices = self.choices
        found = self.routines(lambda routine: isinstance(routine.result, Tuple))
        routine = choices.pick(found) if found else None
        text = self.call(routine, DEPTH) if routine else None
        if routine is None or text is None:
            return self.declare_scalar()
        assert isinstance(routine.result, Tuple)
        if choices.chance(40):
            name = self.fresh("t")
            self.write(f"{name} = {text}")
            self.declare(name, routine.result)
            return False
        names = [self.fresh("v") for _ in routine.result.items]
        self.write(f"{', '.join(names)} = {text}")
        for name, shape in zip(names, routine.result.items, strict=True):
            self.declare(name, shape)
        return False

    def use_pool(self) -> bool:
        """allocate, get, free."""
        choices = self.choices
        pools: list[tuple[Static, PoolOf]] = [
            (static, static.shape) for static in self.draft.statics if isinstance(static.shape, PoolOf) and static.lock in self.held
        ]
        if not pools:
            return self.hold_lock()
        static, pool = choices.pick(pools)
        known = self.readable(Handle(pool.struct), 1) if choices.chance(50) else None
        if known is not None:
            self._with_handle(static, pool, known)
            return False
        name = self.fresh("h")
        self.write(f"{name} = {static.name}.allocate()")
        self.write(f"if {name} is not None:")

        def fill() -> None:
            self.declare(name, Handle(pool.struct), fixed=True)
            self._with_handle(static, pool, name)

        self.nested(fill)
        return False

    def _with_handle(self, static: Static, pool: PoolOf, handle: str) -> None:
        choices = self.choices
        for _ in range(1 + choices.below(3)):
            if choices.below(3) < 2:
                name = self.fresh("p")
                self.write(f"{name} = {static.name}.get({handle})")
                self.write(f"if {name} is not None:")
                self.narrowed(name, pool.struct, 3)
            else:
                self.write(f"note1({static.name}.free({handle}))")
