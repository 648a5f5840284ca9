# SPDX-License-Identifier: Apache-2.0
"""Physical memory by 4 KiB frame, and one cache in front of it that all CPUs share.

The cache is there for what non-cacheable aliases see. A cacheable access fills the lines it touches; a cacheable store leaves them dirty; a
non-cacheable access goes to DRAM past them. So a non-cacheable reader sees old data until the line was cleaned, and a cacheable reader sees
old data after a non-cacheable store until the line was invalidated. Lines are never evicted by chance: a missing clean always shows.
"""

from __future__ import annotations

from collections.abc import Iterator

from delphyne.lang.machine.errors import MachineError

FRAME = 4096
LINE = 64
_ALL_LINES = (1 << FRAME // LINE) - 1


class Frame:
    """4 KiB. `valid`, `dirty` and `unified` have one bit for each line of the cached copy.

    `unified` are dirty lines that were cleaned to the point of unification: fetches see them, DRAM does not have them."""

    __slots__ = ("cached", "dirty", "dram", "unified", "valid")

    def __init__(self) -> None:
        self.dram = bytearray(FRAME)
        self.cached = bytearray(FRAME)
        self.valid = 0
        self.dirty = 0
        self.unified = 0

    def fill(self, lines: int) -> None:
        """Bring lines into the cache that are not there."""
        missing = lines & ~self.valid
        if missing == _ALL_LINES:
            self.cached[:] = self.dram
        else:
            for line in _ones(missing):
                at = slice(line * LINE, line * LINE + LINE)
                self.cached[at] = self.dram[at]
        self.valid |= missing

    def clean(self, lines: int) -> None:
        """Write dirty lines back."""
        for line in _ones(lines & self.dirty):
            at = slice(line * LINE, line * LINE + LINE)
            self.dram[at] = self.cached[at]
        self.dirty &= ~lines

    def invalidate(self, lines: int) -> None:
        """Drop lines, dirty ones too."""
        self.valid &= ~lines
        self.dirty &= ~lines


def _ones(mask: int) -> Iterator[int]:
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def _lines(offset: int, size: int) -> int:
    first, last = offset // LINE, (offset + size - 1) // LINE
    return (1 << last + 1) - (1 << first)


class Memory:
    """Regions of RAM, sparse: a frame costs nothing until it is touched, and is zero then."""

    def __init__(self) -> None:
        self.regions: list[tuple[int, int]] = []
        self._frames: dict[int, Frame] = {}

    def add(self, base: int, size: int) -> None:
        """More RAM; whole frames that are not RAM yet."""
        if base % FRAME or size % FRAME or size <= 0:
            raise MachineError(f"RAM of {size:#x} bytes at {base:#x} is not whole frames")
        if any(base < end and start < base + size for start, end in self.regions):
            raise MachineError(f"RAM at {base:#x} is there twice")
        self.regions.append((base, base + size))

    def holds(self, address: int, size: int) -> bool:
        """Whether all of it is RAM, in one region."""
        return any(start <= address and address + size <= end for start, end in self.regions)

    def frame(self, address: int) -> Frame:
        """The frame that holds `address`; MachineError where there is no RAM."""
        number = address // FRAME
        found = self._frames.get(number)
        if found is None:
            if not self.holds(number * FRAME, FRAME):
                raise MachineError(f"there is no RAM at {address:#x}")
            found = self._frames[number] = Frame()
        return found

    def read(self, address: int, size: int, cacheable: bool = True) -> bytes:
        """`size` bytes, as a cacheable or non-cacheable reader sees them."""
        parts = []
        while size:
            offset = address % FRAME
            take = min(size, FRAME - offset)
            frame = self.frame(address)
            if cacheable:
                frame.fill(_lines(offset, take))
            parts.append((frame.cached if cacheable else frame.dram)[offset : offset + take])
            address, size = address + take, size - take
        return bytes(parts[0]) if len(parts) == 1 else b"".join(parts)

    def write(self, address: int, data: bytes, cacheable: bool = True) -> None:
        """Stores bytes, into the cache or past it."""
        at = 0
        while at < len(data):
            offset = (address + at) % FRAME
            take = min(len(data) - at, FRAME - offset)
            frame = self.frame(address + at)
            if cacheable:
                lines = _lines(offset, take)
                frame.fill(lines)
                frame.dirty |= lines
                frame.unified &= ~lines
            (frame.cached if cacheable else frame.dram)[offset : offset + take] = data[at : at + take]
            at += take

    def fetch(self, address: int) -> bytes:
        """The line at `address` as an instruction cache gets it."""
        frame, offset = self.frame(address), address % FRAME
        line = 1 << offset // LINE
        hidden = not frame.valid & line or frame.dirty & ~frame.unified & line
        return bytes((frame.dram if hidden else frame.cached)[offset : offset + LINE])

    def is_dirty(self, address: int) -> bool:
        """Whether the cache may still write over the frame at `address`."""
        found = self._frames.get(address // FRAME)
        return found is not None and found.dirty != 0

    def maintain(self, operation: str, address: int) -> None:
        """One data cache line by address: cvac, cvau, civac or ivac."""
        frame = self.frame(address)
        line = 1 << (address % FRAME // LINE)
        if operation in ("cvac", "civac"):
            frame.clean(line)
        if operation == "cvau":
            frame.unified |= line
        if operation in ("civac", "ivac"):
            frame.invalidate(line)
