"""Local prediction with a published or exported classifier."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving import classifier as classifying
from serving.classifier import Classifier
from serving.errors import ManifestError, ModelLoadError, RunError, ServingError
from serving.publish import publish
from tests.serving.saved_models import LABELS, encode_png, picture


@pytest.fixture(scope="module")
def classifier(classifier_dir: Path) -> Iterator[Classifier]:
    """The classifier of the session, open."""
    with Classifier.open(classifier_dir, threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def images() -> list[bytes]:
    """Seven pictures, encoded."""
    return [encode_png(picture(seed)) for seed in range(7)]


def test_predictions_agree_with_the_model(classifier: Classifier, images: list[bytes]) -> None:
    predictions = classifier.predict(images, top=2, batch_size=3)
    expected = classifier._model.run("predict_uint8", {"image": np.stack([picture(seed) for seed in range(7)])})
    assert [p.class_id for p in predictions] == expected["class_id"].tolist()
    for row, prediction in enumerate(predictions):
        assert prediction.error is None
        assert prediction.label == LABELS[expected["class_id"][row]]
        assert prediction.probability == pytest.approx(expected["probabilities"][row].max(), abs=1e-5)
        assert prediction.top[0] == (prediction.label, prediction.probability)
        assert len(prediction.top) == 2 and prediction.top[0][1] >= prediction.top[1][1]
    assert classifier.predict([]) == []
    assert len(classifier.predict(images[:1], top=99)[0].top) == len(LABELS)


def test_a_bad_image_does_not_fail_its_neighbours(classifier: Classifier, images: list[bytes]) -> None:
    alone = classifier.predict(images, batch_size=1)
    mixed = classifier.predict([images[0], b"", images[1], b"no picture", images[2][:50], images[3]])
    assert [bool(prediction.error) for prediction in mixed] == [False, True, False, True, True, False]
    assert [mixed[i].label for i in (0, 2, 5)] == [alone[i].label for i in (0, 1, 3)]
    assert mixed[3].error is not None and mixed[3].error.startswith("Unknown image file format")
    assert mixed[3].class_id is None and mixed[3].top == ()


def test_a_broken_model_is_no_bad_image(
    classifier: Classifier, images: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_args: Any) -> dict[str, np.ndarray]:
        raise RunError("signature 'serving_default' failed: Could not find variable", 9)

    monkeypatch.setattr(classifier._model, "run", broken)
    with pytest.raises(RunError, match="Could not find variable"):
        classifier.predict(images)


def test_paths_one_by_one(classifier: Classifier, images: list[bytes], tmp_path: Path) -> None:
    files = {
        "a.png": images[0],
        "b.txt": b"no picture",
        "c.png": images[1],
        "empty.png": b"",
        "large.png": images[2] + bytes(2000),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    names = [*files, "gone.png", "folder", "pipe", "a.png"]
    answers = list(classifier.predict_paths([tmp_path / name for name in names], 2, max_bytes=1500))
    assert [path.name for path, _ in answers] == names
    errors = {path.name: prediction.error for path, prediction in answers}
    assert errors["a.png"] is None and errors["c.png"] is None
    assert errors["b.txt"] is not None and errors["b.txt"].startswith("Unknown image file format")
    assert errors["empty.png"] == "is empty"
    assert errors["large.png"] == f"has {len(files['large.png']):,} bytes; at most 1,500 are read"
    assert errors["gone.png"] == "cannot be read: No such file or directory"
    assert errors["folder"] == "is a directory"
    assert errors["pipe"] == "is no regular file"
    assert answers[-1][1] == answers[0][1]


def test_paths_are_read_one_batch_ahead_at_most(
    classifier: Classifier, images: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.png").write_bytes(images[0])
    taken: list[int] = []

    def endless() -> Iterator[Path]:
        while True:
            taken.append(1)
            yield tmp_path / "a.png"

    stream = classifier.predict_paths(endless(), 4)
    next(stream)
    assert len(taken) == 4
    monkeypatch.setattr(classifying, "_BATCH_BYTES", 2 * len(images[0]))
    taken.clear()
    next(classifier.predict_paths(endless(), 1000))
    assert len(taken) == 2, "large files make small batches"


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"top": 0}])
def test_sizes_below_one(classifier: Classifier, options: dict[str, int]) -> None:
    with pytest.raises(ServingError, match="is 0; expected 1 or more"):
        classifier.predict([], **options)
    with pytest.raises(ServingError, match="is 0; expected 1 or more"):
        next(classifier.predict_paths([], **options))


def test_a_published_model_is_verified_before_it_is_loaded(
    classifier_dir: Path, images: list[bytes], tmp_path: Path
) -> None:
    version = publish(classifier_dir, tmp_path / "base", name="pets", labels=["Katze", "Hund", "Eule"])
    with Classifier.open(version.path) as classifier:
        assert classifier.labels == ("Katze", "Hund", "Eule")
        assert classifier.predict(images[:1])[0].error is None
    (version.path / "variables" / "variables.index").write_bytes(b"damaged")
    with pytest.raises(ManifestError, match=r"is not what was published: variables/variables\.index was changed"):
        Classifier.open(version.path)
    (version.path / "manifest.json").unlink()
    (version.path / "manifest.json").symlink_to("/dev/null")
    with pytest.raises(ManifestError, match="link, too large or no regular file"):
        Classifier.open(version.path)


def test_a_model_without_labels_numbers_its_classes(classifier_copy: Path, images: list[bytes]) -> None:
    (classifier_copy / "assets.extra" / "labels.txt").unlink()
    with Classifier.open(classifier_copy) as classifier:
        prediction = classifier.predict(images[:1], top=1)[0]
    assert prediction.label in LABELS
    assert prediction.top[0][0] == str(prediction.class_id)


def test_models_of_another_kind(classifier_copy: Path, tmp_path: Path) -> None:
    from tensorflow.core.protobuf import saved_model_pb2

    with pytest.raises(ModelLoadError, match="does not exist"):
        Classifier.open(tmp_path / "gone")
    path = classifier_copy / "saved_model.pb"
    proto = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    signatures = proto.meta_graphs[0].signature_def
    signatures["serving_default"].CopyFrom(signatures["classify"])
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(ModelLoadError, match="is no image classifier: expected a signature 'serving_default'"):
        Classifier.open(classifier_copy)


def test_importing_the_module_loads_neither_tensorflow_nor_numpy() -> None:
    code = (
        "import sys, serving.classifier, serving.publish, serving.infra_probe;"
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'tensorflow', 'numpy', 'keras', 'tf_keras'}))"
    )
    root = Path(classifying.__file__).parent.parent
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
    assert done.stdout.strip() == "[]", done.stderr
