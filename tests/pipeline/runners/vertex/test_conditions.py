"""Conditions as TFX's compiler writes them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ConfigError
from pipeline.runners.vertex.conditions import holds, inputs

BLESSED = "inputs.artifacts['blessing'].artifacts[0].metadata['blessed']"


def artifacts(**metadata: Any) -> dict[str, list[dict[str, Any]]]:
    return {"blessing": [{"uri": "gs://bucket/b", "metadata": metadata}]}


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (f"({BLESSED} == 1.0)", True),
        (f"!({BLESSED} == 1.0)", False),
        (f"({BLESSED} < 1.0)", False),
        (f"({BLESSED} > 0.0)", True),
        (f"(({BLESSED} == 1.0) && !({BLESSED} == 0.0))", True),
        (f"(({BLESSED} == 0.0) || ({BLESSED} == 2.0))", False),
        ("(inputs.artifacts['blessing'].artifacts[0].uri == 'gs://bucket/b')", True),
        ("((inputs.artifacts['blessing'].artifacts[0].uri + '/x') == 'gs://bucket/b/x')", True),
        (f"({BLESSED} == 1.0) && (({BLESSED} == 0.0) || !({BLESSED} == 3.0))", True),
        ("('a && !b' == 'a && !b')", True),
    ],
)
def test_what_tfx_writes_is_understood(condition: str, expected: bool) -> None:
    assert holds(condition, artifacts(blessed=1.0)) is expected


def test_the_inputs_are_found() -> None:
    assert inputs(f"({BLESSED} == 1.0) && (inputs.artifacts['model'].artifacts[0].uri == 'x')") == {"blessing", "model"}


@pytest.mark.parametrize(
    "condition", ["__import__('os')", "inputs.artifacts[", "open('x')", "other == 1", "a if b else c", "", "1 +"]
)
def test_anything_else_is_refused_and_never_run(condition: str) -> None:
    with pytest.raises(ConfigError, match="can't be read"):
        holds(condition, artifacts())


def test_missing_metadata_is_an_error_not_a_no() -> None:
    with pytest.raises(ConfigError, match="isn't there"):
        holds(f"({BLESSED} == 1.0)", artifacts())
    with pytest.raises(ConfigError, match="isn't there"):
        holds(f"({BLESSED} == 1.0)", {"blessing": []})


@given(st.text(max_size=40))
def test_any_text_gives_an_answer_or_a_sentence(text: str) -> None:
    try:
        inputs(text)
    except ConfigError:
        return


@given(st.lists(st.booleans(), min_size=1, max_size=5), st.sampled_from(["&&", "||"]))
def test_joined_conditions_hold_as_all_or_any(values: list[bool], joint: str) -> None:
    text = f" {joint} ".join(f"(1.0 == {1.0 if value else 0.0})" for value in values)
    assert holds(text, {}) is (all(values) if joint == "&&" else any(values))
