# SPDX-License-Identifier: Apache-2.0
"""Counts the instructions with which the kernel writes and reads pages of a RAM disk, once by itself and once through dm-crypt over dm-integrity.

The two are set up as `cryptsetup luksFormat --integrity hmac-sha256 --cipher aes-xts-plain64 --integrity-no-journal` and `open` do it, with the LUKS
header left out: dm-integrity is formatted by a table of eight sectors with a journal (lib/integrity/integrity.c of cryptsetup), and then used
without one (mode D) in the size that its superblock says. All access is direct (O_DIRECT), and each number of writes ends with a flush, so that all
work is done before the count is read: dm-integrity's own writes of its tags too, and what kernel threads do. The machine has one CPU.
"""

from __future__ import annotations

import errno
import mmap
import os
import sys

from delphyne.client.count import Counter
from delphyne.client.device_mapper import Mapper

PAGE = 4096
SECTOR = 512
PLAIN, DISK = "/dev/ram0", "/dev/ram1"
"""The RAM disk that is used by itself, and the one below dm-crypt."""
CIPHER = "authenc(hmac(sha256),xts(aes))"
TAG_BYTES = 32
KEY = bytes(range(96)).hex()
"""Two halves of AES-256-XTS and 32 bytes for the HMAC. Nothing is kept by it."""
FORMAT_SECTORS = 8
SUPERBLOCK_MAGIC = b"integrt\0"
"""struct superblock of drivers/md/dm-integrity.c."""
SUPERBLOCK_SECTORS = 16
"""Where provided_data_sectors lies in it, eight bytes."""
CHECKED = 64
"""Pages that are compared."""


class Disk:
    """A block device without the page cache, and `batch` pages of memory that go there and come from there by one call."""

    def __init__(self, path: str, batch: int = 1) -> None:
        self.batch = batch
        self._file = os.open(path, os.O_RDWR | os.O_DIRECT | os.O_CLOEXEC)
        self.memory = mmap.mmap(-1, batch * PAGE)
        self._pieces = [memoryview(self.memory)]

    def write_at(self, page: int) -> None:
        """The memory goes to the disk from `page` on."""
        os.pwritev(self._file, self._pieces, page * PAGE)

    def read_at(self, page: int) -> None:
        """The memory is filled from the disk."""
        os.preadv(self._file, self._pieces, page * PAGE)

    def write(self, pages: int) -> None:
        """So many pages from the disk's start on, and a flush."""
        for page in range(0, pages, self.batch):
            self.write_at(page)
        os.fdatasync(self._file)

    def read(self, pages: int) -> None:
        """So many pages from the disk's start on."""
        for page in range(0, pages, self.batch):
            self.read_at(page)

    def size(self) -> int:
        """In bytes."""
        return os.lseek(self._file, 0, os.SEEK_END)


def integrity_table(mode: str) -> str:
    """dm-integrity's parameters; `mode` is J with a journal, D without."""
    return f"{DISK} 0 {TAG_BYTES} {mode} 2 block_size:{PAGE} fix_padding"


def crypt_table(below: str) -> str:
    """dm-crypt's parameters, above the dm-integrity device `below`."""
    return f"capi:{CIPHER}-plain64 {KEY} 0 {below} 0 2 integrity:{TAG_BYTES}:aead sector_size:{PAGE}"


def provided_sectors(superblock: bytes) -> int:
    """How many sectors a formatted dm-integrity gives. RuntimeError where it is none."""
    if not superblock.startswith(SUPERBLOCK_MAGIC):
        raise RuntimeError(f"{DISK} begins with {superblock[:8].hex()}: dm-integrity has not formatted it")
    return int.from_bytes(superblock[SUPERBLOCK_SECTORS : SUPERBLOCK_SECTORS + 8], "little")


def set_up() -> str:
    """Both layers above DISK, whose content is lost; the file of the upper one."""
    mapper = Mapper()
    mapper.create("format", FORMAT_SECTORS, "integrity", integrity_table("J"))
    mapper.remove("format")
    disk = Disk(DISK)
    disk.read_at(0)
    sectors = provided_sectors(disk.memory[:PAGE])
    below = mapper.create("tags", sectors, "integrity", integrity_table("D"))
    return mapper.create("pages", sectors, "crypt", crypt_table(below))


def driver_of(algorithm: str, text: str) -> str:
    """Which driver serves an algorithm, from the text of /proc/crypto. RuntimeError where none does."""
    for entry in text.split("\n\n"):
        fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in entry.splitlines())}
        if fields.get("name") == algorithm:
            return fields["driver"]
    raise RuntimeError(f"/proc/crypto knows of no {algorithm}")


def content(page: int) -> bytes:
    """What the page is given to be compared."""
    return f"page {page:011}".encode() * (PAGE // 16)


def check(path: str) -> None:
    """What is written comes back and does not lie on the disk as it is. RuntimeError where it does not."""
    disk = Disk(path)
    for page in range(CHECKED):
        disk.memory[:] = content(page)
        disk.write_at(page)
    for page in range(CHECKED):
        disk.read_at(page)
        if disk.memory[:] != content(page):
            raise RuntimeError(f"page {page} came back as something else")
    raw = Disk(DISK, 256)
    for page in range(0, raw.size() // PAGE, raw.batch):
        raw.read_at(page)
        if content(0)[:14] in raw.memory[:]:
            raise RuntimeError(f"what was written to {path} is readable on {DISK}")


def check_refusal(path: str) -> None:
    """What was changed on the disk is refused when it is read. RuntimeError where it is not. Nothing of the disk is left."""
    raw = Disk(DISK, 256)
    raw.write(raw.size() // PAGE)
    try:
        Disk(path).read_at(0)
    except OSError as error:
        if error.errno != errno.EILSEQ:
            raise
        return
    raise RuntimeError("a page that was changed on the disk was read as if it were right")


def main(arguments: list[str]) -> int:
    """`ROUNDS SHORT LONG BATCH..`: prints the driver, and so many times, for each of BATCH pages in a call, each device, each direction and each of
    two numbers of pages, `count BATCH plain|crypt write|read PAGES INSTRUCTIONS`."""
    rounds, short, long, *batches = [int(word) for word in arguments]
    path = set_up()
    with open("/proc/crypto") as file:
        print(f"driver {driver_of(CIPHER, file.read())}")
    counter = Counter(0)
    found: list[str] = []  # printed at the end: a serial port is served after the print, and would be counted
    for batch in batches:
        disks = {"plain": Disk(PLAIN, batch), "crypt": Disk(path, batch)}
        for disk in disks.values():
            disk.write(long)  # the disk takes its memory at the first write
        for _ in range(rounds):
            for name, disk in disks.items():
                for direction, action in (("write", disk.write), ("read", disk.read)):
                    for pages in (short, long):
                        before = counter.read()
                        action(pages)
                        found.append(f"count {batch} {name} {direction} {pages} {counter.read() - before}")
    print("\n".join(found), flush=True)
    check(path)
    check_refusal(path)
    print("checked: pages come back, are not readable on the disk, and are refused when they were changed there")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
