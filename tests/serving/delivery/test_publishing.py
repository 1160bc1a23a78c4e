"""Publication of packages for servers: numbers, rollback, other kinds, and what was changed on the way."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from serving.delivery.build import build_delivery
from serving.delivery.publishing import publish_delivery
from serving.errors import PublishError, ServingError
from serving.publish import publish, rollback, versions
from tests.serving.delivery.conftest import LABELS, contents, server_form
from tests.serving.saved_models import make_plain_model


def test_versions_keep_and_rollback(package: Path, sources: dict[str, Path], tmp_path: Path) -> None:
    base = tmp_path / "forms"
    first = publish_delivery(package, base, metrics={"accuracy of server_cpu": 0.9}, config_hash="c")
    assert (first.number, first.served) == (1, True)
    assert first.manifest is not None
    assert (first.manifest.name, first.manifest.labels) == ("animals", LABELS)
    assert publish_delivery(package, base).already_published
    other = build_delivery(tmp_path / "other", contents(server_form("onnx_float32", sources["onnx_float32"])))
    assert publish_delivery(other, base).number == 2
    restored = rollback(base)
    assert (restored.number, restored.restores) == (3, 1)
    assert publish_delivery(other, base, keep=2).number == 4
    assert [(version.number, version.ok) for version in versions(base)] == [(3, True), (4, True)]


def test_another_kind_of_base_or_content_is_refused(package: Path, tmp_path: Path) -> None:
    model = make_plain_model(tmp_path / "model")
    publish(model, tmp_path / "served", name="animals")
    with pytest.raises(PublishError, match="does not hold server packages"):
        publish_delivery(package, tmp_path / "served")
    with pytest.raises(PublishError, match=r"no server package: expected forms\.json"):
        publish_delivery(model, tmp_path / "forms")
    assert not (tmp_path / "forms").exists()


def edit(card: Path, **changes: object) -> None:
    card.write_text(json.dumps({**json.loads(card.read_text()), **changes}))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda p: (p / "server_cpu/model.bin").write_bytes(b"\0" * 60), "another size or SHA-256"),
        (lambda p: (p / "server_cpu/model.bin").unlink(), "is missing"),
        (lambda p: (p / "labels.txt").write_text("ape\n"), "does not hold the labels"),
        (lambda p: (p / "server_gpu/labels.txt").write_text("ape\n"), "does not hold the labels"),
        (lambda p: (p / "server_cpu/classify.py").unlink(), "classify.py cannot be read"),
        (lambda p: (p / "samples/expected.json").write_text("{}"), "key 'samples' is missing"),
        (lambda p: (p / "server_cpu/card.json").write_text("{"), "not valid JSON"),
        (lambda p: edit(p / "server_cpu/card.json", variant="onnx_int8"), "is not about what forms.json names"),
        (lambda p: edit(p / "server_cpu/card.json", format=2), "a newer slipway"),
        (lambda p: edit(p / "forms.json", format=2), "a newer slipway"),
        (
            lambda p: edit(
                p / "forms.json",
                forms=[{"target": "server_cpu", "folder": "../x", "variant": "v", "form": "f", "runtime": "r"}],
            ),
            r"\.\./x",
        ),
    ],
    ids=["weights", "no-weights", "labels", "inner-labels", "example", "samples", "json", "card", "format", "index",
         "outside"],
)  # fmt: skip
def test_what_does_not_hold_what_it_promises_is_not_published(damage, words, package: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(package, tmp_path / "copy"))
    damage(copy)
    with pytest.raises(ServingError, match=words):
        publish_delivery(copy, tmp_path / "forms")
    assert not (tmp_path / "forms").exists()
