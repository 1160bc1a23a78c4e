"""Techniques are trained once, kept under a hash of all they depend on, and a failure is a reason."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.optimizing import training
from pipeline.optimizing.sources import Sources
from trainer.compress.settings import FinetuneSettings
from trainer.compress.technique import parse
from trainer.errors import TrainerError


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sources:
    for name, files in {"keras": ["model.json"], "examples/Split-train": ["a"], "examples/Split-eval": ["b"]}.items():
        (tmp_path / name).mkdir(parents=True)
        for file in files:
            (tmp_path / name / file).write_text("first")
    handed = SimpleNamespace(model=None, model_settings=None, train_settings=SimpleNamespace(cache_mb=1))
    monkeypatch.setattr(training.handover, "load", lambda folder: handed)
    monkeypatch.setattr(Sources, "split", lambda self, name, cache_mb=0: None)
    return Sources(tmp_path / "saved_model", tmp_path / "keras", tmp_path / "examples", tmp_path / "graph")


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the techniques that were really trained."""
    from trainer.compress import compressing, exporting

    names: list[str] = []

    def compress(name: str, *rest: object) -> SimpleNamespace:
        names.append(name)
        if name == "qat":
            raise TrainerError("Lambda can't be quantized; use a layer instead")
        if name == "distill":
            raise RuntimeError("the library is broken")
        return SimpleNamespace(details={"technique": name})

    def export(compressed: SimpleNamespace, folder: Path) -> Path:
        folder.mkdir()
        (folder / "saved_model.pb").write_text(compressed.details["technique"])
        return folder

    monkeypatch.setattr(compressing, "compress", compress)
    monkeypatch.setattr(exporting, "export", export)
    return names


def train(names: list[str], sources: Sources, store: Path, **settings: object) -> dict[str, training.Trained]:
    techniques = [parse(name) for name in names]
    return training.train_techniques(techniques, FinetuneSettings(**settings), sources, store)


def test_a_technique_is_trained_once_until_something_it_depends_on_changes(sources, trained, tmp_path):
    store = tmp_path / "store"
    first = train(["prune50", "cluster16"], sources, store)
    assert first["prune50"].saved_model is not None
    assert (first["prune50"].saved_model / "saved_model.pb").read_text() == "prune50"
    assert train(["prune50", "cluster16"], sources, store) == first
    assert trained == ["prune50", "cluster16"]
    train(["prune50"], sources, store, epochs=5)
    assert trained == ["prune50", "cluster16", "prune50"]
    (sources.keras / "model.json").write_text("second")
    train(["prune50"], sources, store, epochs=5)
    (sources.examples / "Split-train" / "a").write_text("second")
    train(["prune50"], sources, store, epochs=5)
    assert trained[3:] == ["prune50", "prune50"]


def test_what_no_variant_needs_any_more_is_removed(sources, trained, tmp_path):
    store = tmp_path / "store"
    train(["prune50", "cluster16"], sources, store)
    train(["cluster16"], sources, store)
    assert [folder.name.split("-")[0] for folder in store.iterdir()] == ["cluster16"]
    assert train([], sources, store) == {}
    assert not store.exists()


def test_an_interrupted_training_leaves_nothing_that_counts(sources, trained, tmp_path):
    store = tmp_path / "store"
    (store / ".prune50-0123456789abcdef.99").mkdir(parents=True)
    train(["prune50"], sources, store)
    assert trained == ["prune50"]
    assert [folder.name.startswith("prune50-") for folder in store.iterdir()] == [True]


def test_a_failure_is_a_reason_and_the_others_go_on(sources, trained, tmp_path):
    outcomes = train(["qat", "distill", "prune50"], sources, tmp_path / "store")
    assert outcomes["qat"].saved_model is None and "use a layer instead" in outcomes["qat"].reason
    assert outcomes["distill"].reason == "distill failed with RuntimeError: the library is broken"
    assert outcomes["prune50"].saved_model is not None
    train(["qat"], sources, tmp_path / "store")
    assert trained.count("qat") == 2, "a failure must not be kept"
