from __future__ import annotations

import gzip
import hashlib
import os
from pathlib import Path

import pytest

from serving.errors import ServingError
from serving.measure.size import files_of, measure_size


def tree(root: Path, names: list[str]) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode() * 100)
    return root


def test_a_file(tmp_path: Path) -> None:
    content = b"weights " * 1000
    (tmp_path / "model.tflite").write_bytes(content)
    found = measure_size(tmp_path / "model.tflite")
    assert found.bytes == 8000
    assert found.sha256 == hashlib.sha256(content).hexdigest()
    assert found.gz_bytes == len(gzip.compress(content, 9))


def test_a_directory_does_not_depend_on_order_or_time(tmp_path: Path) -> None:
    names = ["saved_model.pb", "variables/variables.index", "assets/a.txt"]
    first, second = tree(tmp_path / "first", names), tree(tmp_path / "second", names[::-1])
    os.utime(second / "saved_model.pb", (1, 1))
    assert measure_size(first) == measure_size(second)
    assert measure_size(first).bytes == sum(len(name) * 100 for name in names)
    assert measure_size(first).gz_bytes < measure_size(first).bytes


def test_content_and_names_count(tmp_path: Path) -> None:
    first = measure_size(tree(tmp_path / "first", ["a", "b"]))
    (tree(tmp_path / "second", ["a", "b"]) / "b").write_bytes(b"c" * 100)
    assert measure_size(tmp_path / "second").sha256 != first.sha256
    (tree(tmp_path / "third", ["a", "b"]) / "b").rename(tmp_path / "third" / "c")
    assert measure_size(tmp_path / "third").sha256 != first.sha256


def test_the_sum_of_several_files_is_that_of_the_lines_of_sha256sum(tmp_path: Path) -> None:
    tree(tmp_path / "model", ["b", "a"])
    lines = "".join(f"{hashlib.sha256(name.encode() * 100).hexdigest()}  {name}\n" for name in "ab")
    assert measure_size(tmp_path / "model").sha256 == hashlib.sha256(lines.encode()).hexdigest()


def test_the_weights_beside_an_openvino_model_count(tmp_path: Path) -> None:
    (tmp_path / "model.xml").write_bytes(b"x" * 10)
    alone = measure_size(tmp_path / "model.xml")
    (tmp_path / "model.bin").write_bytes(b"w" * 90)
    (tmp_path / "other.bin").write_bytes(b"w" * 90)
    assert [name for name, _ in files_of(tmp_path / "model.xml")] == ["model.bin", "model.xml"]
    assert measure_size(tmp_path / "model.xml").bytes == 100
    assert measure_size(tmp_path / "model.xml").sha256 != alone.sha256


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ServingError, match="does not exist"):
        measure_size(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ServingError, match="holds no file"):
        measure_size(tmp_path / "empty")
