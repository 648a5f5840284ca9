# SPDX-License-Identifier: Apache-2.0
"""Every refusal by number: what it is, why the language has the rule, what to write instead, one wrong and one right program.

The examples are whole modules. In a wrong one the comment `# <- text` names the text on its line at which the refusal is reported. Tests
compile both.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """One kind of refusal."""

    title: str
    reason: str
    remedy: str
    wrong: str
    right: str


ENTRIES: dict[str, Entry] = {}


def _entry(code: str, title: str, reason: str, remedy: str, wrong: str = "", right: str = "") -> None:
    ENTRIES[code] = Entry(title, reason, remedy, wrong, right)


_entry("E0101", "statement outside the subset", "", "use the statements of docs/language.md section 5")
_entry("E0102", "expression outside the subset", "", "use the expressions of docs/language.md")
_entry("E0103", "parameters other than plain ones", "", "write plain parameters, and pass every argument at the call")
_entry("E0104", "missing annotation", "", "annotate every parameter and the result")
_entry("E0105", "nested function or class", "", "move it to the top level of the module")
_entry("E0106", "unsupported assignment", "", "assign one thing to one place: a name, a field, an element, or `a, b = ...`")
_entry("E0107", "loop outside the subset", "", "write `for i in u64.range(start, stop)` or `while condition:`, without else")
_entry("E0108", "match outside the subset", "", "match an enum with `case E.A | E.B:` and `case _:`; use if/elif for anything else")
_entry("E0109", "statement never reached", "", "remove it")
_entry("E0110", "not Python", "", "correct the syntax")
_entry("E0111", "unknown decorator", "", "use the decorators of docs/language.md section 5")
_entry("E0112", "with-statement outside the subset", "", "write `with LOCK:`, `with owned(pa, size) as window:` or `with simd(area):`")
_entry("E0201", "types do not match", "", "convert explicitly, or correct the annotation")
_entry("E0202", "widths are mixed", "", "widen with `u64(x)` or take the low bits with `u32.wrap(x)`")
_entry("E0203", "bare literal", "", "give the literal a width: `u64(5)`")
_entry("E0204", "condition is not bool", "", "compare: `x != 0`")
_entry("E0205", "unknown name", "", "import or define it")
_entry("E0206", "not a type of the language", "", "use the types of docs/language.md")
_entry("E0207", "no such attribute", "", "correct the name")
_entry("E0208", "wrong arguments", "", "pass each parameter once, keywords in the order of the parameters")
_entry("E0209", "operator not defined", "", "use an operator that both types have")
_entry("E0210", "literal does not fit", "", "use a wider type")
_entry("E0211", "variable with two types", "", "use a second variable, or annotate the first assignment")
_entry("E0212", "variable may be unassigned", "", "assign it on every way that leads here")
_entry("E0213", "function can end without a result", "", "return a value on every way")
_entry("E0214", "not a value", "", "call it, or name a value")
_entry("E0215", "inheritance or generics", "", "write a class of its own for each use")
_entry("E0216", "field type not allowed", "", "use the field types of docs/language.md section 2")
_entry("E0217", "assignment to part of a value", "", "values are immutable: build a new one")
_entry("E0218", "conversion is none", "", "leave it out, or convert from the type that is meant")
_entry("E0219", "bit field wrong", "", "declare fields inside the width, at least as wide a type as bits")
_entry("E0220", "log message outside the subset", "", 'write log(Level.INFO, f"text {x} {y:x}") with at most six integers, bools, enums or addresses')
_entry("E0301", "reference outlives what it refers to", "", "return references only to parameters and statics; copy with `copy_from` otherwise")
_entry("E0302", "reference stored", "", "copy with `a.copy_from(b)`, or store a Handle")
_entry("E0303", "write through a read-only view", "", "take a Slice of a place that may be written")
_entry("E0304", "place built inside an expression", "", "give it a name first: `x = Vm()`")
_entry("E0305", "place rebuilt while still referred to", "", "use a second variable, or rebuild after the last use of the other name")
_entry("E0306", "reference used after its `with`", "", "use it inside the `with`, or copy out what is needed")
_entry("E0401", "guarded static without its lock", "", "take the lock with `with LOCK:`, or mark the function @holds(LOCK)")
_entry("E0402", "callee needs a lock that is not held", "", "call it inside `with LOCK:`, or mark the caller @holds(LOCK)")
_entry("E0403", "lock order", "", "take locks in rising rank")
_entry("E0404", "recursion", "", "use a loop")
_entry("E0405", "frozen static written after boot", "", "write it in a @boot function, or guard it by a lock")
_entry("E0406", "boot function called after boot", "", "call it from a @boot function or an @entry point")
_entry("E0407", "mutable static without a keeper", "", "wrap it: constant(..), frozen(..), guarded(LOCK, ..) or per_cpu(..)")
_entry("E0408", "assignment to a module-level name", "", "change the static's fields or elements, or use a local")
_entry("E0409", "another CPU's data", "", "use `.mine()`, or move the code into a @boot function")
_entry("E0410", "static that cannot be compiled", "", "use the objects of docs/language.md section 4")
_entry("E0411", "lock taken while held", "", "take it once; mark inner functions @holds(LOCK)")
_entry("E0501", "option used before it is known to hold something", "", "check with `is None` first")
_entry("E0502", "result used before it is known to be no error", "", "check with `isinstance(x, Err)` first")
_entry("E0503", "result not used", "", "check it, or assign it and say why it does not matter")
_entry("E0504", "test that cannot be", "", "remove the test")
_entry("E0505", "isinstance outside errors", "", "use isinstance only on `T | Err`, with Err")
_entry("E0601", "secret would show", "", "compute without branching, or `declassify` it where the protocol makes it public")
_entry("E0602", "secret in trapping arithmetic", "", "use wrap_add, & | ^ ~ and shifts by public amounts")
_entry("E0603", "SIMD function called outside `with simd`", "", "call it inside `with simd(area):` or from a @simd function")
_entry("E0604", "raw address outside the named modules", "", "move the access into a module of the compiler's list, or use what those modules offer")
_entry("E0605", "V128 outside @simd", "", "mark the function @simd")
_entry("E0701", "module cannot be imported", "", "correct what the import reports")
_entry("E0702", "import against the arrows", "", "move the code, or let the upper room pass what is needed")
_entry("E0703", "import from outside", "", "EL2 modules import only delphyne.lang and delphyne.el2")
_entry("E0704", "star import", "", "import names or modules")
_entry("E0705", "no such file or module", "", "give the path of a Python file or the name of a module")


def explain(code: str) -> str | None:
    """The text that `delphyne explain CODE` prints, or None for an unknown number."""
    entry = ENTRIES.get(code.upper())
    if entry is None:
        return None
    return (
        f"{code.upper()}: {entry.title}\n\n{entry.reason}\n\nInstead: {entry.remedy}.\n\n"
        f"Wrong:\n\n{_indent(entry.wrong)}\n\nRight:\n\n{_indent(entry.right)}\n"
    )


def _indent(text: str) -> str:
    return "\n".join("    " + line if line else "" for line in text.strip().splitlines())
