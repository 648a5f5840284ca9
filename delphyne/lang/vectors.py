# SPDX-License-Identifier: Apache-2.0
"""SIMD registers and the instructions on them that EL2 uses, by the names of the Arm ARM (C7.2), as its pseudo-code defines them.

A `V128` is kept as one int, element 0 in the low bits. The same functions are compiled to one instruction each inside `@simd` functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar, overload

from delphyne.lang.arrays import Array, Index, Slice, View, _end
from delphyne.lang.functions import assembly
from delphyne.lang.ints import u8, u64
from delphyne.lang.meta import function_meta
from delphyne.lang.records import struct
from delphyne.lang.traps import Trap, TrapKind

F = TypeVar("F", bound=Callable[..., Any])

_ALL: Final = (1 << 128) - 1
_WORD: Final = 0xFFFF_FFFF


class V128:
    """A SIMD register: sixteen bytes. A local or parameter of `@simd` functions, never in memory."""

    __slots__ = ("_v",)

    def __init__(self, number: int) -> None:
        if type(number) is not int or not 0 <= number <= _ALL:
            raise TypeError("a V128 is made by v128_load or v128_from_u64")
        self._v = number

    def __eq__(self, other: object) -> bool:
        raise TypeError("V128 is not compared: take v128_low and v128_high")

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"V128({self._v:#034x})"


@struct(align=16, export="SIMD_AREA")
class SimdArea:
    """Where `with simd(area)` keeps what was live in the SIMD registers.

    `registers` has room for thirty-two of the longest scalable vectors (FEAT_SVE, 2048 bits), of which Q0 to Q31 are the low parts; `predicates`
    for what leaving streaming mode (FEAT_SME) loses; `streaming` is SVCR. `traps` is CPTR_EL2."""

    registers: Array[u64, 1024]
    predicates: Array[u64, 64]
    fpcr: u64
    fpsr: u64
    traps: u64
    streaming: u64
    depth: u64


@assembly
def simd_enter(area: SimdArea) -> None:
    """Lets EL2 use the SIMD registers and saves what is live in them."""
    assert area.depth == 0, "simd areas do not nest"
    area.depth = u64(1)


@assembly
def simd_leave(area: SimdArea) -> None:
    """Restores what `simd_enter` saved."""
    area.depth = u64(0)


@contextmanager
def _inside(area: SimdArea) -> Iterator[None]:
    simd_enter(area)
    try:
        yield
    finally:
        simd_leave(area)


@overload
def simd(what: SimdArea) -> Any: ...
@overload
def simd(what: F) -> F: ...
def simd(what: Any) -> Any:
    """As a decorator: a function that uses SIMD registers. As `with simd(area):`, where such functions may be called."""
    if isinstance(what, SimdArea):
        return _inside(what)
    function_meta(what).simd = True
    return what


def v128_load(s: View[u8], offset: Index) -> V128:
    """Sixteen bytes at `offset`; traps INDEX."""
    start = _end(offset)
    if start + 16 > s._length:
        raise Trap(TrapKind.INDEX, start, s._length)
    at = s._start + start
    return V128(int.from_bytes(bytes(s._cells[at : at + 16]), "little"))


def v128_store(s: Slice[u8], offset: Index, v: V128) -> None:
    """Stores sixteen bytes at `offset`; traps INDEX."""
    start = _end(offset)
    if start + 16 > s._length:
        raise Trap(TrapKind.INDEX, start, s._length)
    at = s._start + start
    s._cells[at : at + 16] = [u8(byte) for byte in v._v.to_bytes(16, "little")]


def v128_from_u64(low: u64, high: u64) -> V128:
    """A register from its two halves."""
    if not isinstance(low, u64) or not isinstance(high, u64):
        raise TypeError("v128_from_u64(u64, u64)")
    return V128(int(low) | int(high) << 64)


def v128_low(v: V128) -> u64:
    """Bits 63:0."""
    return u64(v._v & (1 << 64) - 1)


def v128_high(v: V128) -> u64:
    """Bits 127:64."""
    return u64(v._v >> 64)


def _lanes(v: V128, size: int) -> list[int]:
    return [v._v >> at & (1 << size) - 1 for at in range(0, 128, size)]


def _joined(lanes: list[int], size: int) -> V128:
    return V128(sum((lane & (1 << size) - 1) << at * size for at, lane in enumerate(lanes)))


def vxor(a: V128, b: V128) -> V128:
    """EOR: exclusive or."""
    return V128(a._v ^ b._v)


def vand(a: V128, b: V128) -> V128:
    """AND."""
    return V128(a._v & b._v)


def vor(a: V128, b: V128) -> V128:
    """ORR: inclusive or."""
    return V128(a._v | b._v)


def vadd32(a: V128, b: V128) -> V128:
    """ADD of four 32-bit lanes, each modulo 2^32."""
    return _joined([x + y for x, y in zip(_lanes(a, 32), _lanes(b, 32), strict=True)], 32)


def vadd64(a: V128, b: V128) -> V128:
    """ADD of two 64-bit lanes, each modulo 2^64."""
    return _joined([x + y for x, y in zip(_lanes(a, 64), _lanes(b, 64), strict=True)], 64)


def vrev32(v: V128) -> V128:
    """REV32 of bytes: the four bytes of each 32-bit lane in the opposite order."""
    return _joined([int.from_bytes(x.to_bytes(4, "little"), "big") for x in _lanes(v, 32)], 32)


def vext8(a: V128, b: V128) -> V128:
    """EXT #8: the high half of `a` as low half, the low half of `b` as high half."""
    return V128(a._v >> 64 | (b._v & (1 << 64) - 1) << 64)


def vdup_low(v: V128) -> V128:
    """DUP of element 0 of 64 bits into both halves."""
    low = v._v & (1 << 64) - 1
    return V128(low | low << 64)


def _times(a: int, b: int) -> int:
    """The product in GF(2^8) modulo x^8 + x^4 + x^3 + x + 1 (FIPS 197, 4.2)."""
    product = 0
    while b:
        if b & 1:
            product ^= a
        a = (a << 1) ^ (0x11B if a & 0x80 else 0)
        b >>= 1
    return product


def _substitution() -> list[int]:
    """The S-box from its definition: the inverse in GF(2^8), then the affine map (FIPS 197, 5.1.1)."""
    box = []
    for number in range(256):
        inverse = next((x for x in range(256) if _times(number, x) == 1), 0)
        spread = inverse
        for turn in range(1, 5):
            spread ^= (inverse << turn | inverse >> (8 - turn)) & 0xFF
        box.append(spread ^ 0x63)
    return box


_SUB: Final = _substitution()
_UNSUB: Final = [_SUB.index(number) for number in range(256)]
_PRODUCTS: Final = {factor: [_times(factor, x) for x in range(256)] for factor in (1, 2, 3, 9, 11, 13, 14)}


def _shifted(state: list[int], turn: int) -> list[int]:
    """Row r of the state (byte r + 4c is row r, column c) moved left by r * turn columns (FIPS 197, 5.1.2 and 5.3.1)."""
    return [state[row + 4 * ((column + row * turn) % 4)] for column in range(4) for row in range(4)]


def _mixed(state: list[int], factors: tuple[int, int, int, int]) -> list[int]:
    out = []
    for column in range(0, 16, 4):
        for row in range(4):
            mixed = 0
            for k in range(4):
                mixed ^= _PRODUCTS[factors[(k - row) % 4]][state[column + k]]
            out.append(mixed)
    return out


def aese(state: V128, key: V128) -> V128:
    """AESE: add the round key, shift rows, substitute bytes."""
    return _joined([_SUB[x] for x in _shifted(_lanes(vxor(state, key), 8), 1)], 8)


def aesd(state: V128, key: V128) -> V128:
    """AESD: add the round key, then the inverse of shifting rows and substituting bytes."""
    return _joined([_UNSUB[x] for x in _shifted(_lanes(vxor(state, key), 8), -1)], 8)


def aesmc(state: V128) -> V128:
    """AESMC: mix columns."""
    return _joined(_mixed(_lanes(state, 8), (2, 3, 1, 1)), 8)


def aesimc(state: V128) -> V128:
    """AESIMC: inverse of mixing columns."""
    return _joined(_mixed(_lanes(state, 8), (14, 11, 13, 9)), 8)


def _turned(x: int, by: int) -> int:
    return (x >> by | x << (32 - by)) & _WORD


def _sha256_rounds(x: V128, y: V128, w: V128) -> tuple[V128, V128]:
    """Four rounds on the state x = (a, b, c, d), y = (e, f, g, h) with w = schedule plus constants: SHA256hash of the Arm ARM (J1.3)."""
    a, b, c, d = _lanes(x, 32)
    e, f, g, h = _lanes(y, 32)
    for word in _lanes(w, 32):
        choose = g ^ e & (f ^ g)
        majority = a & b | (a | b) & c
        t = (h + (_turned(e, 6) ^ _turned(e, 11) ^ _turned(e, 25)) + choose + word) & _WORD
        new_a = (t + (_turned(a, 2) ^ _turned(a, 13) ^ _turned(a, 22)) + majority) & _WORD
        a, b, c, d, e, f, g, h = new_a, a, b, c, (d + t) & _WORD, e, f, g
    return _joined([a, b, c, d], 32), _joined([e, f, g, h], 32)


def sha256h(x: V128, y: V128, w: V128) -> V128:
    """SHA256H: four rounds; x = a..d, y = e..h; gives the new a..d."""
    return _sha256_rounds(x, y, w)[0]


def sha256h2(y: V128, x: V128, w: V128) -> V128:
    """SHA256H2: four rounds; y = e..h, x = a..d as they were before; gives the new e..h."""
    return _sha256_rounds(x, y, w)[1]


def sha256su0(a: V128, b: V128) -> V128:
    """SHA256SU0: a = w[0..3], b = w[4..7]; first half of the schedule's next four words."""
    words = _lanes(a, 32) + _lanes(b, 32)[:1]
    return _joined([words[i] + (_turned(words[i + 1], 7) ^ _turned(words[i + 1], 18) ^ words[i + 1] >> 3) for i in range(4)], 32)


def sha256su1(t: V128, b: V128, c: V128) -> V128:
    """SHA256SU1: t from SHA256SU0, b = w[8..11], c = w[12..15]; the schedule's next four words."""
    first, low, high = _lanes(t, 32), _lanes(b, 32), _lanes(c, 32)
    seven = [*low[1:], high[0]]
    made: list[int] = []
    for i in range(4):
        before = high[2 + i] if i < 2 else made[i - 2]
        spread = _turned(before, 17) ^ _turned(before, 19) ^ before >> 10
        made.append((first[i] + spread + seven[i]) & _WORD)
    return _joined(made, 32)
