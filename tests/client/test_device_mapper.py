# SPDX-License-Identifier: Apache-2.0
"""What the kernel's device mapper is asked, and what is read of dm-integrity's superblock and of /proc/crypto."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from delphyne.client import device_mapper, dm_crypt

REQUESTS = {
    "DM_DEV_CREATE": (device_mapper.CREATE, 0xC138_FD03),
    "DM_DEV_REMOVE": (device_mapper.REMOVE, 0xC138_FD04),
    "DM_DEV_SUSPEND": (device_mapper.SUSPEND, 0xC138_FD06),
    "DM_TABLE_LOAD": (device_mapper.LOAD, 0xC138_FD09),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_requests_are_the_known_numbers(name: str) -> None:
    command, number = REQUESTS[name]
    assert device_mapper.request(command) == number


def test_a_message_says_where_its_data_are() -> None:
    data = device_mapper.message("pages", 1, b"table")
    assert len(data) == 312 + 5
    assert struct.unpack_from("<6I", data) == (4, 0, 0, 317, 312, 1)
    assert (data[40:48], data[48:54], data[312:]) == (bytes(8), b"pages\0", b"table")
    assert struct.unpack(device_mapper.HEADER, data[:312])[device_mapper.DEV_FIELD] == 0


@pytest.mark.parametrize("parameters", ["/dev/ram1 0 32 D 0", "1234567", "12345678"])
def test_a_target_is_a_whole_number_of_words_and_its_text_ends(parameters: str) -> None:
    data = device_mapper.target(77, "integrity", parameters)
    first, length, status, following, kind = struct.unpack_from("<QQiI16s", data)
    assert (first, length, status, following, kind) == (0, 77, 0, len(data), b"integrity".ljust(16, b"\0"))
    assert len(data) % 8 == 0
    assert data[40:].rstrip(b"\0") == parameters.encode()
    assert data[-1] == 0


def test_tables_say_what_is_set_up() -> None:
    assert dm_crypt.integrity_table("D") == "/dev/ram1 0 32 D 2 block_size:4096 fix_padding"
    words = dm_crypt.crypt_table("/dev/dm-0").split()
    assert words[0] == "capi:authenc(hmac(sha256),xts(aes))-plain64"
    key = bytes.fromhex(words[1])
    assert (len(key), len({key[:32], key[32:64], key[64:]})) == (32 + 32 + 32, 3)
    assert words[2:] == ["0", "/dev/dm-0", "0", "2", "integrity:32:aead", "sector_size:4096"]


def test_the_superblock_says_how_much_there_is() -> None:
    block = b"integrt\0" + bytes([4, 15]) + struct.pack("<HIQ", 32, 7, 120_000) + bytes(4072)
    assert dm_crypt.provided_sectors(block) == 120_000
    with pytest.raises(RuntimeError, match="has not formatted it"):
        dm_crypt.provided_sectors(bytes(4096))


CRYPTO = """name         : xts(aes)
driver       : xts-aes-ce
module       : aes_ce_blk

name         : authenc(hmac(sha256),xts(aes))
driver       : authenc(hmac(sha256-ce),xts-aes-ce)
module       : authenc
"""


def test_the_driver_is_the_one_of_that_algorithm() -> None:
    assert dm_crypt.driver_of(dm_crypt.CIPHER, CRYPTO) == "authenc(hmac(sha256-ce),xts-aes-ce)"
    with pytest.raises(RuntimeError, match="no hmac"):
        dm_crypt.driver_of("hmac(md5)", CRYPTO)


def test_pages_of_the_check_are_of_one_size_and_differ() -> None:
    pages = {dm_crypt.content(number) for number in range(dm_crypt.CHECKED)}
    assert len(pages) == dm_crypt.CHECKED
    assert {len(page) for page in pages} == {dm_crypt.PAGE}
    assert all(dm_crypt.content(0)[:14] in page for page in pages)


def test_a_disk_moves_whole_batches(tmp_path: Path) -> None:
    """Direct access to a file works where its file system has it; this one's content is what counts."""
    path = tmp_path / "disk"
    path.write_bytes(bytes(8 * dm_crypt.PAGE))
    try:
        disk = dm_crypt.Disk(str(path), 2)
    except OSError:
        pytest.skip("no direct access on the file system of the tests' folder")
    disk.memory[:] = b"a" * dm_crypt.PAGE + b"b" * dm_crypt.PAGE
    disk.write(4)
    assert path.read_bytes() == bytes(disk.memory[:]) * 2 + bytes(4 * dm_crypt.PAGE)
    disk.read_at(4)
    assert disk.memory[:] == bytes(2 * dm_crypt.PAGE)
    assert disk.size() == 8 * dm_crypt.PAGE
