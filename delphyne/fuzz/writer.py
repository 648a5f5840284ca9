# SPDX-License-Identifier: Apache-2.0
"""Lines, blocks and scopes of one generated function, and its locals and stores."""

from __future__ import annotations

from collections.abc import Callable

from delphyne.fuzz.choices import Choices
from delphyne.fuzz.declare import ERRORS, Draft
from delphyne.fuzz.express import BYTES, Expressions
from delphyne.fuzz.scope import RISK, Variable
from delphyne.fuzz.shapes import (
    BOOL,
    INTS,
    U32,
    U64,
    Array,
    Int,
    Option,
    Path,
    Result,
    Shape,
    Slice,
    Struct,
    Tuple,
    Unit,
    Value,
    is_place,
    is_scalar,
    paths,
)

DEPTH = 3
"""How deep expressions nest."""

BINARY = ("+", "-", "*", "^", "&", "|", "//", "%", "<<", ">>")


class Writer(Expressions):
    """Writes the lines of one function whose result is `result`."""

    def __init__(self, draft: Draft, choices: Choices, result: Shape, budget: int) -> None:
        """`budget` bounds the statements written, not those executed."""
        super().__init__(draft, choices)
        self.result = result
        self.budget = budget
        self.lines: list[str] = []
        self.level = 1
        self.names = 0
        self.in_loop = False
        self.early = True
        self.answers: list[str] = []

    # --- writing ---------------------------------------------------------------------------------------------------------------

    def write(self, line: str) -> None:
        """One line at the present indentation."""
        self.lines.append("    " * self.level + line)

    def test(self, depth: int) -> str:
        """The condition of a statement. What it asks is not asked again in this block."""
        asked = len(self.asked)
        text = self.boolean(depth)
        self.hide(*self.asked[asked:])
        return text

    def fresh(self, stem: str) -> str:
        """A name not yet used in this function."""
        self.names += 1
        return f"{stem}{self.names}"

    def declare(self, name: str, shape: Shape, writable: bool = True, fixed: bool = False) -> None:
        """From here to the end of the block the name may be used."""
        self.scope.append(Variable(name, shape, writable, fixed))

    def nested(self, fill: Callable[[], object]) -> set[str]:
        """An indented block with a scope of its own; never empty. Answers the names that it hid."""
        visible, written = list(self.scope), len(self.lines)
        self.level += 1
        fill()
        if len(self.lines) == written:
            self.write("pass")
        self.level -= 1
        hidden = {variable.name for variable in visible} - {variable.name for variable in self.scope}
        self.scope = visible
        return hidden

    def repeated(self, rounds: int, fill: Callable[[], object]) -> None:
        """The body of a loop."""
        before, was = self.rounds, self.in_loop
        self.rounds, self.in_loop = before * rounds, True
        self.nested(fill)
        self.rounds, self.in_loop = before, was

    def narrowed(self, name: str, item: Shape, longest: int) -> bool:
        """A block in which the option or result `name` is known to hold its item."""
        visible = [variable for variable in self.scope if variable.name == name]
        for variable in visible:
            self.scope.remove(variable)
        writable = not isinstance(item, Slice) or item.writable
        ended = [False]

        def fill() -> None:
            self.declare(name, item, writable, fixed=True)
            ended.append(self.block(longest))

        self.nested(fill)
        self.scope.extend(visible)
        return ended[-1]

    def block(self, longest: int) -> bool:
        """Some statements; True where the end of the block cannot be reached."""
        raise NotImplementedError

    def return_line(self, depth: int = DEPTH) -> str:
        """A return of this function's result."""
        shape = self.result
        if isinstance(shape, Unit):
            return "return"
        return f"return {self.outcome(shape, depth)}"

    def outcome(self, shape: Shape, depth: int) -> str:
        """What a `return` may answer."""
        if isinstance(shape, Tuple):
            return ", ".join(self.expression(item, depth - 1) for item in shape.items)
        if is_place(shape):
            return self.choices.pick(self.answers)
        if isinstance(shape, Slice):
            return f"{self.choices.pick(self.answers)}{self.choices.pick(('', '[:]'))}"
        if isinstance(shape, Option) and isinstance(shape.item, Struct):
            return self.choices.pick(("None", *self.answers))
        if isinstance(shape, Option):
            return self.option(shape, depth)
        if isinstance(shape, Result):
            if self.choices.chance(35):
                return f"Err.{self.choices.pick(ERRORS.members)[0]}"
            return "None" if isinstance(shape.item, Unit) else self.outcome(shape.item, depth)
        return self.expression(shape, depth)

    def finish(self) -> None:
        """The last line of the function."""
        if not isinstance(self.result, Unit):
            self.write(self.return_line())

    def way_out(self) -> str:
        """A statement that leaves the block."""
        choices = self.choices
        if self.in_loop and choices.chance(70):
            return choices.pick(("break", "continue"))
        return self.return_line(DEPTH - 1)

    # --- locals and stores -----------------------------------------------------------------------------------------------------

    def scalar_shape(self) -> Shape:
        """A type for a local."""
        draft = self.draft
        options: list[Shape] = [U64, *INTS, U32, BOOL, *draft.enums, *draft.bit_classes, *draft.values, *draft.values]
        return self.choices.pick(options)

    def declare_scalar(self) -> bool:
        """v = .."""
        shape = self.scalar_shape()
        name, text = self.fresh("v"), self.expression(shape, DEPTH)
        self.write(f"{name}: {shape.text} = {text}" if self.choices.chance(25) else f"{name} = {text}")
        self.declare(name, shape)
        return False

    def assign_local(self) -> bool:
        """v = .. or v op= .. of a local that exists."""
        found = [variable for variable in self.scope if not variable.fixed and is_scalar(variable.shape) and variable.name[0] in "vi"]
        if not found:
            return self.declare_scalar()
        variable = self.choices.pick(found)
        if isinstance(variable.shape, Value) and any(method.kind == "+" for method in variable.shape.methods) and self.choices.chance(50):
            self.write(f"{variable.name} += {self.value(variable.shape, DEPTH - 1)}")
        elif isinstance(variable.shape, Int) and self.choices.chance(50):
            self.write(f"{variable.name} {self.operation(variable.shape)}")
        else:
            self.write(f"{variable.name} = {self.expression(variable.shape, DEPTH)}")
        return False

    def operation(self, shape: Int) -> str:
        """`op= value`, mostly fenced."""
        choices = self.choices
        sign = choices.pick(("^", *BINARY))
        value = self.integer(shape, DEPTH - 1)
        if not choices.chance(RISK):
            if sign in ("<<", ">>"):
                value = f"{value} & {shape.bits - 1}"
            elif sign in ("//", "%"):
                value = f"{value} | 1"
            elif sign in ("+", "-", "*"):
                value = f"{value} & {choices.pick((1, 3, 15))}" if sign != "*" else "1"
        return f"{sign}= {value}"

    def place(self, wanted: Callable[[Path], bool]) -> tuple[str, Path] | None:
        """A part that may be stored to."""
        called = self.answered_place(wanted) if self.choices.chance(12) else None
        return called or self.reach(lambda path: path.writable and wanted(path), DEPTH - 1)

    def answered_place(self, wanted: Callable[[Path], bool]) -> tuple[str, Path] | None:
        """A part of what a function answers a reference to."""
        found = [
            (routine, path)
            for routine in self.routines(lambda routine: is_place(routine.result))
            for path in paths(routine.result)
            if path.writable and wanted(path)
        ]
        if not found:
            return None
        routine, path = self.choices.pick(found)
        text = self.call(routine, DEPTH - 1)
        return (self.walk(text, path, 1), path) if text is not None else None

    def store(self) -> bool:
        """place = .."""
        found = self.place(lambda path: True)
        if found is None:
            return self.declare_place()
        text, path = found
        self.write(f"{text} = {self.expression(path.target, DEPTH)}")
        return False

    def update(self) -> bool:
        """place op= .."""
        found = self.place(lambda path: isinstance(path.target, Int))
        if found is None:
            return self.assign_local()
        text, path = found
        assert isinstance(path.target, Int)
        self.write(f"{text} {self.operation(path.target)}")
        return False

    def exchange(self) -> bool:
        """Two things of one type take each other's values: a, b = b, a."""
        shape = self.scalar_shape()
        locals_ = [variable.name for variable in self.scope if variable.shape == shape and not variable.fixed and variable.name[0] in "vi"]
        targets: list[str] = []
        for _ in range(2):
            found = self.place(lambda path: path.target == shape) if self.choices.below(2) else None
            if found is not None:
                targets.append(found[0])
            elif locals_:
                targets.append(self.choices.pick(locals_))
        if len(targets) < 2:
            return self.assign_local()
        values = [self.expression(shape, 2), targets[0]] if self.choices.chance(40) else targets[::-1]
        self.write(f"{', '.join(targets)} = {', '.join(values)}")
        return False

    def declare_on_both_ways(self) -> bool:
        """A local that is first assigned in both branches of an if, with or without a declaration before."""
        shape = self.scalar_shape()
        name = self.fresh("v")
        if self.choices.chance(50):
            self.write(f"{name}: {shape.text}")
        self.write(f"if {self.test(2)}:")
        self.nested(lambda: self.write(f"{name} = {self.expression(shape, 2)}"))
        self.write("else:")
        self.nested(lambda: self.write(f"{name} = {self.expression(shape, 2)}"))
        self.declare(name, shape)
        return False

    def declare_place(self) -> bool:
        """A struct or array of this function."""
        choices = self.choices
        shapes: list[Shape] = list(self.draft.structs)
        shapes += [Array(self.scalar_shape(), choices.pick((4, 8, 3, 1))), BYTES]
        if self.draft.structs:
            shapes.append(Array(choices.pick(self.draft.structs), choices.pick((2, 3))))
        shape = choices.pick(shapes)
        name = self.fresh("s" if isinstance(shape, Struct) else "a")
        self.write(f"{name} = {shape.text}()")
        self.declare(name, shape)
        return False

    def declare_slice(self) -> bool:
        """w: Slice[T] = array[low:high]"""
        arrays = [
            path.target for _, whole, _ in self.roots() for path in paths(whole) if isinstance(path.target, Array) and is_scalar(path.target.item)
        ]
        if not arrays:
            return self.declare_place()
        array = self.choices.pick(arrays)
        shape = Slice(array.item, self.choices.chance(60))
        text = self.slice(shape, 2)
        if text is None or "'" in text or ("[" not in text):
            return self.declare_place()
        name = self.fresh("w")
        self.write(f"{name}: {shape.text} = {text}")
        self.declare(name, shape, shape.writable)
        return False

    def declare_option(self) -> bool:
        """o: T | None = .."""
        choices = self.choices
        items: list[Shape] = [U64, *INTS, *self.draft.enums, *self.draft.values, *self.draft.structs]
        shape = Option(choices.pick(items))
        known = [variable.name for variable in self.scope if variable.shape == shape and not variable.fixed]
        text = self.uncertain(shape, DEPTH)
        if known and text is not None and choices.chance(40):
            self.write(f"{choices.pick(known)} = {text}")
            return False
        name = self.fresh("o")
        if text is None:
            item = self.reference(shape.item) if is_place(shape.item) else self.expression(shape.item, DEPTH)
            if item is None:
                return self.declare_place()
            self.write(f"{name}: {shape.text} = None")
            self.write(f"if {self.test(DEPTH - 1)}:")
            self.nested(lambda: self.write(f"{name} = {item}"))
        else:
            self.write(f"{name}: {shape.text} = {text}")
        self.declare(name, shape)
        return False

    def alias(self) -> bool:
        """A second name for a place."""
        choices = self.choices
        found = [(root, path) for root, whole, may_write in self.roots() if may_write for path in paths(whole) if is_place(path.target)]
        if not found:
            return self.declare_place()
        root, path = choices.pick(found)
        name, text = self.fresh("r"), self.walk(root, path, 2)
        if choices.chance(20):
            text = f"{text} if {self.boolean(2)} else {self.reference(path.target)}"
        self.write(f"{name} = {text}")
        self.declare(name, path.target)
        return False
