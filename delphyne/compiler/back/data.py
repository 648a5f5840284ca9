# SPDX-License-Identifier: Apache-2.0
"""Python data to bytes in memory and back, by the language's layouts."""

from __future__ import annotations

import ctypes

from delphyne.compiler import tree
from delphyne.compiler.back import layout
from delphyne.compiler.back.errors import BackError


class Buffer:
    """Memory of a type that compiled code may be given a reference to or a slice of."""

    def __init__(self, ty: tree.Type, value: object = None) -> None:
        """All zero, or encoded from `value`."""
        self.ty = ty
        size = layout.size_of(ty)
        align = max(16, layout.align_of(ty))
        self._memory = ctypes.create_string_buffer(size + align)
        self.address = layout.align_up(ctypes.addressof(self._memory), align)
        if value is not None:
            self.set(value)

    def set(self, value: object) -> None:
        """Replace the contents; None is all zero."""
        image = bytearray(layout.size_of(self.ty))
        encode_into(self.ty, value, image, 0)
        ctypes.memmove(self.address, bytes(image), len(image))

    def get(self) -> object:
        """The contents as Python data: lists for arrays and structs."""
        return decode(self.ty, ctypes.string_at(self.address, layout.size_of(self.ty)))


def _put(image: bytearray, at: int, value: int, size: int) -> None:
    image[at : at + size] = value.to_bytes(size, "little")


def _slice_operand(value: object) -> tuple[int, int]:
    buffer, first, after = value if isinstance(value, tuple) else (value, 0, None)
    if not isinstance(buffer, Buffer) or not isinstance(buffer.ty, tree.ArrayT):
        raise BackError(f"a slice argument is a Buffer of an array or (Buffer, first, after), not {value!r}")
    after = buffer.ty.length if after is None else after
    return buffer.address + first * layout.size_of(buffer.ty.item), after - first


def encode_into(ty: tree.Type, value: object, image: bytearray, at: int) -> None:
    """Write `value` into `image`, which is zero there."""
    match ty:
        case tree.IntT() | tree.EnumT() | tree.BitsT() | tree.AtomicT() | tree.BoolT():
            assert isinstance(value, int), (ty, value)
            _put(image, at, int(value), layout.size_of(ty))
        case tree.RefT() | tree.OptionT(item=tree.RefT()):
            _put(image, at, value.address if isinstance(value, Buffer) else 0, 8)
        case tree.SliceT():
            for index, word in enumerate(_slice_operand(value)):
                _put(image, at + 8 * index, word, 8)
        case tree.OptionT():
            if value is not None:
                record = layout.record_of(ty)
                image[at] = 1
                encode_into(ty.item, value, image, at + record.offsets[1])
        case tree.ResultT():
            _encode_result(ty, value, image, at)
        case tree.ArrayT():
            if isinstance(value, (bytes, bytearray)):
                image[at : at + len(value)] = value
            elif value is not None:
                assert isinstance(value, (list, tuple)), (ty, value)
                for index, item in enumerate(value):
                    encode_into(ty.item, item, image, at + index * layout.size_of(ty.item))
        case _:
            if value is not None:
                assert isinstance(value, (list, tuple)), (ty, value)
                record = layout.record_of(ty)
                for item, offset, part in zip(record.types, record.offsets, value, strict=True):
                    encode_into(item, part, image, at + offset)


def _encode_result(ty: tree.ResultT, value: object, image: bytearray, at: int) -> None:
    assert isinstance(value, tuple), value
    if value[0] == "err":
        _put(image, at, value[1], 4)
    elif not isinstance(ty.item, tree.UnitT):
        encode_into(ty.item, value[1], image, at + layout.record_of(ty).offsets[1])


def decode(ty: tree.Type, data: bytes) -> object:
    """The Python data of `data`, which is exactly one element."""
    match ty:
        case tree.UnitT() | tree.NeverT():
            return None
        case tree.BoolT():
            return data[0] != 0
        case tree.IntT() | tree.EnumT() | tree.BitsT() | tree.AtomicT() | tree.RefT():
            return int.from_bytes(data, "little")
        case tree.OptionT(item=tree.RefT()):
            return int.from_bytes(data, "little") or None
        case tree.ArrayT():
            size = layout.size_of(ty.item)
            return [decode(ty.item, data[index * size : (index + 1) * size]) for index in range(ty.length)]
    record = layout.record_of(ty)
    parts = [data[offset : offset + layout.size_of(item)] for item, offset in zip(record.types, record.offsets, strict=True)]
    match ty:
        case tree.OptionT():
            return decode(ty.item, parts[1]) if parts[0][0] else None
        case tree.ResultT():
            number = int.from_bytes(parts[0], "little")
            if number:
                return ("err", number)
            return ("ok", decode(ty.item, parts[1]) if len(parts) > 1 else None)
    items = [decode(item, part) for item, part in zip(record.types, parts, strict=True)]
    return items if isinstance(ty, tree.StructT) else tuple(items)
