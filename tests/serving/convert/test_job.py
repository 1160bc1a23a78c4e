from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.convert.job import Conversion, Outcome
from serving.errors import ConversionError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
PATHS = st.text("abc/. é", min_size=1, max_size=10).map(Path)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
DICTIONARIES = st.dictionaries(TEXT, VALUES, max_size=4)


@given(
    st.builds(
        Conversion,
        form=TEXT,
        saved_model=PATHS,
        out_dir=PATHS,
        representative=st.none() | PATHS,
        signature=st.none() | TEXT,
        keep_float=st.lists(TEXT, max_size=3).map(tuple),
        options=DICTIONARIES,
    )
)
def test_a_conversion_survives_json(job: Conversion) -> None:
    assert Conversion.from_json(job.to_json()) == job


@given(form=TEXT, status=st.sampled_from(["ok", "skipped", "failed"]), path=PATHS, details=DICTIONARIES)
def test_an_outcome_survives_json(form: str, status: Any, path: Path, details: dict[str, Any]) -> None:
    ok = status == "ok"
    outcome = Outcome(form, status, "" if ok else "because", path if ok else None, 1.25, details)
    assert Outcome.from_json(outcome.to_json()) == outcome
    assert outcome.ok is ok


@given(st.text() | VALUES.map(json.dumps))
def test_anything_else_is_an_error(text: str) -> None:
    for kind in (Conversion, Outcome):
        with pytest.raises(ConversionError):
            kind.from_json(text)


GOOD = {"form": "f", "status": "ok", "reason": "", "path": "p", "seconds": 1.0, "details": {}}


@pytest.mark.parametrize(
    "change",
    [
        {"status": "good"},
        {"reason": "but"},
        {"path": None},
        {"status": "failed"},
        {"status": "failed", "path": None},
        {"seconds": -1},
        {"seconds": True},
        {"seconds": "1"},
        {"details": []},
        {"form": None},
        {"more": 1},
    ],
)
def test_an_outcome_that_contradicts_itself_is_an_error(change: dict[str, Any]) -> None:
    assert Outcome.from_json(json.dumps(GOOD)).ok
    with pytest.raises(ConversionError):
        Outcome.from_json(json.dumps({**GOOD, **change}))


def test_nan_is_refused_both_ways() -> None:
    with pytest.raises(ConversionError, match="finite"):
        Outcome("f", "failed", "r", None, 1.0, {"x": float("nan")}).to_json()
    with pytest.raises(ConversionError, match="NaN is not allowed"):
        Outcome.from_json(json.dumps({**GOOD, "details": {"x": float("nan")}}))


def test_options_that_json_cannot_hold_are_an_error() -> None:
    with pytest.raises(ConversionError, match="options of a conversion"):
        Conversion("f", Path("a"), Path("b"), options={"x": object()}).to_json()
