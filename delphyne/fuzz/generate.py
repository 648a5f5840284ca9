# SPDX-License-Identifier: Apache-2.0
"""Whole programs: a module of typed Python with `run(a, b) -> u64` and `checksum() -> u64`, and inputs for it.

`run` answers a checksum of what it computed; `checksum` one of every static, and is asked after `run` has returned or trapped. `TRACE` is a
static to which `note` adds what it is given, so that the order of evaluation shows in the checksum. Programs use one CPU, always end, and
are almost always accepted by the compiler's checks.
"""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

from delphyne import lang
from delphyne.fuzz.choices import Choices, Drawn, Recorded, Seeded
from delphyne.fuzz.declare import Declarer, Draft, Routine, class_lines, edge_number
from delphyne.fuzz.shapes import BOOL, INTS, U8, U64, UNIT, Array, Int, Option, PoolOf, Result, Shape, Slice, Tuple, is_place, paths
from delphyne.fuzz.statements import Statements, digest


@dataclass(frozen=True)
class Program:
    """A module's source, the inputs (a, b) of `run`, and the decisions that made it."""

    source: str
    inputs: tuple[tuple[int, int], ...]
    made: tuple[int, ...]

    def listing(self) -> str:
        """For people: numbered lines and the inputs."""
        lines = [f"{number:4d}  {line}" for number, line in enumerate(self.source.splitlines(), 1)]
        return "\n".join([*lines, f"inputs: {', '.join(f'({a:#x}, {b:#x})' for a, b in self.inputs)}"])


class Generator:
    """Makes one program."""

    def __init__(self, choices: Choices) -> None:
        """`choices` decide."""
        self.choices = choices
        self.draft = Draft()

    def run(self) -> Program:
        """The program."""
        choices = self.choices
        inputs = tuple((edge_number(choices, 64), edge_number(choices, 64)) for _ in range(2))
        self.draft = Declarer(choices).run()
        self.draft.routines.extend(_exchanges(self.draft))
        for number in range(choices.below(5)):
            self.draft.routines.append(self._routine(f"f{number}"))
        body = self._entry()
        return Program(self._source(body), inputs, tuple(choices.made))

    def _parameter(self) -> Shape:
        choices, draft = self.choices, self.draft
        kind = choices.below(10)
        if kind >= 8 and draft.structs:
            struct = choices.pick(draft.structs)
            return Option(struct) if choices.chance(25) else struct
        if kind == 7:
            return Slice(choices.pick((U8, *INTS)), choices.chance(60))
        if kind == 6:
            arrays = [path.target for static in draft.statics for path in paths(static.shape) if isinstance(path.target, Array)]
            if arrays:
                return choices.pick(arrays)
        if kind == 5:
            return Option(choices.pick(INTS))
        scalars: list[Shape] = [U64, *INTS, BOOL, *draft.enums, *draft.bit_classes, *draft.values]
        if choices.chance(6):
            return Tuple(tuple(choices.pick(scalars) for _ in range(2)))
        return choices.pick(scalars)

    def _result(self) -> Shape:
        choices, draft = self.choices, self.draft
        scalars: list[Shape] = [U64, *INTS, BOOL, *draft.enums, *draft.bit_classes, *draft.values]
        kind = choices.below(10)
        if kind < 4:
            return choices.pick(scalars)
        if kind == 4:
            return UNIT
        if kind == 5:
            return Tuple(tuple(choices.pick(scalars) for _ in range(2 + choices.below(2))))
        if kind == 6:
            return Option(choices.pick(scalars[:5] + list(draft.values)))
        if kind < 9:
            return Result(UNIT if choices.chance(30) else choices.pick([*scalars, *draft.structs]))
        if not draft.structs:
            return Slice(choices.pick((U8, *INTS)), choices.chance(60))
        struct = choices.pick(draft.structs)
        return struct if choices.below(2) == 0 else Option(struct)

    def _routine(self, name: str) -> Routine:
        choices = self.choices
        result = self._result()
        params: list[tuple[str, Shape]] = []
        for index in range(choices.below(5)):
            shape = params[-1][1] if params and choices.chance(25) else self._parameter()
            params.append((f"x{index}", shape))
        answered = result.item if isinstance(result, Option | Result) else result
        refers = is_place(answered) or isinstance(answered, Slice)
        if refers and not any(shape == answered for _, shape in params):
            params.append((f"x{len(params)}", answered))
        held = tuple(rank for rank in self.draft.locks if choices.chance(30))
        body = Statements(self.draft, choices, result, budget=3 + choices.below(12))
        body.held = held
        for param, shape in params:
            body.declare(param, shape, writable=not isinstance(shape, Slice) or shape.writable, fixed=True)
        body.answers = [param for param, shape in params if shape == answered]
        if not body.block(8):
            body.finish()
        if not body.lines:
            body.write("pass")
        marks = [f"@holds(LOCK{rank})" for rank in held]
        listed = ", ".join(f"{param}: {shape.text}" for param, shape in params)
        lines = (*marks, f"def {name}({listed}) -> {result.text}:", *body.lines)
        return Routine(name, tuple(params), result, held, frozenset(body.takes), body.cost + 2, lines)

    def _entry(self) -> Statements:
        body = Statements(self.draft, self.choices, U64, budget=12 + self.choices.below(40))
        body.early = False
        body.write("d = u64(0)")
        for name, text, shape in (("a", None, INTS[3]), ("b", None, INTS[3]), ("c", "u32.wrap(a)", INTS[2]), ("e", "u8.wrap(b)", INTS[0])):
            if text:
                body.write(f"{name} = {text}")
            body.declare(name, shape)
        ended = False
        for _ in range(6):
            if self.choices.below(8) == 0 and not ended:
                break
            ended = ended or body.block(8)
        if not ended:
            for variable in list(body.scope):
                for line in digest(variable.name, variable.shape):
                    body.write(line)
            body.write("return d")
        return body

    def _source(self, entry: Statements) -> str:
        draft = self.draft
        code = class_lines(draft)
        body = "\n".join([line for routine in draft.routines for line in routine.lines[1:]] + entry.lines)
        for routine in draft.routines:
            if not routine.method and (not routine.name.startswith("exchange") or routine.name in body):
                code += ["", *routine.lines]
        code += ["", "def run(a: u64, b: u64) -> u64:", *entry.lines, "", *self._checksum_lines()]
        text = "\n".join(code)
        notes = _note_lines(text)
        trace = "TRACE: Final = AtomicU64()"
        head = ["from __future__ import annotations", "", "from typing import Final", ""]
        used = set(_words("\n".join((trace, text, *notes))))
        head.append(f"from delphyne.lang import {', '.join(name for name in sorted(lang.__all__) if name in used)}")
        return "\n".join([*head, "", trace, "", *notes, *code]) + "\n"

    def _checksum_lines(self) -> list[str]:
        lines = [f"@holds(LOCK{rank})" for rank in self.draft.locks]
        lines += ["def checksum() -> u64:", "    d = TRACE.load(Order.RELAXED)"]
        for static in self.draft.statics:
            if static.writable and not isinstance(static.shape, PoolOf):
                lines += [f"    {line}" for line in digest(static.root, static.shape)]
        return [*lines, "    return d"]


def _exchanges(draft: Draft) -> list[Routine]:
    """For each struct a function or a method that changes a field and answers what it held."""
    found = []
    for struct in draft.structs:
        ints = [(name, shape) for name, shape in struct.fields if isinstance(shape, Int)]
        if ints:
            part, shape = ints[0]
            method = "exchange" if len(struct.fields) % 2 == 0 else ""
            name = method or f"exchange_{struct.text}"
            head = f"def {name}({'self' if method else f'self_: {struct.text}'}, x: {shape.text}) -> {shape.text}:"
            self_ = "self" if method else "self_"
            lines = (head, f"    old = {self_}.{part}", f"    {self_}.{part} = x", "    return old")
            found.append(Routine(name, (("self_", struct), ("x", shape)), shape, (), frozenset(), 4, lines, method))
    return found


def _words(text: str) -> list[str]:
    return "".join(char if char.isalnum() or char == "_" else " " for char in text).split()


def _note_lines(text: str) -> list[str]:
    """The functions that leave a trace, where they are used."""
    lines = [
        "def mix(h: u64, x: u64) -> u64:",
        "    return rotate_left(h, u64(7)) ^ wrap_mul(x, u64(0x9E3779B97F4A7C15))",
        "",
    ]
    for bits in (8, 16, 32, 64, 1):
        if f"note{bits}(" in text:
            shape = f"u{bits}" if bits > 1 else "bool"
            number = "x" if bits == 64 else "u64(x)"
            lines += [
                f"def note{bits}(x: {shape}) -> {shape}:",
                f"    TRACE.store(mix(TRACE.load(Order.RELAXED), {number}), Order.RELAXED)",
                "    return x",
                "",
            ]
        if f"swap{bits}(" in text:
            lines += [
                f"def swap{bits}(s: Slice[u{bits}], i: u64, x: u{bits}) -> u{bits}:",
                "    at = i % s.length",
                "    old = s[at]",
                "    s[at] = x",
                "    return old",
                "",
            ]
    return lines


def generate(choices: Choices) -> Program:
    """The program that these decisions make."""
    return Generator(choices).run()


def seeded(seed: int) -> Program:
    """The program of that number; the same on every machine."""
    return generate(Seeded(seed))


def recorded(numbers: tuple[int, ...] | list[int]) -> Program:
    """The program that those decisions make."""
    return generate(Recorded(numbers))


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """Programs for hypothesis."""
    return generate(Drawn(draw))
