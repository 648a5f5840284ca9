# SPDX-License-Identifier: Apache-2.0
"""Functions that compiled code calls without being asked: memory copies on AArch64, locks and index masks on the native target.

memcpy, memmove and memset are written in IR, in functions that LLVM may not turn into calls of themselves, with general registers only:
sixteen bytes a round, then single bytes. LLVM expands small constant sizes in line, so these see the long ones.
"""

from __future__ import annotations

from delphyne.compiler.back.target import Target

_COPY_UP = """
  %rounds = and i64 %n, -16
  %pairs.end = getelementptr inbounds i8, ptr %to, i64 %rounds
  %some = icmp ne i64 %rounds, 0
  br i1 %some, label %pair, label %rest
pair:
  %s0 = phi ptr [ %from, %up ], [ %s.next, %pair ]
  %d0 = phi ptr [ %to, %up ], [ %d.next, %pair ]
  %s1 = getelementptr inbounds i8, ptr %s0, i64 8
  %d1 = getelementptr inbounds i8, ptr %d0, i64 8
  %x0 = load i64, ptr %s0, align 1
  %x1 = load i64, ptr %s1, align 1
  store i64 %x0, ptr %d0, align 1
  store i64 %x1, ptr %d1, align 1
  %s.next = getelementptr inbounds i8, ptr %s0, i64 16
  %d.next = getelementptr inbounds i8, ptr %d0, i64 16
  %pairs = icmp ne ptr %d.next, %pairs.end
  br i1 %pairs, label %pair, label %rest
rest:
  %left = icmp ult i64 %rounds, %n
  br i1 %left, label %byte, label %done
byte:
  %j = phi i64 [ %rounds, %rest ], [ %j.next, %byte ]
  %s = getelementptr inbounds i8, ptr %from, i64 %j
  %d = getelementptr inbounds i8, ptr %to, i64 %j
  %x = load i8, ptr %s, align 1
  store i8 %x, ptr %d, align 1
  %j.next = add nuw i64 %j, 1
  %bytes = icmp ult i64 %j.next, %n
  br i1 %bytes, label %byte, label %done
"""

_MEMCPY = (
    """define hidden ptr @memcpy(ptr %to, ptr %from, i64 %n) #3 {
entry:
  br label %up
up:"""
    + _COPY_UP
    + """done:
  ret ptr %to
}
"""
)

_MEMMOVE = (
    """define hidden ptr @memmove(ptr %to, ptr %from, i64 %n) #3 {
entry:
  %a = ptrtoint ptr %to to i64
  %b = ptrtoint ptr %from to i64
  %ahead = sub i64 %a, %b
  %overlap = icmp ult i64 %ahead, %n
  br i1 %overlap, label %down, label %up
down:
  %odd = and i64 %n, 7
  %odds = icmp ne i64 %odd, 0
  br i1 %odds, label %down.byte, label %down.words
down.byte:
  %k = phi i64 [ %n, %down ], [ %k.next, %down.byte ]
  %k.next = sub nuw i64 %k, 1
  %ks = getelementptr inbounds i8, ptr %from, i64 %k.next
  %kd = getelementptr inbounds i8, ptr %to, i64 %k.next
  %kx = load i8, ptr %ks, align 1
  store i8 %kx, ptr %kd, align 1
  %k.more = and i64 %k.next, 7
  %k.again = icmp ne i64 %k.more, 0
  br i1 %k.again, label %down.byte, label %down.words
down.words:
  %w = phi i64 [ %n, %down ], [ %k.next, %down.byte ]
  %words = icmp ne i64 %w, 0
  br i1 %words, label %down.word, label %done
down.word:
  %m = phi i64 [ %w, %down.words ], [ %m.next, %down.word ]
  %m.next = sub nuw i64 %m, 8
  %ms = getelementptr inbounds i8, ptr %from, i64 %m.next
  %md = getelementptr inbounds i8, ptr %to, i64 %m.next
  %mx = load i64, ptr %ms, align 1
  store i64 %mx, ptr %md, align 1
  %m.again = icmp ne i64 %m.next, 0
  br i1 %m.again, label %down.word, label %done
up:"""
    + _COPY_UP
    + """done:
  ret ptr %to
}
"""
)

_MEMSET = """define hidden ptr @memset(ptr %to, i32 %value, i64 %n) #3 {
entry:
  %byte.value = trunc i32 %value to i8
  %wide = zext i8 %byte.value to i64
  %word = mul i64 %wide, 72340172838076673
  %rounds = and i64 %n, -16
  %pairs.end = getelementptr inbounds i8, ptr %to, i64 %rounds
  %some = icmp ne i64 %rounds, 0
  br i1 %some, label %pair, label %rest
pair:
  %d0 = phi ptr [ %to, %entry ], [ %d.next, %pair ]
  %d1 = getelementptr inbounds i8, ptr %d0, i64 8
  store i64 %word, ptr %d0, align 1
  store i64 %word, ptr %d1, align 1
  %d.next = getelementptr inbounds i8, ptr %d0, i64 16
  %pairs = icmp ne ptr %d.next, %pairs.end
  br i1 %pairs, label %pair, label %rest
rest:
  %left = icmp ult i64 %rounds, %n
  br i1 %left, label %byte, label %done
byte:
  %j = phi i64 [ %rounds, %rest ], [ %j.next, %byte ]
  %d = getelementptr inbounds i8, ptr %to, i64 %j
  store i8 %byte.value, ptr %d, align 1
  %j.next = add nuw i64 %j, 1
  %bytes = icmp ult i64 %j.next, %n
  br i1 %bytes, label %byte, label %done
done:
  ret ptr %to
}
"""

_LOCK_STEP = """define internal void @{name}(ptr %lock) #0 {{
entry:
  %field = getelementptr inbounds i8, ptr %lock, i64 {offset}
  %old = load i32, ptr %field, align 4
  %new = add i32 %old, 1
  store i32 %new, ptr %field, align 4
  ret void
}}
"""

_NOSPEC = """define internal i64 @nospec(i64 %index, i64 %limit) #0 {
entry:
  %below = icmp ult i64 %index, %limit
  %clamped = select i1 %below, i64 %index, i64 0
  ret i64 %clamped
}
"""

_HARDWARE = {"memcpy": _MEMCPY, "memmove": _MEMMOVE, "memset": _MEMSET}
_NATIVE = {
    "lock_acquire": _LOCK_STEP.format(name="lock_acquire", offset=0),
    "lock_release": _LOCK_STEP.format(name="lock_release", offset=4),
    "nospec": _NOSPEC,
}


def defined(target: Target) -> set[str]:
    """The names that this module defines for a target; the others that code refers to are external."""
    return set(_HARDWARE if target.hardware else _NATIVE)


def definitions(target: Target, used: set[str]) -> list[str]:
    """The definitions a module needs: on AArch64 all of them, since LLVM decides late what it calls."""
    if target.hardware:
        return list(_HARDWARE.values())
    return [text for name, text in _NATIVE.items() if name in used]
