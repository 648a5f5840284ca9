# SPDX-License-Identifier: Apache-2.0
"""Statements on memory: copies, fills, bytes, atomics; and assertions."""

from __future__ import annotations

from delphyne.fuzz.calls import Calls
from delphyne.fuzz.scope import RISK
from delphyne.fuzz.shapes import (
    INTS,
    U8,
    U32,
    U64,
    Array,
    Atomic,
    Shape,
    Slice,
    is_place,
    is_scalar,
    paths,
)


class Memory(Calls):
    """Adds operations on whole places."""

    def bulk(self) -> bool:
        """copy_from, fill, wipe."""
        choices = self.choices
        kind = choices.below(4)
        if kind == 0:
            shapes = [
                path.target for _, whole, ok in self.roots() if ok for path in paths(whole) if is_place(path.target) and self.copies(path.target)
            ]
            if shapes:
                shape = choices.pick(shapes)
                to, source = self.reference(shape), self.reference(shape)
                self.write(f"{to}.copy_from({source})")
                return False
        arrays = [
            path.target
            for _, whole, ok in self.roots()
            if ok
            for path in paths(whole)
            if isinstance(path.target, Array | Slice) and is_scalar(path.target.item)
        ]
        if not arrays:
            return self.store()
        array = choices.pick(arrays)
        assert isinstance(array, Array | Slice)
        if kind == 1 and isinstance(array, Array):
            text = self.reference(array)
            if choices.chance(30):
                self.write(f"wipe({text})")
                return False
            self.write(f"{text}.fill({self.expression(array.item, 2)})")
            return False
        target = self.slice(Slice(array.item, True), 2)
        if target is None:
            return self.store()
        if kind == 2:
            self.write(f"{target}.fill({self.expression(array.item, 2)})")
            return False
        return self._copy_slice(target, array.item)

    def _copy_slice(self, target: str, item: Shape) -> bool:
        choices = self.choices
        source = self.slice(Slice(item, False), 2)
        if source is None:
            return self.store()
        if choices.chance(RISK):
            self.write(f"{target}.copy_from({source})")
            return False
        into, out = self.fresh("w"), self.fresh("w")
        self.write(f"{into}: {Slice(item, True).text} = {target}")
        self.write(f"{out}: {Slice(item, False).text} = {source}")
        self.write(f"if {into}.length == {out}.length:")
        self.nested(lambda: self.write(f"{into}.copy_from({out})"))
        return False

    @staticmethod
    def copies(shape: Shape) -> bool:
        """Atomics make a struct that is not copied as a whole."""
        return not any(isinstance(path.target, Atomic) for path in paths(shape, True, 6))

    def store_bytes(self) -> bool:
        """store_be and store_le."""
        choices = self.choices
        target = self.slice(Slice(U8, True), 2)
        if target is None:
            return self.store()
        shape = choices.pick(INTS[1:])
        end = choices.pick(("be", "le"))
        offset = f"u64({choices.below(3)})" if choices.chance(70) else f"{self.integer(U64, 1)} & 3"
        line = f"store_{end}{shape.bits}"
        if choices.chance(70):
            name = self.fresh("w")
            self.write(f"{name}: Slice[u8] = {target}")
            self.write(f"if {name}.length >= {shape.bits // 8 + 3}:")
            self.nested(lambda: self.write(f"{line}({name}, {offset}, {self.integer(shape, 2)})"))
        else:
            self.write(f"{line}({target}, {offset}, {self.integer(shape, 2)})")
        return False

    def atomic_statement(self) -> bool:
        """An atomic store, or an operation kept in a local."""
        choices = self.choices
        shape = choices.pick((U64, U32))
        text = self.reference(Atomic(shape.bits))
        if text is None:
            return self.update()
        if choices.chance(50):
            self.write(f"{text}.store({self.integer(shape, 2)}, {choices.pick(('Order.RELAXED', 'Order.RELEASE'))})")
            return False
        name = self.fresh("v")
        self.write(f"{name} = {self.atomic(text, shape, 2)}")
        self.declare(name, shape)
        return False

    def claim(self) -> bool:
        """assert and unreachable, mostly true."""
        choices = self.choices
        kind = choices.below(4)
        if kind == 0:
            self.write(f'assert {self.test(2)} or {self.test(2)}, "said to hold"')
        elif kind == 1:
            self.write(f'assert {self.test(2)}, "claimed"')
        else:
            self.write(f"if {self.test(1)} and {self.test(2)}:")
            self.nested(lambda: self.write("unreachable()"))
        return False
