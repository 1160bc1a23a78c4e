from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.wire import tfrecord
from serving.wire.tfrecord import crc32c, frame, read_whole_records, whole_length


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        (b"\0" * 32, 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
    ],
    ids=["empty", "digits", "zeros", "ones", "ascending"],
)
def test_checksums_are_those_of_rfc_3720(data: bytes, expected: int) -> None:
    assert crc32c(data) == expected


@given(st.binary(max_size=3000))
def test_blocks_give_the_checksum_of_byte_by_byte(data: bytes) -> None:
    assert crc32c(data) == tfrecord._crc32c_short(data, tfrecord._tables()[0][-1])


@pytest.fixture()
def records() -> list[bytes]:
    return [b"", b"one", b"x" * 5000]


@pytest.fixture()
def file(tmp_path: Path, records: list[bytes]) -> Path:
    path = tmp_path / "records"
    path.write_bytes(b"".join(map(frame, records)))
    return path


def test_tensorflow_reads_what_we_write(file: Path, records: list[bytes]) -> None:
    from serving.records import read_records

    assert list(read_records(file)) == records
    assert list(read_whole_records(file)) == records
    assert whole_length(file) == file.stat().st_size


def test_every_torn_end_leaves_the_whole_records(tmp_path: Path) -> None:
    whole = frame(b"first") + frame(b"second")
    path = tmp_path / "torn"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        expected = [b"first"] if length >= len(frame(b"first")) else []
        assert list(read_whole_records(path)) == expected
        assert whole_length(path) == len(frame(b"first")) * len(expected)


@pytest.mark.parametrize("place", [0, 9, 14, 18])
def test_reading_stops_at_damage(place: int, tmp_path: Path) -> None:
    damaged = bytearray(frame(b"first"))
    damaged[place] ^= 1
    path = tmp_path / "damaged"
    path.write_bytes(frame(b"zero") + bytes(damaged) + frame(b"last"))
    assert list(read_whole_records(path)) == [b"zero"]
