from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from transform.errors import DataError
from transform.sources.idx import read_idx

ARRAY = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
PLAIN = struct.pack(">HBBIII", 0, 8, 3, 2, 3, 4) + ARRAY.tobytes()


@pytest.mark.parametrize("packed", [True, False])
def test_arrays_come_back(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / ("x.gz" if packed else "x")
    path.write_bytes(gzip.compress(PLAIN) if packed else PLAIN)
    assert np.array_equal(read_idx(path), ARRAY)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x", b"", "damaged or cut short"),
        ("x", b"\x1f\x8b" + PLAIN, "not an IDX file"),
        ("x", PLAIN[:-1], "more than it can hold|does not hold the 24 bytes"),
        ("x", PLAIN + b"x", "does not hold the 24 bytes"),
        ("x", struct.pack(">HBBIII", 0, 8, 3, 2**31, 2**31, 4), "more than it can hold"),
        ("x.gz", gzip.compress(PLAIN, mtime=0)[:-9], "damaged or cut short"),
        ("x.gz", PLAIN, "damaged or cut short"),
        ("x.gz", gzip.compress(struct.pack(">HBBII", 0, 8, 2, 2**31, 2**31), mtime=0), "more than it can hold"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_idx(tmp_path / name)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none.gz' cannot be read: No such file"):
        read_idx(tmp_path / "none.gz")
