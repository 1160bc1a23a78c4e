from __future__ import annotations

import gc
import gzip
import io
import os
import pickle
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from transform.errors import DataError
from transform.settings import DataSettings
from transform.sources import build_source, fashion_mnist
from transform.sources.idx import read_idx
from transform.sources.stat_cache import StatCache


def source_at(folder: Path) -> fashion_mnist.FashionMnistSource:
    source = build_source(DataSettings(source="fashion_mnist", path=str(folder)))
    assert isinstance(source, fashion_mnist.FashionMnistSource)
    return source


def test_the_official_test_set_is_kept(fashion_files: Path) -> None:
    listing = source_at(fashion_files).listing()
    assert np.bincount(listing.given_split).tolist() == [200, 0, 40]
    assert listing.labels[:2] == ("T-shirt/top", "Trouser")
    assert (listing.refs[0], listing.refs[200]) == ("train/0", "test/0")


def test_pixels_survive_as_png_in_any_order(fashion_files: Path) -> None:
    source = pickle.loads(pickle.dumps(source_at(fashion_files)))
    images = read_idx(fashion_files / "train-images-idx3-ubyte.gz")
    indices = np.array([199, 0, 7])
    for index, file in zip(indices, source.read(indices), strict=True):
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(file))), images[index])


def test_digests_tell_pixels_apart(fashion_files: Path) -> None:
    source = source_at(fashion_files)
    source.arrays.images[1] = source.arrays.images[0]
    digests = source.digests(np.array([0, 1, 2]))
    assert digests.shape == (3, 16)
    assert digests[0].tobytes() == digests[1].tobytes() != digests[2].tobytes()


def test_copies_in_a_process_share_the_array_and_a_pickle_leaves_it_behind(fashion_files: Path) -> None:
    source = source_at(fashion_files)
    array = source.arrays
    assert pickle.loads(pickle.dumps(source)).arrays is array
    assert len(pickle.dumps(source)) < 2000
    del array, source
    gc.collect()
    assert not any("fashion" in key for key in __import__("transform.sources.arrays", fromlist=["_"])._loaded)


def test_fingerprint_is_that_of_the_content(fashion_files: Path, tmp_path: Path) -> None:
    before = source_at(fashion_files).fingerprint(StatCache())
    moved = tmp_path / "moved"
    shutil.copytree(fashion_files, moved)
    assert source_at(moved).fingerprint() == before
    labels = moved / "t10k-labels-idx1-ubyte.gz"
    labels.write_bytes(gzip.compress(gzip.decompress(labels.read_bytes())[:-1] + b"\0"))
    assert source_at(moved).fingerprint() != before


def test_a_folder_without_the_files_says_which(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected a folder that holds train-images-idx3-ubyte.gz, "):
        source_at(tmp_path)


def test_labels_that_do_not_fit_are_refused(fashion_files: Path) -> None:
    labels = fashion_files / "train-labels-idx1-ubyte.gz"
    labels.write_bytes(gzip.compress(struct.pack(">HBBI", 0, 8, 1, 3) + b"\1\2\3"))
    with pytest.raises(DataError, match="one label for each image"):
        source_at(fashion_files).listing()
    labels.write_bytes(gzip.compress(struct.pack(">HBBI", 0, 8, 1, 200) + b"\x0a" * 200))
    with pytest.raises(DataError, match="holds the label 10; expected 0 to 9"):
        source_at(fashion_files).listing()


def test_the_cache_of_keras_is_found(fashion_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fashion_mnist, "PACKAGE_DIR", str(tmp_path / "none"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    assert fashion_mnist.find_files() is None
    shutil.copytree(fashion_files, tmp_path / "keras" / "datasets" / "fashion-mnist")
    found = fashion_mnist.find_files()
    assert found is not None and found[0].startswith(str(tmp_path / "keras"))


@pytest.mark.skipif(
    not os.path.isdir(fashion_mnist.PACKAGE_DIR),
    reason="dataset-fashion-mnist is not installed; `make programs` installs it",
)
def test_the_real_files_hold_seventy_thousand_images() -> None:
    source = build_source(DataSettings(source="fashion_mnist"))
    listing = source.listing()
    assert np.bincount(listing.given_split).tolist() == [60_000, 0, 10_000]
    assert np.bincount(listing.label_ids).tolist() == [7000] * 10
