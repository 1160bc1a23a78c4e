"""Calls in the calling thread: the same answers, and only where they are wanted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from serving.errors import ModelLoadError, SignatureError
from serving.server.inline_session import InlineSessionModel
from serving.server.loading import LoadOptions
from serving.server.saved_model_servable import SavedModelServable
from tests.serving.saved_models import picture

IMAGES = np.stack([picture(number) for number in range(12)])


@pytest.fixture(scope="module")
def model(classifier_dir: Path) -> Iterator[InlineSessionModel]:
    loaded = InlineSessionModel.load(classifier_dir)
    assert isinstance(loaded, InlineSessionModel)
    yield loaded
    loaded.close()


def test_both_ways_give_the_same(model: InlineSessionModel) -> None:
    for outputs in (None, ["label", "probabilities"]):
        names, pooled = model.prepare("predict_uint8", outputs)
        same_names, inline = model.prepare_inline("predict_uint8", outputs)
        assert names == same_names
        assert inline is not pooled
        assert inline is model.prepare_inline("predict_uint8", outputs)[1]
        for one, other in zip(pooled([IMAGES]), inline([IMAGES]), strict=True):
            if one.dtype == object:
                assert one.tolist() == other.tolist()
            else:
                np.testing.assert_allclose(one, other, atol=1e-6)


def test_mistakes_are_told_as_for_the_other_way(model: InlineSessionModel) -> None:
    with pytest.raises(SignatureError, match="nobody"):
        model.prepare_inline("nobody")
    with pytest.raises(SignatureError, match="no output 'nothing'"):
        model.prepare_inline("predict_uint8", ["nothing"])


def test_a_session_without_the_private_call_runs_all_the_same(
    classifier_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tensorflow.python.client import session

    monkeypatch.delattr(session.BaseSession, "_make_callable_from_options")
    with InlineSessionModel.load(classifier_dir) as model:
        assert isinstance(model, InlineSessionModel)
        (label,) = model.prepare_inline("predict_uint8", ["label"])[1]([IMAGES])
        assert len(label) == len(IMAGES)


def test_a_closed_model_says_so(classifier_dir: Path) -> None:
    model = InlineSessionModel.load(classifier_dir)
    assert isinstance(model, InlineSessionModel)
    model.prepare_inline("predict_uint8")
    model.close()
    model.close()
    with pytest.raises(ModelLoadError, match="was closed"):
        model.prepare_inline("predict_uint8")


@pytest.mark.parametrize(
    ("options", "rows", "inline"),
    [(LoadOptions(), 1, True), (LoadOptions(), 8, True), (LoadOptions(), 9, False),
     (LoadOptions(inter_op_threads=1), 1, False)],
)  # fmt: skip
def test_small_calls_run_inline_unless_the_pool_was_asked_for(
    classifier_dir: Path, monkeypatch: pytest.MonkeyPatch, options: LoadOptions, rows: int, inline: bool
) -> None:
    asked: list[str] = []
    original = InlineSessionModel.prepare_inline

    def noted(self: InlineSessionModel, *args: object) -> object:
        asked.append("inline")
        return original(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(InlineSessionModel, "prepare_inline", noted)
    servable = SavedModelServable.load(classifier_dir, options)
    try:
        assert len(servable.run("predict_uint8", {"image": IMAGES[:rows]})["label"]) == rows
    finally:
        servable.close()
    assert asked == ["inline"] * inline
