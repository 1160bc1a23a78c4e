"""What results were made with, and what differs."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from pipeline.history.ingredients import differences, flat, ingredients, nested
from pipeline.history.plain import plain
from pipeline.metadata import StoredExecution
from tests.pipeline.history.synthetic import key

NAMES = st.text("abcdef_", min_size=1, max_size=4)
TREES = st.recursive(
    st.none() | st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=2),
    lambda inner: st.dictionaries(NAMES, inner, min_size=1, max_size=3),
    max_leaves=10,
)


def execution(stage: str, number: int = 1, **config: object) -> StoredExecution:
    return StoredExecution(number, "COMPLETE", {"fingerprint": key(stage, **config)}, {}, {}, [])


@given(st.dictionaries(NAMES, TREES, max_size=4))
def test_flat_and_nested_are_inverse(tree):
    assert nested(flat(tree)) == tree


@given(st.dictionaries(NAMES, st.integers() | st.none()), st.dictionaries(NAMES, st.integers() | st.none()))
def test_differences_are_what_turns_one_side_into_the_other(a, b):
    found = differences(a, b)
    assert not differences(a, a)
    changed = {d.name for d in found}
    assert {name: b[name] for name in b if name not in changed} == {n: a[n] for n in a if n not in changed}
    assert all((d.name in a) != (d.name in b) or a[d.name] != b[d.name] for d in found)
    assert [d.name for d in differences(b, a)] == [d.name for d in found]


def test_values_stand_by_the_names_that_they_have_in_the_config():
    stage = StoredExecution(
        1, "COMPLETE", {"fingerprint": '{"code": {}, "config": {"limit": 3}, "data": "x", "libraries": {}}'}, {}, {}, []
    )
    found = ingredients({"ExampleGen": stage, "Trainer": execution("Trainer", epochs=2)})
    assert found.config == {"data.limit": 3, "trainer.epochs": 2}
    assert found.data == "x"
    assert set(found.users["package.module_1"]) == {"Trainer"}


def test_a_stage_without_a_key_adds_nothing():
    assert ingredients({"SchemaGen": StoredExecution(1, "COMPLETE", {}, {}, {}, [])}).config == {}


def test_keys_in_the_custom_config_of_tfx_components_are_found():
    import json

    properties = {"custom_config": json.dumps({"fingerprint": key("Trainer", epochs=2)})}
    found = ingredients({"Trainer": StoredExecution(1, "COMPLETE", properties, {}, {}, [])})
    assert found.config == {"trainer.epochs": 2}


def test_json_has_no_numbers_that_json_has_not():
    assert plain({"a": math.nan, "b": [math.inf, 1.5]}) == {"a": None, "b": [None, 1.5]}
