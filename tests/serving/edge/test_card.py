"""The model card and the expected answers as files from anywhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.edge.card import ModelCard
from serving.edge.samples import Expected
from serving.errors import BundleError

unhurried = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def _places(data: Any) -> list[tuple[Any, Any]]:
    """Every container with every key in it."""
    pairs = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [place for key, value in list(pairs) for place in [(data, key), *_places(value)]]


def test_round_trip(bundle: Path) -> None:
    for kind, name in ((ModelCard, "model_card.json"), (Expected, "samples/expected.json")):
        text = (bundle / name).read_text()
        assert kind.from_json(text).to_json() == text


def test_results_keep_their_types_and_what_is_no_number_is_null(bundle: Path) -> None:
    (row,) = ModelCard.from_json((bundle / "model_card.json").read_text()).results
    assert row == {"variant": "tflite_int8", "accuracy": 0.9, "bytes": 2864, "reason": None, "delta": None}
    assert type(row["bytes"]) is int


@unhurried
@given(data=st.data())
def test_any_value_in_any_place_is_refused_or_read(bundle: Path, data: st.DataObject) -> None:
    kind, name = data.draw(st.sampled_from([(ModelCard, "model_card.json"), (Expected, "samples/expected.json")]))
    content = json.loads((bundle / name).read_text())
    container, key = data.draw(st.sampled_from(_places(content)))
    container[key] = data.draw(_values)
    try:
        again = kind.from_json(json.dumps(content))
    except BundleError:
        return
    assert kind.from_json(again.to_json()) == again


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda card: card.update(owner="x"), "unknown key 'owner'"),
        (lambda card: card.update(lables=[]), "unknown key 'lables'; did you mean 'labels'"),
        (lambda card: card.pop("license"), "key 'license' is missing"),
        (lambda card: card.update(format=2), "a newer slipway may have written it"),
        (lambda card: card["files"][0].update(size=True), r"files\[0\]\.size: received True, expected a whole number"),
        (lambda card: card["files"][0].update(path="../x"), r"files\[0\]: path '\.\./x' is unsafe"),
        (lambda card: card["files"][0].update(path="/etc/passwd"), "is unsafe"),
        (lambda card: card["files"][0].update(sha256="0"), "expected 64 hex digits"),
        (lambda card: card["files"][0].update(tolerance=2), "expected 0 or more and below 1"),
        (lambda card: card["files"][0]["input"].update(dtype="int64"), "expected 'float32' or 'uint8'"),
        (lambda card: card["files"].append(card["files"][0]), "each once"),
        (lambda card: card.update(files=[]), "expected one or more"),
        (lambda card: card.update(labels=[1]), r"labels\[0\]: received 1, expected a text"),
    ],
)
def test_what_is_wrong_is_named(bundle: Path, change: Any, words: str) -> None:
    card = json.loads((bundle / "model_card.json").read_text())
    change(card)
    with pytest.raises(BundleError, match=words):
        ModelCard.from_json(json.dumps(card))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not valid JSON"),
        ("[]", "expected an object"),
        ('{"name": 1, "name": 2}', "a key stands twice"),
        ('{"name": NaN}', "NaN is no JSON number"),
        ("[" * 100_000, "not valid JSON"),
    ],
)
def test_malformed_text(text: str, words: str) -> None:
    with pytest.raises(BundleError, match=words):
        ModelCard.from_json(text)


@pytest.mark.parametrize("name", ["../x.png", "/x.png", "a/b.png", "x.jpg", ".png", "a\n.png", "a" * 99 + ".png"])
def test_hostile_names_of_samples(name: str) -> None:
    with pytest.raises(BundleError, match="is no plain name of a PNG file"):
        Expected.from_json(json.dumps({"samples": [{"image": name, "label": None, "answers": {}}], "runtime": "x"}))
