# SPDX-License-Identifier: Apache-2.0
"""What a protected guest asks for, by any function and with any arguments: EL2 never traps; what it does not know is NOT_SUPPORTED and nothing else;
a page is touched only inside a window of RAM and a device's only inside one of devices, whole pages both; and the host is shown x0 to x3 of PSCI's
calls, and nothing of any other.

What general registers hold is an unknown function of their number. Callees are written down, and what was called, with what, in which order is
required.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from types import SimpleNamespace
from typing import Any

import z3  # type: ignore[import-untyped]

from delphyne.el2.arch import byte_order
from delphyne.el2.arch.err import Err
from delphyne.el2.guest import guards, manifest, mmio_guard, private, processors, registers, steps, turns
from delphyne.el2.guest.manifest import WindowKind
from delphyne.el2.guest.registers import Expects
from delphyne.el2.guest.steps import Fate
from delphyne.el2.kvm import guest_features, guest_random, protected_calls, protected_end, protected_faults, stage
from delphyne.el2.kvm.faults import Access
from delphyne.el2.kvm.protected_faults import Answer, Outcome
from delphyne.el2.memory import frames
from delphyne.el2.memory.graveyard import GUESTS_LOCK
from delphyne.el2.memory.host_map import HOST_LOCK
from delphyne.el2.sealing import engine
from delphyne.lang import Ipa, Pa, load_le64, u8, u64
from delphyne.lang.locks import held_locks
from delphyne.prove.memory import Only
from delphyne.prove.path import Formula, Term, current
from delphyne.prove.recorded import Call, Choice, Recorder
from delphyne.prove.symbolic import integer, term
from delphyne.prove.theorem import Given, theorem
from delphyne.prove.trace import Called, events

IRQ, ILLEGAL, GOES_ON = 0, 3, 0xFFFF
SUCCESS, NOT_SUPPORTED, INVALID, DENIED, ALREADY_ON, INTERNAL = 0, -1, -3, -4, -4, -6
VERSION, FEATURES, UID, HYPERVISOR = 0x8000_0000, 0x8000_0001, 0x8600_FF01, 0x8600_0000
WORKAROUNDS = (0x8000_8000, 0x8000_3FFF)
MEMORY_INFO, SHARE, UNSHARE, GUARD_INFO, ENROLL, MAP, UNMAP, RELINQUISH = (0xC600_0002 + number for number in range(8))
STATUS, BEGIN, MEASURE, COMMIT, SHARE_RANGE, UNSHARE_RANGE, MEASUREMENT = (0xC600_DE00 + number for number in range(7))
RANDOM_32, RANDOM_64 = 0x8400_0053, 0xC400_0053
DESCRIBED = (VERSION, FEATURES, *WORKAROUNDS, UID, HYPERVISOR, MEMORY_INFO, GUARD_INFO, STATUS, MEASUREMENT, BEGIN, MEASURE, COMMIT)
RANDOM_DESCRIBED = (0x8400_0050, 0x8400_0051, 0x8400_0052)
SHOWN_CALL = 0x16 << 26 | 1 << 25
"""The syndrome of HVC #0."""
PAGES_AT_ONCE = 3
ALL_LOCKS = (frames.LOCK, HOST_LOCK, GUESTS_LOCK)
about = partial(theorem, trusts=("the stand-ins of callees do no more than their docstrings say",
                                 "a protected guest's seat names its guard, whose manifest never changes"))


class Bytes:
    """An array of bytes, of which only a view of all is taken."""

    def __getitem__(self, key: slice) -> Bytes:
        current().require(z3.BoolVal(key == slice(None)), "all of it")
        return self


class Caller:
    """A protected guest that calls, with any registers; every callee is written down."""

    def __init__(self, given: Given) -> None:
        self.given, self.log = given, Recorder(given)
        self.index = given.u64("guard")
        given.assume(z3.ULT(term(self.index), 32))
        self.guard: Any = SimpleNamespace(manifest=Bytes(), measurement=Bytes(), mmio=object())
        self.own, self.processor = Pa(given.u64("own")), given.u64("processor")
        self.seat: Any = SimpleNamespace(own=self.own, guard=self.index + 1, processor=self.processor)
        self.places: Any = object()
        self.here = (self.seat, self.places)
        self.back = z3.BitVec("register ELR_EL2", 64)
        given.replace(guards.GUARDS, SimpleNamespace(slots=Only(self.index, self.guard)))
        self.log.stand_in("put", registers.put_general)
        self.general = z3.Function("general register", z3.BitVecSort(64), z3.BitVecSort(64))
        for number in range(4):
            given.path.inputs[f"x{number}"] = self.x(number)
        given.replace(registers.general, self._general)

    def _general(self, base: Pa, number: u64) -> u64:
        self.given.require(z3.And(term(base) == term(self.own), z3.ULE(term(number), 3)), "x0 to x3 of this CPU's are read, and no others")
        made: u64 = integer(self.general(term(number)))
        return made

    def x(self, number: int) -> Term:
        """A general register."""
        return self.general(z3.BitVecVal(number, 64))

    def put(self, number: int, x: Term | int) -> Call:
        """The write of one."""
        return ("put", self.own, u64(number), z3.BitVecVal(x, 64) if isinstance(x, int) else x)

    def under(self, locks: tuple[Any, ...], result: Callable[[], Any] = lambda: None) -> Callable[..., Any]:
        """An answer that is given while just these locks are held."""

        def answer(*arguments: Any) -> Any:
            self.given.require([lock is one for lock, one in zip(held_locks(0), locks, strict=True)] == [True] * len(locks), "under its locks")
            return result()

        return answer

    def windows(self, *kinds: WindowKind) -> list[WindowKind]:
        """Addresses of the manifest are of any of these kinds, each time one is asked for; they are returned as they are found."""
        found: list[WindowKind] = []

        def kind_of(view: Any, page: Ipa) -> WindowKind:
            self.given.require(view is self.guard.manifest, "this guest's manifest")
            self.given.require(self.is_page(term(page)), "a manifest is asked about whole pages below the limit of addresses")
            self.given.require(held_locks(0)[-1] is GUESTS_LOCK, "under its lock")
            found.append(self.given.one_of(f"window {len(found)}", kinds))
            return found[-1]

        self.given.replace(manifest.kind_of, kind_of)
        return found

    def is_page(self, address: Term) -> Formula:
        """A page of addresses that guests have."""
        return z3.And(z3.Extract(11, 0, address) == 0, z3.ULT(address, 1 << 40))

    def requires(self, code: u64, wanted: int | u64, calls: list[Call], what: str) -> None:
        """The code, and the calls; the guest makes its call again exactly where that is `again`."""
        self.given.require(term(code) == (z3.BitVecVal(wanted, 64) if isinstance(wanted, int) else term(wanted)), f"{what}: the code")
        self.log.requires(calls, what)

    def requires_again(self, again: bool, what: str) -> None:
        """The guest stands at its instruction again, or behind it as it was."""
        made = [event for event in events() if isinstance(event, Called) and not event.name.startswith(("lock ", "unlock "))]
        self.given.require(len(made) == again, f"{what}: {'again' if again else 'once'}")
        for event in made:
            self.given.require(event.name == "msr ELR_EL2" and event.argument == self.back - 4, f"{what}: at its instruction")


@about(protected_calls.serve, outcomes=("power", "page", "range", "devices", "random", "told"),
       assumes=tuple(f"protected_calls.{name}" for name in ("power", "page", "page_range", "devices", "described")))
def serve(given: Given) -> None:
    """The low half of x0 is the function, whatever the other half holds; each goes to its own part, and what has none is only told something."""
    by, code, told = Caller(given), given.u64("code of the part"), given.u64("what is told")
    parts = {"power": protected_calls._serve_power, "page": protected_calls._serve_page, "range": protected_calls._serve_range,
             "devices": protected_calls._guard_devices}
    for name, part in parts.items():
        by.log.stand_in(name, part, lambda *arguments: code)
    by.log.stand_in("random", guest_random.serve)
    by.log.stand_in("told", protected_calls._describe, lambda *arguments: told)
    result = protected_calls.serve(by.seat, by.places)
    by.requires_again(False, "whatever is asked")
    function = by.x(0) & 0xFFFF_FFFF
    if given.holds(z3.Or(z3.ULE(function - 0x8400_0000, 0x1F), z3.ULE(function - 0xC400_0000, 0x1F))):
        given.outcome("power")
        by.requires(result, code, [("power", *by.here, function & 0x1F)], "PSCI")
    elif given.holds(z3.Or([function == known for known in (SHARE, UNSHARE, RELINQUISH)])):
        given.outcome("page")
        by.requires(result, code, [("page", *by.here, function)], "a page")
    elif given.holds(z3.Or([function == known for known in (SHARE_RANGE, UNSHARE_RANGE)])):
        given.outcome("range")
        by.requires(result, code, [("range", *by.here, function)], "pages")
    elif given.holds(z3.Or([function == known for known in (ENROLL, MAP, UNMAP)])):
        given.outcome("devices")
        by.requires(result, GOES_ON, [("devices", by.seat, function), by.put(0, term(code))], "devices")
    elif given.holds(z3.Or(function == RANDOM_32, function == RANDOM_64)):
        given.outcome("random")
        by.requires(result, GOES_ON, [("random", by.seat, function == RANDOM_64)], "random bytes")
    else:
        given.outcome("told")
        by.requires(result, GOES_ON, [("told", by.seat, function), by.put(0, term(told))], "any other")


@about(protected_calls.serve, protected_calls._describe, protected_calls._answer)
def unknown(given: Given) -> None:
    """A function that EL2 does not know is NOT_SUPPORTED: x0 becomes -1, no other register is written, the host hears of nothing, no lock is
    taken."""
    by = Caller(given)
    function = by.x(0) & 0xFFFF_FFFF
    known = (*DESCRIBED, *RANDOM_DESCRIBED, SHARE, UNSHARE, RELINQUISH, SHARE_RANGE, UNSHARE_RANGE, ENROLL, MAP, UNMAP, RANDOM_32, RANDOM_64)
    given.assume(z3.And([function != one for one in known]))
    given.assume(z3.UGT(function - 0x8400_0000, 0x1F), z3.UGT(function - 0xC400_0000, 0x1F))
    by.requires(protected_calls.serve(by.seat, by.places), GOES_ON, [by.put(0, NOT_SUPPORTED)], "an unknown one")
    given.require(not events(), "nothing else is done")


@about(protected_calls._describe, protected_calls._answer_four, outcomes=(*(hex(known) for known in DESCRIBED), "any other"))
def described(given: Given) -> None:
    """What EL2 says of itself and of the guest: the versions of its interfaces, the page's size for calls whose unused arguments are zero, this
    guest's own measurement; and that it is protected already. No more registers are written than the call has results."""
    by, said = Caller(given), given.u64("what others say")
    function = integer(z3.ZeroExt(32, given.word("function", 32)))
    for name, part in (("feature", guest_features.feature), ("call", guest_features.call), ("random", guest_random.describe),
                       ("status", guest_random.status)):
        by.log.stand_in(name, part, lambda *arguments: said)
    words = [given.u64(f"measurement {number}") for number in range(4)]

    def load(view: Any, offset: u64) -> u64:
        given.require(view is by.guard.measurement and held_locks(0)[-1] is GUESTS_LOCK and offset % 8 == 0, "a word of its own, under its lock")
        return words[int(offset) // 8]

    given.replace(load_le64, load)
    answer = term(protected_calls._describe(by.seat, function))
    known = next((one for one in DESCRIBED if given.holds(term(function) == one)), None)
    given.outcome("any other" if known is None else hex(known))
    unused = z3.And([by.x(number) == 0 for number in (1, 2, 3)])
    wanted: tuple[Any, list[Call]]
    if known == VERSION:
        wanted = (0x1_0001, [])
    elif known == FEATURES:
        wanted = (term(said), [("feature", by.x(1))])
    elif known in WORKAROUNDS:
        wanted = (term(said), [("call", function)])
    elif known == UID:
        uid = (0xB66F_B428, 0xE911_C52E, 0x564B_CAA9, 0x743A_004D)
        wanted = (uid[0], [by.put(number, word) for number, word in enumerate(uid)])
    elif known == HYPERVISOR:
        wanted = (0x3FD, [by.put(0, 0x3FD), *(by.put(number, 0) for number in (1, 2, 3))])
    elif known in (MEMORY_INFO, GUARD_INFO):
        wanted = (z3.If(unused, z3.BitVecVal(4096, 64), z3.BitVecVal(INVALID, 64)), [])
    elif known == STATUS:
        wanted = (SUCCESS, [by.put(1, 1), ("status",), by.put(2, term(said) | 1)])
    elif known == MEASUREMENT:
        wanted = (SUCCESS, [by.put(number + 1, term(word)) for number, word in enumerate(words)])
    elif known is not None:
        wanted = (DENIED, [])
    else:
        wanted = (term(said), [("random", by.seat, function)])
    given.require(answer == wanted[0], "what x0 becomes")
    by.log.requires(wanted[1], "what else is said")
    by.requires_again(False, "what is told")


@about(protected_calls._window, protected_calls._window_held, outcomes=("no page", "a page"))
def window(given: Given) -> None:
    """Where a page lies is what the guest's manifest says; an address inside a page, or beyond the limit of addresses, lies nowhere, and no
    manifest is asked."""
    by, address = Caller(given), given.u64("address")
    found = by.windows(*WindowKind)
    kind = protected_calls._window(by.seat, address)
    is_page = given.holds(by.is_page(term(address)))
    given.outcome("a page" if is_page else "no page")
    given.require(found == ([kind] if is_page else []) and (is_page or kind is WindowKind.NONE), "as the manifest says of a page")


@about(protected_calls._guard_devices, outcomes=("enrolled", "done", "refused", "no device"), assumes=("protected_calls.window",))
def devices(given: Given) -> None:
    """A page is mapped and unmapped only where a window of devices has it; any other address is INVALID, and changes nothing."""
    by, refused = Caller(given), Choice(given, "the list is full")
    function = given.one_of("function", (ENROLL, MAP, UNMAP))
    parts = {ENROLL: mmio_guard.enroll, MAP: mmio_guard.map_page, UNMAP: mmio_guard.unmap_page}
    for number, part in parts.items():
        by.log.stand_in(hex(number), part, by.under((GUESTS_LOCK,), lambda: Err.NO_MEMORY if refused else None))
    found = by.windows(*WindowKind)
    answer = term(protected_calls._guard_devices(by.seat, u64(function)))
    by.requires_again(False, "devices")
    address = by.x(1)
    if function == ENROLL:
        given.outcome("enrolled")
        by.log.requires([(hex(ENROLL), by.guard.mmio)], "it is enrolled")
        given.require(z3.And(answer == SUCCESS, not found), "whatever x1 is")
    elif found == [WindowKind.MMIO]:
        given.outcome("refused" if refused else "done")
        by.log.requires([(hex(function), by.guard.mmio, z3.LShR(address, 12))], "the page of a device")
        given.require(z3.And(answer == (INVALID if refused else SUCCESS), by.is_page(address)), "said as it went")
    else:
        given.outcome("no device")
        by.log.requires([], "no page of a device")
        given.require(answer == INVALID, "is refused")


def _again(by: Caller, page: Term, why: Outcome, status: u8, shown: u64, code: u64) -> list[Call]:
    """The host is asked for the page where it has to give one, and else told of an interrupt, or that the guest ended."""
    by.requires_again(True, "the guest calls again")
    if why is Outcome.SHOWN:
        by.given.require(term(code) == term(shown), "as the host is asked")
        return [("ask for", *by.here, page, status)]
    by.given.require(code == (IRQ if why is Outcome.LATER else ILLEGAL), "an interrupt, or the end")
    return []


@about(protected_calls._serve_page, protected_calls._do, protected_calls._wait, outcomes=("no page", "answered", "again"),
       assumes=("protected_calls.window", "protected_calls.held"))
def page(given: Given) -> None:
    """A page is shared, unshared or given up only where a window of RAM has it and the unused arguments are zero; else it is INVALID, and nothing is
    done. Where it has to come back first the call is made again, and its registers are as they were."""
    by, shown, status = Caller(given), given.u64("as the host is asked"), given.u8("status")
    outcome = Outcome.DONE
    function = given.u64("function")
    found = by.windows(*WindowKind)

    def do() -> Answer:
        nonlocal outcome
        outcome = given.one_of("outcome", tuple(Outcome))
        return Answer(outcome, status)

    by.log.stand_in("do", protected_calls._do_held, by.under(ALL_LOCKS, do))
    by.log.stand_in("ask for", protected_faults.show_memory, lambda *arguments: shown)
    code = protected_calls._serve_page(by.seat, by.places, function)
    address = by.x(1)
    allowed = given.holds(z3.And(by.is_page(address), by.x(2) == 0, by.x(3) == 0)) and found == [WindowKind.RAM]
    done: Call = ("do", by.seat, address, function)
    if not allowed:
        given.outcome("no page")
        by.requires(code, GOES_ON, [by.put(0, INVALID)], "what is no page of RAM")
        by.requires_again(False, "what is no page of RAM")
    elif outcome in (Outcome.DONE, Outcome.REFUSED):
        given.outcome("answered")
        by.requires(code, GOES_ON, [done, by.put(0, SUCCESS if outcome is Outcome.DONE else INVALID)], "a page of RAM")
        by.requires_again(False, "a page of RAM")
    else:
        given.outcome("again")
        by.log.requires([done, *_again(by, address, outcome, status, shown, code)], "a page that has to come back")


@about(protected_calls._serve_range, protected_calls._wait, outcomes=("some", "none", "nothing asked", "again"),
       assumes=("protected_calls.window", "protected_calls.held", "turns.is_mine", "turns.over"))
def page_range(given: Given) -> None:
    """However many are asked for, from wherever: pages one after the other, each found in a window of RAM before it is touched, none beyond the
    limit of addresses and none from 0 on again; no more than three, and one out of turn. x1 is how many were done; INVALID where none was."""
    by, shown, status = Caller(given), given.u64("as the host is asked"), given.u8("status")
    is_quick, is_turn = Choice(given, "quick"), Choice(given, "its turn")
    shares = given.boolean("shares")
    outcomes: list[Outcome] = []
    found = by.windows(WindowKind.RAM, WindowKind.MMIO)

    def do() -> Answer:
        given.require(len(found) == len(outcomes) + 1 and found[-1] is WindowKind.RAM, "the page was found in RAM just now")
        outcomes.append(given.one_of(f"outcome {len(outcomes)}", tuple(Outcome)))
        return Answer(outcomes[-1], status)

    by.log.stand_in("do", protected_calls._do_held, by.under(ALL_LOCKS, do))
    by.log.stand_in("ask for", protected_faults.show_memory, lambda *arguments: shown)
    given.replace(engine.is_quick, lambda: is_quick)
    given.replace(turns.is_mine, by.under(ALL_LOCKS, lambda: is_turn))
    by.log.stand_in("over", turns.over, by.under(ALL_LOCKS))
    code = protected_calls._serve_range(by.seat, by.places, u64(SHARE_RANGE if shares else UNSHARE_RANGE))
    address, count, done = by.x(1), by.x(2), outcomes.count(Outcome.DONE)
    is_piece = given.holds(z3.UGT(count, 1)) and bool(is_quick) and bool(is_turn)
    given.require(z3.UGE(count, len(outcomes)), "no more than are asked for")
    given.require(len(outcomes) <= (PAGES_AT_ONCE if is_piece else 1), "nor than one stay is for")
    given.require(all(outcome is Outcome.DONE for outcome in outcomes[:-1]), "none behind one that was not done")
    given.require(z3.And([by.is_page(address + 4096 * number) for number in range(len(outcomes))]), "whole pages of the guest's")
    calls: list[Call] = [("do", by.seat, address + 4096 * number, u64(SHARE if shares else UNSHARE)) for number in range(len(outcomes))]
    calls += [("over",)] if is_piece else []
    last = outcomes[-1] if outcomes else Outcome.DONE
    if done == 0 and last not in (Outcome.DONE, Outcome.REFUSED):
        given.outcome("again")
        by.log.requires([*calls, *_again(by, address, last, status, shown, code)], "the first has to come back")
        return
    nothing = given.holds(count == 0)
    given.outcome("some" if done else "nothing asked" if nothing else "none")
    stopped = z3.Or(last is not Outcome.DONE, found[-1:] == [WindowKind.MMIO], z3.Not(by.is_page(address + 4096 * done)))
    given.require(z3.Or(stopped, count == done, done == (PAGES_AT_ONCE if is_piece else 1)), "and as many as that")
    answer = SUCCESS if done or nothing else INVALID
    by.requires(code, GOES_ON, [*calls, by.put(1, done), by.put(0, answer)], "as many as were done")
    by.requires_again(False, "pages")


class Gone:
    """What became of a page that leads nowhere, which is decided where somebody asks."""

    def __init__(self, given: Given) -> None:
        self.given = given

    @cached_property
    def fate(self) -> Fate:
        """Any."""
        made: Fate = self.given.one_of("fate", tuple(Fate))
        return made


@about(protected_calls._do_held, outcomes=("given up", "not to be written", "not back yet", "done", "refused"),
       assumes=("private.reading", "private.share", "private.unshare", "private.give_up"))
def held(given: Given) -> None:
    """A page that the guest may not write is not shared, and is left where it is; one that is with the host, held or on its way is there before it is
    shared, as one that may be written. Of this guest's pages alone, and of this one."""
    by, walk = Caller(given), object()
    where, clean, refused = Ipa(given.u64("page")), Choice(given, "clean"), Choice(given, "refused")
    function = given.one_of("function", (SHARE, UNSHARE, RELINQUISH))
    absent, brought = Gone(given), []

    def bring_it(*arguments: Any) -> Answer:
        brought.append(Answer(given.one_of("brought", tuple(Outcome)), u8(0)))
        return brought[0]

    def is_clean(asked: Any) -> Choice:
        given.require(asked is absent and absent.fate in (Fate.EXPORTED, Fate.HELD), "asked of a page that is exported or held")
        return clean

    given.replace(steps.find, lambda index, page: walk if given.holds(z3.And(term(index) == term(by.index), term(page) == term(where))) else None)
    given.replace(steps.absent_of, lambda found: absent if found is walk else None)
    given.replace(private.is_clean, is_clean)
    by.log.stand_in("bring", protected_faults.bring, bring_it)
    by.log.stand_in("share", private.share, lambda *arguments: Err.STATE if refused else None)
    by.log.stand_in("unshare", private.unshare, lambda *arguments: Err.STATE if refused else None)
    by.log.stand_in("give up", private.give_up)
    with frames.LOCK, HOST_LOCK, GUESTS_LOCK:
        answer = protected_calls._do_held(by.seat, where, u64(function))
    away = function == SHARE and absent.fate in (Fate.EXPORTED, Fate.HELD, Fate.MOVING)
    bring: Call = ("bring", by.seat, where, Access.WRITE)
    mine = (by.index, where)
    if function == RELINQUISH:
        given.outcome("given up")
        by.log.requires([("give up", *mine)], "given up")
        given.require(answer.outcome is Outcome.DONE, "which always goes")
    elif away and absent.fate is not Fate.MOVING and clean:
        given.outcome("not to be written")
        by.log.requires([], "nothing happens to it")
        given.require(answer.outcome is Outcome.REFUSED, "refused")
    elif away and brought[0].outcome is not Outcome.DONE:
        given.outcome("not back yet")
        by.log.requires([bring], "it has to come back")
        given.require(answer is brought[0], "as it went")
    else:
        given.outcome("refused" if refused else "done")
        by.log.requires([*([bring] if away else []), ("share" if function == SHARE else "unshare", *mine)], "it is there")
        given.require(answer.outcome is (Outcome.REFUSED if refused else Outcome.DONE), "as it went")


@about(protected_calls._serve_power, protected_calls.pass_on,
       outcomes=("on", "on already", "too many", "off", "end", "no suspend", "passed on"))
def power(given: Given) -> None:
    """The host is shown a PSCI call as an HVC with x0 to x3, and no other register. A CPU is turned on where EL2 knows where it begins, and the host
    hears of one only then; one that turns itself off takes nothing back; an end begins at EL2; and a guest's memory is never suspended."""
    by, answer, shown = Caller(given), given.u64("answer"), given.u64("as the host is shown")
    number, target = integer(z3.ZeroExt(59, given.word("function", 5))), given.u64("processor that is turned on")
    failed = Choice(given, "not turned on")
    big, result = Choice(given, "big-endian"), []

    def turned() -> u64 | Err:
        result.append(given.one_of("why", (Err.EXISTS, Err.NO_MEMORY)) if failed else target)
        return result[0]

    given.replace(byte_order.is_big_endian, lambda: big)
    by.log.stand_in("turn on", processors.turn_on, by.under((GUESTS_LOCK,), turned))
    by.log.stand_in("turn off", processors.turn_off, by.under((GUESTS_LOCK,)))
    by.log.stand_in("end", protected_end.begin, lambda *arguments: answer)
    by.log.stand_in("show", stage.show, lambda *arguments: shown)
    by.log.stand_in("show general", stage.show_general)
    code = protected_calls._serve_power(by.seat, by.places, number)
    by.requires_again(False, "power")
    kind = next((one for one in (2, 3, 8, 9, 14, 18) if given.holds(term(number) == one)), None)
    calls: list[Call] = []
    what, who = Expects.CALL, u64(0)
    if kind == 3:
        calls.append(("turn on", by.index, by.x(1), by.x(2), by.x(3), big))
        if failed:
            given.outcome("on already" if result[0] is Err.EXISTS else "too many")
            by.requires(code, GOES_ON, [*calls, by.put(0, ALREADY_ON if result[0] is Err.EXISTS else INTERNAL)], "a CPU that is not turned on")
            return
        what, who = Expects.POWER_ON, target
    elif kind == 2:
        calls.append(("turn off", by.processor))
        what = Expects.NOTHING
    elif kind in (8, 9, 18):
        given.outcome("end")
        by.requires(code, answer, [("end", by.seat)], "an end")
        return
    elif kind == 14:
        given.outcome("no suspend")
        by.requires(code, GOES_ON, [by.put(0, NOT_SUPPORTED)], "suspending the machine")
        return
    given.outcome({3: "on", 2: "off"}.get(kind or 0, "passed on"))
    calls.append(("show", *by.here, z3.BitVecVal(SHOWN_CALL, 64), what, who))
    by.requires(code, shown, [*calls, *(("show general", *by.here, u64(one)) for one in range(4))], "what the host hears of")
