from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from transform.errors import DataError
from transform.settings import DataSettings
from transform.sources import build_source
from transform.sources.base import Source


def source_at(folder: Path) -> Source:
    return build_source(DataSettings(source="cifar10", path=str(folder)))


@pytest.fixture
def batches(tmp_path: Path) -> Path:
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    random = np.random.default_rng(0)
    for name in [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]:
        records = random.integers(0, 256, (10, 3073), np.uint8)
        records[:, 0] = np.arange(10)
        (folder / name).write_bytes(records.tobytes())
    return folder


@pytest.mark.parametrize("above", [True, False])
def test_the_binary_version(batches: Path, above: bool) -> None:
    source = source_at(batches.parent if above else batches)
    listing = source.listing()
    assert np.bincount(listing.given_split).tolist() == [50, 0, 10]
    assert listing.labels[3] == "cat"
    (file,) = source.read(np.array([50]))
    assert isinstance(file, bytes)
    planes = np.frombuffer((batches / "test_batch.bin").read_bytes(), np.uint8)[1:3073].reshape(3, 32, 32)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(file))), planes.transpose(1, 2, 0))


def test_class_folders_of_files(tree: Callable[[dict[str, bytes]], Path]) -> None:
    root = tree({f"{split}/{label}/1.jpg": b"" for split in ("train", "test") for label in ("cat", "dog")})
    source = source_at(root)
    assert source.name == "cifar10"
    assert source.listing().given_split.tolist() == [0, 0, 2, 2]


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (pytest.fail, ("a pickle was loaded",))


def test_the_pickled_version_is_never_loaded(tmp_path: Path) -> None:
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        (tmp_path / name).write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(DataError, match="a pickle, which can run any program"):
        source_at(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "records of 3073 bytes"), (b"\x0a" * 3073, "holds the label 10")]
)
def test_damaged_batches_are_refused(batches: Path, content: bytes, message: str) -> None:
    (batches / "data_batch_2.bin").write_bytes(content)
    with pytest.raises(DataError, match=message):
        source_at(batches).listing()


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such folder"):
        source_at(tmp_path / "none")
