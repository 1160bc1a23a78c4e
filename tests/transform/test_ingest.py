from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from transform import features, shards
from transform.datasets import feature_spec, raw_dataset
from transform.errors import DataError
from transform.ingest import check_chunk, chunks, ingest_local, make_plan, merge_checks, write_chunk
from transform.report import IngestReport
from transform.settings import DataSettings
from transform.sources import Source, build_source

Tree = Callable[[dict[str, bytes]], Path]
Encode = Callable[..., bytes]


def ingest(root: Path, out: Path, ledger: Path | None = None, **options: object) -> IngestReport:
    settings = DataSettings(source=str(root), **options)  # type: ignore[arg-type]
    return ingest_local(build_source(settings), settings, str(out), None if ledger is None else str(ledger))


def examples(out: Path, split: str) -> list[dict[str, object]]:
    files = sorted(str(file) for file in (out / f"Split-{split}").iterdir())
    names = list(feature_spec())
    return [
        {name: column[row] for name, column in batch.items()}
        for batch in raw_dataset(files, 64, names).as_numpy_iterator()
        for row in range(len(batch[features.LABEL]))
    ]


def places(out: Path) -> dict[bytes, str]:
    """Digest -> split of everything written."""
    return {
        row[features.DIGEST]: split  # type: ignore[misc]
        for split in features.SPLITS
        if (out / f"Split-{split}").is_dir()
        for row in examples(out, split)
    }


def test_a_folder_becomes_examples(tree: Tree, two_classes: dict[str, bytes], tmp_path: Path) -> None:
    report = ingest(tree(two_classes), tmp_path / "out")
    assert report.examples == {
        "train": {"cats": 8, "dogs": 8},
        "eval": {"cats": 1, "dogs": 1},
        "test": {"cats": 1, "dogs": 1},
    }
    rows = [row for split in features.SPLITS for row in examples(tmp_path / "out", split)]
    assert {row[features.ORIGIN].decode(): row[features.IMAGE] for row in rows} == two_classes  # type: ignore[attr-defined]
    for row in rows:
        label = row[features.ORIGIN].split(b"/")[0]  # type: ignore[attr-defined]
        assert row[features.LABEL_NAME] == label
        assert row[features.LABEL] == [b"cats", b"dogs"].index(label)
        assert (row[features.HEIGHT], row[features.WIDTH], row[features.CHANNELS]) == (5, 6, 3)
        assert row[features.FORMAT] == b"png"


def test_renaming_and_growth_move_nothing(
    tree: Tree, two_classes: dict[str, bytes], encode: Encode, tmp_path: Path
) -> None:
    root, ledger = tree(two_classes), tmp_path / "state" / "ledger.npz"
    ingest(root, tmp_path / "1", ledger)
    for number, path in enumerate(sorted((root / "cats").iterdir())):
        path.rename(root / "cats" / f"renamed {9 - number}\n.png")
    ingest(root, tmp_path / "2", ledger)
    assert places(tmp_path / "1") == places(tmp_path / "2")
    for number in range(40):
        (root / "dogs" / f"new{number}.png").write_bytes(encode(5000 + number))
    report = ingest(root, tmp_path / "3", ledger)
    after = places(tmp_path / "3")
    assert {digest: after[digest] for digest in places(tmp_path / "1")} == places(tmp_path / "1")
    assert report.examples["test"] == {"cats": 1, "dogs": 5}
    assert report.splits["from_ledger"] == 20


def test_hostile_names_copies_and_conflicts(
    tree: Tree, two_classes: dict[str, bytes], encode: Encode, tmp_path: Path
) -> None:
    two_classes["cats/new\nline ü.png"] = two_classes["cats/0.png"]
    two_classes["dogs/a cat.png"] = two_classes["cats/1.png"]
    report = ingest(tree(two_classes), tmp_path / "out")
    assert report.duplicates["copies"] == 2
    assert ["cats/0.png", "cats/new\\nline ü.png"] in report.duplicates["groups"]
    assert report.conflicts["contents"] == 1
    assert report.conflicts["groups"] == [
        [{"name": "cats/1.png", "label": "cats"}, {"name": "dogs/a cat.png", "label": "dogs"}]
    ]
    assert report.written == 22
    assert len(places(tmp_path / "out")) == 20
    assert IngestReport.from_json(report.to_json()) == report


def test_formats_that_tensorflow_cannot_read_are_converted(
    tree: Tree, two_classes: dict[str, bytes], encode: Encode, tmp_path: Path
) -> None:
    for number in range(10):
        two_classes[f"birds/{number}.webp"] = encode(900 + number, "WEBP", (9, 8))
    report = ingest(tree(two_classes), tmp_path / "out")
    assert report.images["reencoded"] == 10
    assert report.images["formats"] == {"png": 30}
    assert report.images["height"] == [5, 5, 8]
    assert report.images["sizes"] == {"5x6x3": 20, "8x9x3": 10}
    birds = [row for row in examples(tmp_path / "out", "train") if row[features.LABEL_NAME] == b"birds"]
    assert all(tf.io.decode_png(row[features.IMAGE]).shape == (8, 9, 3) for row in birds)


def test_unreadable_files_stop_the_run_and_name_five(tree: Tree, two_classes: dict[str, bytes], tmp_path: Path) -> None:
    two_classes |= {f"cats/bad\n{number}.png": b"" for number in range(7)}
    root = tree(two_classes)
    with pytest.raises(DataError) as caught:
        ingest(root, tmp_path / "out", max_unreadable=0.1)
    message = str(caught.value)
    assert "7 of 27 images are unreadable (25.93%); data.max_unreadable allows 10.00%" in message
    assert message.count("empty file") == 5
    assert "cats/bad\\n0.png: empty file" in message
    assert "and 2 more" in message
    assert "set data.max_unreadable to 0.26" in message
    assert not (tmp_path / "out").exists()
    report = ingest(root, tmp_path / "out", max_unreadable=0.26)
    assert report.unreadable["count"] == 7
    assert report.unreadable["files"][0] == {"name": "cats/bad\\n0.png", "reason": "empty file"}
    assert report.left_out == {"unreadable": 7}
    assert report.written == 20


def test_given_splits_leave_copies_of_test_images_out_of_train(tree: Tree, encode: Encode, tmp_path: Path) -> None:
    files = {f"train/{label}/{i}.png": encode(100 * (label == "b") + i) for label in "ab" for i in range(20)}
    files |= {f"test/{label}/{i}.png": encode(500 + 100 * (label == "b") + i) for label in "ab" for i in range(4)}
    files["train/a/leak.png"] = files["test/a/0.png"]
    report = ingest(tree(files), tmp_path / "out")
    assert report.left_out == {"in train, but a copy is in a more protected split": 1}
    assert report.examples["test"] == {"a": 4, "b": 4}
    assert report.examples["eval"] == {"a": 2, "b": 2}
    assert report.splits["given"] == ["train", "test"]


def test_an_interrupted_write_leaves_nothing(
    tree: Tree, two_classes: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, ledger = tree(two_classes), tmp_path / "ledger.npz"
    real = shards.ExampleSerializer.serialize
    calls = iter(range(100))

    def fail(*arguments: object) -> bytes:
        if next(calls) == 17:
            raise KeyboardInterrupt
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(shards.ExampleSerializer, "serialize", fail)
    with pytest.raises(KeyboardInterrupt):
        ingest(root, tmp_path / "out", ledger)
    assert sorted(os.listdir(tmp_path)) == ["data"]
    monkeypatch.undo()
    assert ingest(root, tmp_path / "out", ledger).written == 20


def test_a_shard_appears_complete_or_not_at_all(tree: Tree, two_classes: dict[str, bytes], tmp_path: Path) -> None:
    root = tree(two_classes)
    settings, source, plan = planned(root)
    shard = plan.shards[0]
    changed = root / source.listing().refs[int(shard.indices[-1])]
    changed.write_bytes(b"another content")
    with pytest.raises(DataError, match=r"changed while the data was being read \(its content is another one\)"):
        write_chunk(source, shard, str(tmp_path / "out"), settings)
    assert list((tmp_path / "out" / "Split-train").iterdir()) == []


def planned(root: Path):  # type: ignore[no-untyped-def]
    settings = DataSettings(source=str(root))
    source: Source = pickle.loads(pickle.dumps(build_source(settings)))
    check = merge_checks([check_chunk(source, indices, settings) for indices in chunks(source, 6)])
    return settings, source, make_plan(source, check, settings)


def test_passes_can_run_chunk_by_chunk_on_workers(
    tree: Tree, two_classes: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "_SHARD_EXAMPLES", 5)
    settings, source, plan = planned(tree(two_classes))
    worker = pickle.dumps((source, plan.shards))
    source, parts = pickle.loads(worker)
    written = [write_chunk(source, shard, str(tmp_path / "out"), settings) for shard in reversed(parts)]
    assert sorted(os.path.basename(path) for path in written if "Split-train" in path) == [
        f"data_tfrecord-{number:05}-of-00004.gz" for number in range(4)
    ]
    assert sum(len(shard) for shard in parts) == len(places(tmp_path / "out")) == 20
    labels = [set(shard.label_ids.tolist()) for shard in parts if shard.split == "train"]
    assert sum(len(kinds) == 2 for kinds in labels) >= 3


def test_the_same_data_gives_the_same_files(tree: Tree, two_classes: dict[str, bytes], tmp_path: Path) -> None:
    root = tree(two_classes)
    ingest(root, tmp_path / "1")
    ingest(root, tmp_path / "2")
    for file in (tmp_path / "1").rglob("*.gz"):
        twin = tmp_path / "2" / file.relative_to(tmp_path / "1")
        records = [list(tf.data.TFRecordDataset(str(path), "GZIP").as_numpy_iterator()) for path in (file, twin)]
        assert records[0] == records[1]


def test_arrays_are_written_without_a_check(fashion_files: Path, tmp_path: Path) -> None:
    settings = DataSettings(source="fashion_mnist", path=str(fashion_files))
    source = build_source(settings)
    report = ingest_local(source, settings, str(tmp_path / "out"))
    assert report.examples["test"] == dict.fromkeys(source.listing().labels, 4)
    assert report.images["sizes"] == {"28x28x1": 240}
    row = examples(tmp_path / "out", "test")[0]
    index = list(source.listing().refs).index(row[features.ORIGIN].decode())  # type: ignore[attr-defined]
    assert next(iter(source.read(np.array([index])))) == row[features.IMAGE]


def test_a_limit_reads_on_but_writes_less(tree: Tree, two_classes: dict[str, bytes], tmp_path: Path) -> None:
    report = ingest(tree(two_classes), tmp_path / "out", limit=10)
    assert report.examples == {
        "train": {"cats": 3, "dogs": 3},
        "eval": {"cats": 1, "dogs": 1},
        "test": {"cats": 1, "dogs": 1},
    }
    assert report.left_out == {"beyond data.limit": 10}


def test_a_folder_that_holds_something_is_refused(tree: Tree, two_classes: dict[str, bytes], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").write_text("x")
    with pytest.raises(DataError, match="is not empty"):
        ingest(tree(two_classes), tmp_path / "out")
    assert (tmp_path / "out" / "precious").read_text() == "x"


def test_progress_is_reported(
    tree: Tree, two_classes: dict[str, bytes], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "slipway.progress"):
        ingest(tree(two_classes), tmp_path / "out")
    assert [record.getMessage() for record in caplog.records][-1] == "20/20 images written"
