"""ExampleGen on Beam: what lies in the artifact, and what it says about data that can't be used."""

from __future__ import annotations

import json
import shutil

import pytest
import tensorflow as tf
from tfx.types import artifact_utils, standard_artifacts

from pipeline.components.example_gen import LABELS_FILE, REPORT_FILE, Executor
from tests.pipeline.components.artifacts import executor, made
from transform import features
from transform.errors import DataError
from transform.settings import DataSettings


def ingest(tmp_path, folder, **settings):
    """Run the executor on a folder and return the artifact."""
    examples = made(standard_artifacts.Examples, tmp_path / "examples")
    file = tmp_path / "data.json"
    file.write_text(DataSettings(source=str(folder), **settings).model_dump_json(), encoding="utf-8")
    properties = {"settings_file": str(file), "ledger": str(tmp_path / "ledger.npz"), "fingerprint": str(tmp_path)}
    executor(Executor, tmp_path / "tmp").Do({}, {"examples": [examples]}, properties)
    return examples


def test_every_picture_lands_in_one_split_with_its_own_bytes(tmp_path, shapes):
    examples = ingest(tmp_path, shapes)
    splits = artifact_utils.decode_split_names(examples.split_names)
    assert splits == ["train", "eval", "test"]
    seen = {}
    for split in splits:
        files = tf.io.gfile.glob(f"{examples.uri}/Split-{split}/*.gz")
        for record in tf.data.TFRecordDataset(files, "GZIP").as_numpy_iterator():
            feature = tf.train.Example.FromString(record).features.feature
            origin = feature[features.ORIGIN].bytes_list.value[0].decode()
            assert origin not in seen
            seen[origin] = split
            assert feature[features.IMAGE].bytes_list.value[0] == (shapes / origin).read_bytes()
            assert origin.startswith(feature[features.LABEL_NAME].bytes_list.value[0].decode())
    assert len(seen) == 180
    assert (tmp_path / "examples" / LABELS_FILE).read_text(encoding="utf-8") == "circle\ncross\nsquare\n"
    report = json.loads((tmp_path / "examples" / REPORT_FILE).read_text(encoding="utf-8"))
    assert report["examples"]["test"] == {"circle": 6, "cross": 6, "square": 6}
    assert (tmp_path / "ledger.npz").exists()


def test_growth_moves_no_picture_and_copies_stay_together(tmp_path, shapes):
    folder = tmp_path / "grown"
    shutil.copytree(shapes, folder)
    first = ingest(tmp_path / "a", folder)
    before = origins(first.uri)
    for path in sorted((folder / "circle").iterdir())[:30]:
        shutil.copy(path, path.with_name("copy of " + path.name))
    (tmp_path / "b").mkdir()
    shutil.copy(tmp_path / "a" / "ledger.npz", tmp_path / "b" / "ledger.npz")
    after = origins(ingest(tmp_path / "b", folder).uri)
    assert {name: after[name] for name in before} == before
    assert all(after[name] == after[name.replace("copy of ", "")] for name in after if "copy of" in name)


def origins(uri: str) -> dict[str, str]:
    """Return the split of each example by its origin."""
    found = {}
    for split in ("train", "eval", "test"):
        files = tf.io.gfile.glob(f"{uri}/Split-{split}/*.gz")
        for record in tf.data.TFRecordDataset(files, "GZIP").as_numpy_iterator():
            feature = tf.train.Example.FromString(record).features.feature
            found[feature[features.ORIGIN].bytes_list.value[0].decode()] = split
    return found


def test_what_a_worker_finds_wrong_with_the_data_reaches_the_driver_in_words(tmp_path, shapes):
    folder = tmp_path / "damaged"
    shutil.copytree(shapes, folder)
    (folder / "cross" / "empty.png").write_bytes(b"")
    (folder / "cross" / "lies.jpg").write_text("I am a picture", encoding="utf-8")
    with pytest.raises(DataError, match=r"2 of 182 images are unreadable") as caught:
        ingest(tmp_path / "strict", folder)
    assert "empty.png" in str(caught.value) and "lies.jpg" in str(caught.value)
    examples = ingest(tmp_path / "lenient", folder, max_unreadable=0.05)
    report = json.loads((tmp_path / "lenient" / "examples" / REPORT_FILE).read_text(encoding="utf-8"))
    assert report["unreadable"]["count"] == 2
    assert len(origins(examples.uri)) == 180
