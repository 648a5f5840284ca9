# SPDX-License-Identifier: Apache-2.0
"""A protected guest's stage-2 faults: its window decides, and the host is shown a page, or one access to a device, or nothing."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import z3  # type: ignore[import-untyped]

from delphyne.el2.arch import byte_order, inject
from delphyne.el2.arch.err import Err
from delphyne.el2.arch.exception import FAR_EL2, AbortIss, Esr
from delphyne.el2.arch.pagetable import Stage2Leaf
from delphyne.el2.guest import guards, manifest, mmio_guard, moving, private, steps, vms, whole
from delphyne.el2.guest.guards import Phase
from delphyne.el2.guest.manifest import Window, WindowKind
from delphyne.el2.guest.registers import BIG_ENDIAN, OWN, Expects
from delphyne.el2.guest.steps import Absent, Fate
from delphyne.el2.kvm import faults, host_tables, near, protected_faults, stage
from delphyne.el2.kvm.faults import Access
from delphyne.el2.kvm.host_tables import Walked
from delphyne.el2.kvm.protected_faults import Answer, Outcome
from delphyne.el2.memory import flush, frames, graveyard, shadow
from delphyne.el2.memory.graveyard import GUESTS_LOCK
from delphyne.el2.memory.host_map import HOST_LOCK
from delphyne.el2.memory.shadow import HostLeaf
from delphyne.lang import Ipa, Pa, u8, u64
from delphyne.prove.memory import Only
from delphyne.prove.path import Term
from delphyne.prove.symbolic import integer, term
from delphyne.prove.theorem import Given, theorem
from delphyne.prove.theorems.faults import Table, bit, page_at, standing_in
from delphyne.prove.theorems.stage import Stage

GOES_ON, IRQ, ILLEGAL, TRAP = 0xFFFF, 0, 3, 2
DATA_ABORT = 0x24 << 26 | 1 << 25
LOCKED = "frames.LOCK, HOST_LOCK and GUESTS_LOCK are held: nobody else changes tables, guards or shadows meanwhile"
about = partial(theorem, trusts=(LOCKED,))


def below(given: Given, name: str, limit: int) -> u64:
    """An arbitrary number below a limit."""
    made = given.u64(name)
    given.assume(z3.ULT(term(made), limit))
    return made


@theorem(protected_faults.show_memory, assumes=("stage.show_access", "stage.page_register"))
def show_memory(given: Given) -> None:
    """The host is asked for a page and learns nothing but its number: a write without a syndrome, no offset, no register, nothing to give back."""
    shown, page, status = Stage(given), page_at(given, "page"), given.word("status", 6)
    code = protected_faults.show_memory(shown.seat, shown.places, Ipa(integer(page)), integer(z3.ZeroExt(2, status), u8))
    syndrome = z3.BitVecVal(DATA_ABORT | 1 << 6, 64) | z3.ZeroExt(58, status)
    shown.requires_words(pc=0, pstate=0x3C5, syndrome=syndrome, address=0, page=z3.LShR(page, 8))
    shown.requires_general()
    shown.requires_kept(ASKED=z3.BitVecVal(1 << 6, 64) | z3.ZeroExt(58, status), EXPECTS=z3.BitVecVal(0, 64), TARGET=z3.BitVecVal(0, 64))
    given.require(z3.And(term(code) == TRAP, term(shown.seat.fault_again) == page + 1), "and it is looked for again")


@theorem(protected_faults._serve_device, outcomes=("refused", "read", "written"),
         assumes=("stage.show_access", "stage.show_stored", "stage.page_register"))
def serve_device(given: Given) -> None:
    """What has no syndrome is never shown. Of an access that has, the host sees the page, the offset in it, size, direction and number of the
    register, and of a store its bytes; no other register and no other bit of the address."""
    iss, page, instruction = given.u64("iss"), page_at(given, "page"), given.boolean("instruction")
    seat, places = SimpleNamespace(own=object()), object()
    big, word, address = given.boolean("big-endian"), term(iss), term(FAR_EL2.read())
    aborted: list[bool] = []
    kept: dict[int, Term] = {}
    shown: list[tuple[Any, ...]] = []
    stored: list[tuple[Any, ...]] = []

    def keep(base: object, offset: u64, x: u64) -> None:
        given.require(base is seat.own, "in EL2's own memory")
        kept[int(offset)] = term(x)

    def show(*arguments: Any) -> u64:
        shown.append(arguments)
        return u64(TRAP)

    with standing_in((byte_order, "is_big_endian", lambda: big), (inject, "external_abort_to_guest", aborted.append),
                     (stage, "show_access", show), (stage, "show_stored", lambda *arguments: stored.append(arguments)),
                     (protected_faults, "answer_word", keep)):
        code = protected_faults._serve_device(seat, places, AbortIss.of(iss), Ipa(integer(page)), instruction)  # type: ignore[arg-type]
    if given.holds(z3.Or(instruction, bit(word, 7), bit(word, 8), z3.Not(bit(word, 24)))):
        given.outcome("refused")
        given.require(aborted == [instruction] and int(code) == GOES_ON, "nobody answers the guest")
        given.require(not kept and not shown and not stored, "and nothing is shown")
        return
    writes = given.holds(bit(word, 6))
    given.outcome("written" if writes else "read")
    told = word & 0x1FF_C040 | 7
    who, where, syndrome, what, target, offset, number = shown[0]
    given.require(who is seat and where is places and len(shown) == 1, "once")
    given.require(term(syndrome.raw) == DATA_ABORT | told, "only size, direction and register")
    given.require(what is (Expects.DONE if writes else Expects.READ), "a register back for a read, nothing for a write")
    given.require(term(target) == z3.ZeroExt(59, z3.Extract(20, 16, word)), "its register")
    given.require(z3.And(term(offset) == address & 4095, term(number) == z3.LShR(page, 8)), "the offset, and the page")
    given.require(len(stored) == int(writes), "what is stored, of a store only")
    for who, where, access, order in stored:
        given.require(z3.And(who is seat, where is places, term(access.raw) == told, order == big), "as the access is")
    given.require(sorted(kept) == sorted((int(OWN.fault_far), int(BIG_ENDIAN))), "what the answer is judged by")
    given.require(z3.And(kept[int(OWN.fault_far)] == address, kept[int(BIG_ENDIAN)] == int(big)), "as it is")
    given.require(int(code) == TRAP and not aborted, "the host is asked")


@about(protected_faults._window, outcomes=("known", "RAM", "MMIO", "held back", "none"), assumes=("manifest.window_of", "protected_faults.is_mapped"))
def window(given: Given) -> None:
    """RAM only where the manifest says so, by itself or as it was found for the same guest before; of devices, to a guest that has enrolled, only
    those that it has mapped. What is remembered is a window of RAM."""
    page, kind = page_at(given, "page"), given.one_of("kind", tuple(WindowKind))
    seat: Any = SimpleNamespace(guard=integer(term(below(given, "guard", 32)) + 1))
    for name in ("identity", "ram_identity", "ram_base", "ram_size"):
        setattr(seat, name, given.u64(name))
    was = {name: term(getattr(seat, name)) for name in ("identity", "ram_identity", "ram_base", "ram_size")}
    text, enrolled, mapped = object(), given.boolean("enrolled"), given.boolean("mapped")
    guard: Any = SimpleNamespace(manifest=None, mmio=SimpleNamespace(enrolled=enrolled))
    one = Window(Ipa(given.u64("base")), given.u64("size"), kind)

    class Bytes:
        """Its manifest."""

        def __getitem__(self, key: slice) -> object:
            return text

    guard.manifest = Bytes()

    def window_of(asked: object, ipa: Ipa) -> Window:
        given.require(asked is text and term(ipa) == page if asked is text else False, "of the page, in the guest's own manifest")
        return one

    with standing_in((protected_faults, "GUARDS", SimpleNamespace(slots=Only(integer(term(seat.guard) - 1), guard))),
                     (manifest, "window_of", window_of), (protected_faults, "_is_mapped", lambda which, iss, at: mapped)), GUESTS_LOCK:
        found = protected_faults._window(seat, AbortIss.of(given.u64("iss")), Ipa(integer(page)))
    now = {name: term(getattr(seat, name)) for name in was}
    if given.holds(z3.And(was["ram_identity"] == was["identity"], z3.ULT(page - was["ram_base"], was["ram_size"]))):
        given.outcome("known")
        given.require(found is WindowKind.RAM, "as it was found")
    elif kind is WindowKind.RAM:
        given.outcome("RAM")
        found_there = z3.And(now["ram_base"] == term(one.base), now["ram_size"] == term(one.size))
        given.require(z3.And(now["ram_identity"] == was["identity"], found_there), "this window")
        given.require(found is kind, "as the manifest says")
        return
    else:
        back = kind is WindowKind.MMIO and enrolled and not mapped
        given.outcome("held back" if back else kind.name if kind is WindowKind.MMIO else "none")
        given.require(found is (WindowKind.NONE if back else kind), "as the manifest says, and the guest's own guard")
    given.require(z3.And([now[name] == was[name] for name in was]), "and nothing else is remembered")


@about(protected_faults._is_mapped, assumes=("mmio_guard.is_mapped",))
def is_mapped(given: Given) -> None:
    """Every page that the access touches is asked about, from its first byte to its last."""
    page, iss, said, asked, guard = page_at(given, "page"), given.u64("iss"), given.boolean("mapped"), [], object()

    def answer(which: object, first: u64, last: u64) -> bool:
        asked.append((which, term(first), term(last)))
        return said

    with standing_in((mmio_guard, "is_mapped", answer)), GUESTS_LOCK:
        found = protected_faults._is_mapped(guard, AbortIss.of(iss), Ipa(integer(page)))  # type: ignore[arg-type]
    offset, size = term(FAR_EL2.read()) & 4095, z3.BitVecVal(1, 64) << z3.ZeroExt(62, z3.Extract(23, 22, term(iss)))
    which, first, last = asked[0]
    given.require(found == said and which is guard, "as the guard says")
    given.require(z3.And(first == z3.LShR(page, 12), last == first + z3.LShR(offset + size - 1, 12)), "of each page that is touched")


@about(protected_faults._is_hosts_turn, outcomes=("the host's turn", "not"), assumes=("near.is_known", "near.find"))
def is_hosts_turn(given: Given) -> None:
    """Only of a guest that is protected, a page that it never touched, and for which the host has nothing."""
    phase, known, vacant, raw = given.one_of("phase", tuple(Phase)), given.boolean("known"), given.boolean("vacant"), given.u64("slot")
    seat: Any = SimpleNamespace(guard=integer(term(below(given, "guard", 32)) + 1))
    number, vm, page = below(given, "vm", 64), object(), Ipa(integer(page_at(given, "page")))
    all_guards = SimpleNamespace(slots=Only(integer(term(seat.guard) - 1), SimpleNamespace(phase=phase, vm=number)))
    with standing_in((protected_faults, "GUARDS", all_guards), (vms, "VMS", SimpleNamespace(slots=Only(number, vm))),
                     (near, "is_known", lambda who, which, at: known and which is vm), (near, "is_vacant", lambda who, at: vacant),
                     (near, "find", lambda who, at: SimpleNamespace(descriptor=SimpleNamespace(raw=raw)))), GUESTS_LOCK:
        found = protected_faults._is_hosts_turn(seat, page)
    given.outcome("the host's turn" if found else "not")
    given.require(z3.And(phase is Phase.PROTECTED and known and vacant, term(raw) == 0) == found, "untouched, and vacant")


@theorem(protected_faults.serve, outcomes=("changed meanwhile", "not EL2's", "RAM", "the host's turn", "MMIO", "nobody's"),
         assumes=("faults.page_of", "faults.access_of", "protected_faults.window", "protected_faults.is_hosts_turn"))
def serve(given: Given) -> None:
    """For every syndrome the window decides: memory is only asked for in RAM, a device only in MMIO; anywhere else, and for any other fault, the
    guest gets an external abort and the host hears nothing."""
    syndrome, instruction, page = given.u64("syndrome"), given.boolean("instruction"), page_at(given, "page")
    done: list[tuple[Any, ...]] = []
    seat, places = object(), object()
    state = {"changed": given.word("changed", 1) == 1, "turn": given.word("turn", 1) == 1}
    kinds: list[WindowKind] = []
    answer = Answer(Outcome.DONE, u8(0))

    def window_of(who: object, iss: AbortIss, at: Ipa) -> WindowKind:
        given.require(GUESTS_LOCK.held_by(0), "under the lock")
        kinds.append(given.one_of("window", tuple(WindowKind)))
        return kinds[0]

    def note(name: str, result: Any) -> Any:
        def run(*arguments: Any) -> Any:
            done.append((name, *arguments))
            return result
        return run

    asked = Ipa(integer(page))
    with standing_in((faults, "page_of", lambda *_: None if given.holds(state["changed"]) else asked), (protected_faults, "_window", window_of),
                     (protected_faults, "_is_hosts_turn", lambda *_: given.holds(state["turn"])),
                     (protected_faults, "show_memory", note("ask", u64(11))), (protected_faults, "_serve_memory", note("memory", answer)),
                     (protected_faults, "_finish", note("finish", u64(12))), (protected_faults, "_serve_device", note("device", u64(13))),
                     (inject, "external_abort_to_guest", note("abort", None))):
        code = int(protected_faults.serve(seat, places, Esr.of(syndrome), instruction))  # type: ignore[arg-type]
    names = [one[0] for one in done]
    if given.holds(state["changed"]):
        given.outcome("changed meanwhile")
        given.require(not done and code == GOES_ON, "the guest tries again")
        return
    if not given.holds(z3.Or([z3.Extract(5, 2, term(syndrome)) == number for number in (1, 2, 3)])):
        given.outcome("not EL2's")
        given.require(done == [("abort", instruction)] and code == GOES_ON and not kinds, "the guest's own")
        return
    if kinds[0] is WindowKind.RAM and given.holds(state["turn"]):
        given.outcome("the host's turn")
        given.require(names == ["ask"] and done[0][3] is asked and int(done[0][4]) == 7 and code == 11, "the host is asked for the page")
    elif kinds[0] is WindowKind.RAM:
        given.outcome("RAM")
        kind = integer(z3.Concat(z3.BitVecVal(0, 2), z3.Extract(5, 2, term(syndrome)), z3.BitVecVal(0, 2)), u8)
        access = faults.access_of(AbortIss.of(integer(term(syndrome) & 0x1FF_FFFF)), kind, instruction)
        given.require(done == [("memory", seat, asked, access), ("finish", seat, places, asked, instruction, answer)] and code == 12, "its page")
    elif kinds[0] is WindowKind.MMIO:
        given.outcome("MMIO")
        given.require(names == ["device"] and done[0][4] is asked and done[0][5] is instruction and code == 13, "one access")
        given.require(term(done[0][3].raw) == term(syndrome) & 0x1FF_FFFF, "as the syndrome has it")
    else:
        given.outcome("nobody's")
        given.require(done == [("abort", instruction)] and code == GOES_ON, "nobody answers")


@theorem(protected_faults._finish, outcomes=tuple(outcome.name for outcome in Outcome), assumes=("protected_faults.show_memory",))
def finish(given: Given) -> None:
    """The host is asked only with SHOWN; a guest that may not do it gets an abort; one that is stopped runs no more."""
    outcome, status, instruction = given.one_of("outcome", tuple(Outcome)), given.u8("status"), given.boolean("instruction")
    asked: list[Any] = []
    aborted: list[bool] = []
    seat, places, page = object(), object(), Ipa(given.u64("page"))

    def show(*arguments: Any) -> u64:
        asked.append(arguments)
        return u64(TRAP)

    with standing_in((protected_faults, "show_memory", show), (inject, "external_abort_to_guest", aborted.append)):
        code = int(protected_faults._finish(seat, places, page, instruction, Answer(outcome, status)))  # type: ignore[arg-type]
    given.outcome(outcome.name)
    wanted = {Outcome.DONE: GOES_ON, Outcome.SHOWN: TRAP, Outcome.LATER: IRQ, Outcome.REFUSED: GOES_ON, Outcome.STOPPED: ILLEGAL}
    given.require(code == wanted[outcome], "its code")
    given.require(aborted == ([instruction] if outcome is Outcome.REFUSED else []), "an abort where it is refused")
    given.require(len(asked) == int(outcome is Outcome.SHOWN), "shown only then")
    for arguments in asked:
        given.require(arguments[2] is page and arguments[3] is status, "the page, and the status of the host's table")


@about(protected_faults._look_again, outcomes=("there", "refused"), assumes=("private.reading",))
def look_again(given: Given) -> None:
    """A page that is there is never taken anew: what its leaf allows goes on once the TLB forgets what it knew, and anything else is refused."""
    access, word, vm, flushed = given.one_of("access", tuple(Access)), given.u64("leaf"), below(given, "vm", 64), []
    index, page, register = below(given, "guard", 32), Ipa(given.u64("page")), object()
    all_guards = SimpleNamespace(slots=Only(index, SimpleNamespace(vm=vm)))

    def vttbr(number: u64) -> object:
        given.require(number is vm, "of its own VM")
        return register

    with standing_in((protected_faults, "GUARDS", all_guards), (vms, "vttbr", vttbr),
                     (flush, "stage2_address", lambda *arguments: flushed.append(arguments))), GUESTS_LOCK:
        answer = protected_faults._look_again(index, page, Stage2Leaf.of(word), access)
    allowed = given.holds({Access.READ: bit(term(word), 6), Access.WRITE: bit(term(word), 7), Access.EXECUTE: z3.Not(bit(term(word), 54))}[access])
    given.outcome("there" if allowed else "refused")
    given.require(answer.outcome is (Outcome.DONE if allowed else Outcome.REFUSED) and answer.status == 0, "as the leaf says")
    given.require(flushed == ([(register, page)] if allowed else []), "and the page is forgotten by the TLB")


@about(protected_faults._failed, outcomes=("later", "stopped"), assumes=("graveyard.work", "guards.stop", "protected_faults.make_room"))
def failed(given: Given) -> None:
    """What lacks room or is busy is tried again after a fixed number of pieces of work; whatever else went wrong stops the guest, and no other."""
    why, room, index = given.one_of("why", tuple(Err)), given.boolean("room comes back"), below(given, "guard", 32)
    done: list[Any] = []
    all_guards = SimpleNamespace(slots=Only(index, SimpleNamespace(identity=given.u64("identity"))))
    with standing_in((protected_faults, "GUARDS", all_guards), (protected_faults, "_make_room", lambda: room),
                     (protected_faults, "log", lambda *_: None),
                     (graveyard, "work", lambda: done.append("work")), (guards, "stop", lambda which: done.append(which))), frames.LOCK, GUESTS_LOCK:
        answer = protected_faults._failed(index, Ipa(given.u64("page")), why)
    later = why is Err.BUSY or (why is Err.NO_MEMORY and room)
    given.outcome("later" if later else "stopped")
    given.require(answer.outcome is (Outcome.LATER if later else Outcome.STOPPED) and answer.status == 0, "as it is")
    given.require(len(done) == (16 if later else 1) and all((one == "work") if later else (one is index) for one in done), "work, or the end of it")


@about(protected_faults._make_room, outcomes=("waiting", "dropped", "refused", "nobody"), assumes=("graveyard.room", "shadow.drop_all"),
       bounds=("protected_faults._make_room: at most two ordinary VMs",))
def make_room(given: Given) -> None:
    """Only the shadow of an ordinary VM that has tables is dropped, of the one that was used least recently, and only where nothing waits."""
    waiting, few = given.boolean("waiting"), given.one_of("VMs", (0, 1, 2))
    results: tuple[Err | None, ...] = (None, Err.BUSY, Err.STATE)
    result: Err | None = given.one_of("result", results)
    dropped: list[object] = []
    has = [given.boolean(f"{number} has tables") for number in range(few)]
    slots = [SimpleNamespace(ticket=u64(number + 5), shadow=SimpleNamespace(top=u64(int(some)))) for number, some in enumerate(has)]

    def oldest(beyond: u64) -> u64 | None:
        return next((u64(number) for number in range(few) if slots[number].ticket > beyond), None)

    def drop_all(which: object) -> Err | None:
        dropped.append(which)
        return result

    with standing_in((graveyard, "is_empty", lambda: not waiting), (vms, "VMS", SimpleNamespace(slots=slots)), (vms, "oldest", oldest),
                     (shadow, "drop_all", drop_all)), GUESTS_LOCK:
        found = protected_faults._make_room()
    given.outcome("waiting" if waiting else "nobody" if True not in has else "refused" if result is Err.STATE else "dropped")
    given.require(found == (waiting or (True in has and result is not Err.STATE)), "whether tables come back")
    given.require(dropped == ([] if waiting or True not in has else [slots[has.index(True)].shadow]), "the first that has some, and no other")


@about(protected_faults._serve_memory, protected_faults.try_again, assumes=("protected_faults.bring",))
def serve_memory(given: Given) -> None:
    """A page is brought under all three locks; a second try only reads, and is the last."""
    seat, page, access, asked = SimpleNamespace(fault_again=given.u64("again")), Ipa(given.u64("page")), given.one_of("access", tuple(Access)), []
    answer = Answer(Outcome.DONE, u8(0))

    def bring(*arguments: Any) -> Answer:
        given.require(all(lock.held_by(0) for lock in (frames.LOCK, HOST_LOCK, GUESTS_LOCK)), "under the locks")
        asked.append(arguments)
        return answer

    with standing_in((protected_faults, "bring", bring)):
        given.require(protected_faults._serve_memory(seat, page, access) is answer, "what came of it")  # type: ignore[arg-type]
        protected_faults.try_again(seat, object(), page)  # type: ignore[arg-type]
    given.require(asked == [(seat, page, access), (seat, page, Access.READ)] and seat.fault_again == 0, "once each")


@about(protected_faults.bring, protected_faults._walk, protected_faults._shown,
       outcomes=("not protected", "a block by now", "there", "held", "moving", "asked for", "not accessed", "admitted", "failed"),
       assumes=("near.is_known", "near.find", "near.remember", "private.reading", "private.reveal", "private.admit", "moving.go_on",
                "host_tables.walk", "host_tables.leaf_of", "host_tables.set_accessed", "protected_faults.look_again", "protected_faults.failed"),
       bounds=("protected_faults.bring: of a leaf of the host's whose addresses are below 1 << 48",))
def bring(given: Given) -> None:
    """Whatever the page and the host's table are: a frame is admitted only to a page that has none, from a leaf of the host's that is accessed and
    that may be read and written, and only the one that it leads to; the host hears only kind and level of its own table."""
    index, page, access = below(given, "guard", 32), page_at(given, "page"), object()
    number, vm, known = below(given, "vm", 64), SimpleNamespace(table=Table(given)), given.word("known", 1) == 1
    seat: Any = SimpleNamespace(guard=integer(term(index) + 1))
    phase = Phase.PROTECTED if given.boolean("protected") else Phase.STOPPED
    found, leaf, absent_word, word = object(), object(), given.u64("absent"), given.u64("descriptor")
    level, frame = z3.ZeroExt(62, given.word("level", 2)), z3.Concat(z3.BitVecVal(0, 16), given.word("output", 36), z3.BitVecVal(0, 12))
    at, walked, log = Ipa(integer(page)), Walked(integer(level), word, Pa(given.u64("where"))), []
    given.assume(z3.Implies(known, level == 3), z3.Or(term(word) == 0, level != 0))
    given.assume(z3.Or([z3.Extract(3, 1, term(absent_word)) == int(fate.value) for fate in Fate]))
    answers = {name: Answer(Outcome.LATER, u8(0)) for name in ("again", "failed")}
    results: dict[str, Any] = {}

    def leaf_of(*_: object) -> HostLeaf:
        """Theorem host_tables.leaf_of: without the bits that it spans."""
        number = given.path.choose(level)
        results["spans"] = z3.BitVecVal((1 << (12 + 9 * (3 - number))) - 1, 64)
        return HostLeaf(u64(number), integer(frame & ~results["spans"]), Stage2Leaf.of(word))

    def decided(name: str) -> Any:
        return lambda *_: given.holds(given.path.inputs.get(name, None) == 1) if name in given.path.inputs else given.boolean(name)

    def note(name: str, result: Any) -> Any:
        def run(*arguments: Any) -> Any:
            log.append((name, *arguments))
            results[name] = result() if callable(result) else result
            return results[name]
        return run

    all_guards = SimpleNamespace(slots=Only(index, SimpleNamespace(phase=phase, vm=number)))
    with standing_in(
        (protected_faults, "GUARDS", all_guards), (vms, "VMS", SimpleNamespace(slots=Only(number, vm))),
        (near, "is_known", lambda *_: given.holds(known)), (near, "find", note("near", found)), (steps, "look", note("look", found)),
        (whole, "is_block", decided("block")), (steps, "leaf_of", lambda _: leaf if given.boolean("a leaf") else None),
        (protected_faults, "_look_again", note("again", answers["again"])), (steps, "absent_of", lambda _: Absent.of(absent_word)),
        (private, "reveal", note("reveal", None)), (moving, "go_on", note("move", lambda: given.one_of("move", (None, Err.BUSY, Err.INVALID)))),
        (protected_faults, "_failed", note("failed", answers["failed"])), (near, "read", note("read", walked)),
        (host_tables, "walk", note("walk", walked)),
        (near, "remember", note("remember", None)), (host_tables, "set_accessed", note("set", lambda: given.boolean("set"))),
        (host_tables, "leaf_of", leaf_of),
        (private, "admit", note("admit", lambda: given.one_of("admitted", (None, Err.OWNER)))),
    ), frames.LOCK, HOST_LOCK, GUESTS_LOCK:
        answer = protected_faults.bring(seat, at, access)  # type: ignore[arg-type]
    names = [one[0] for one in log]
    is_known = given.holds(known) if phase is Phase.PROTECTED else False
    if phase is not Phase.PROTECTED:
        given.outcome("not protected")
        given.require(answer.outcome is Outcome.STOPPED and answer.status == 0 and not log, "and nothing is done")
        return
    given.require(names[0] == ("near" if is_known else "look"), "by the shorter way where that is known")
    if names == ["look"]:
        given.outcome("a block by now")
        given.require(not is_known and answer.outcome is Outcome.DONE and answer.status == 0, "the guest goes on")
    elif "again" in names:
        given.outcome("there")
        given.require(names[1:] == ["again"] and answer is answers["again"] and log[1][2:] == (at, leaf, access), "by its leaf")
    elif "reveal" in names:
        given.outcome("held")
        given.require(z3.Extract(3, 1, term(absent_word)) == 3, "held")
        given.require(names[1:] == ["reveal"] and answer.outcome is Outcome.DONE and answer.status == 0 and log[1][2] is at, "it is mapped")
    elif "move" in names:
        given.outcome("moving")
        content = z3.ZeroExt(28, z3.Extract(47, 12, term(absent_word)))
        given.require(z3.And(z3.Extract(3, 1, term(absent_word)) == 4, term(log[1][1]) == content), "its move")
        bad = results["move"] is Err.INVALID
        given.require(names[1:] == ["move", *(["failed"] if bad else [])], "what is altered fails")
        later = answer.outcome is Outcome.LATER and answer.status == 0
        given.require(answer is answers["failed"] and log[2][3] is Err.INVALID if bad else later, "later")
    else:
        way = ["near", "read"] if is_known else ["look", "walk", "remember"]
        given.require(names[: len(way)] == way, "what the host's table says")
        given.require(z3.And(z3.Extract(3, 1, term(absent_word)) != 3, z3.Extract(3, 1, term(absent_word)) != 4), "only of a page that leads nowhere")
        rest = names[len(way):]
        usable = z3.Or(bit(term(word), 10), results.get("set", False))
        if "admit" in rest:
            bad = results["admit"] is Err.OWNER
            given.outcome("failed" if bad else "admitted")
            given.require(z3.And(term(word) != 0, usable, z3.Extract(7, 6, term(word)) == 3), "accessed, and may be read and written")
            one = log[names.index("admit")]
            given.require(z3.And(term(one[1]) == term(index), one[2] is at, one[4] is found), "to its page")
            given.require(term(one[3]) == frame & ~results["spans"] | page & results["spans"], "the frame that the leaf leads to")
            given.require(answer is answers["failed"] if bad else answer.outcome is Outcome.DONE and answer.status == 0, "as that came out")
            given.require(rest[-1] == ("failed" if bad else "admit"), "and failed where it did")
            return
        given.require(rest in ([], ["set"]), "nothing else is done")
        if answer.outcome is Outcome.LATER:
            given.outcome("not accessed")
            given.require(z3.And(vm.table.hardware_access, z3.Not(usable), term(word) != 0, answer.status == 0), "it has changed")
            return
        given.outcome("asked for")
        kind = z3.If(term(word) == 0, z3.BitVecVal(4, 8), z3.If(usable, z3.BitVecVal(12, 8), z3.BitVecVal(8, 8)))
        given.require(z3.And(answer.outcome is Outcome.SHOWN, term(answer.status) == kind | z3.Extract(7, 0, level)), "kind and level of its table")
        given.require(z3.Or(term(word) == 0, z3.Not(usable), z3.Extract(7, 6, term(word)) != 3), "only where it is no use")
