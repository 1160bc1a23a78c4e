"""What `TF_CONFIG` may say, and what is said about the rest."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.cluster import Cluster, read_cluster
from trainer.errors import TrainerError

CHIEF = {"chief": ["10.0.0.1:2222"], "worker": ["10.0.0.2:2222", "host.example:2223"]}


def text(cluster: Any, kind: Any = "worker", index: Any = 0, **more: Any) -> str:
    return json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}, **more})


def test_what_vertex_sets() -> None:
    found = read_cluster(text(CHIEF, "worker", 1, environment="cloud", job='{"scale_tier": "CUSTOM"}'))
    assert found == Cluster(
        ("chief", "worker 0", "worker 1"), ("10.0.0.1:2222", "10.0.0.2:2222", "host.example:2223"), 2
    )
    assert found.size == 3


def test_the_first_worker_is_the_chief_where_none_is_named() -> None:
    found = read_cluster(text({"worker": ["a:1", "[::1]:2"]}))
    assert found == Cluster(("worker 0", "worker 1"), ("a:1", "[::1]:2"), 0)


@pytest.mark.parametrize(
    "value",
    [None, "", "  ", "{}", '{"cluster": {}}', text({"chief": ["a:1"]}, "chief"), text({"worker": ["a:1"]})],
)
def test_one_process_is_no_cluster(value: str | None) -> None:
    assert read_cluster(value) is None


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("{", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ("[]", r"has \[\] as the value"),
        ('{"cluster": []}', r"has \[\] as `cluster`"),
        (json.dumps({"cluster": CHIEF}), "has None as `task`"),
        (text({**CHIEF, "ps": ["a:1"]}), "has the jobs ps"),
        (text({**CHIEF, "evaluator": ["a:1"]}), "has the jobs evaluator"),
        (text({"chief": ["a:1", "b:1"]}, "chief"), "names 2 chiefs"),
        (text({"chief": "a:1"}, "chief"), "a list of host:port is wanted"),
        (text({"worker": ["a", "b:1"]}), "has 'a' as an address of worker"),
        (text({"worker": ["a:0", "b:1"]}), "has 'a:0'"),
        (text({"worker": ["a:65536", "b:1"]}), "has 'a:65536'"),
        (text({"worker": [":1", "b:1"]}), "has ':1'"),
        (text({"worker": ["a b:1", "b:1"]}), "has 'a b:1'"),
        (text({"worker": [7, "b:1"]}), "has 7"),
        (text({"worker": ["a:1", "a:1"]}), "the address a:1 to two processes"),
        (text({"worker": []}), "names no process"),
        (text(CHIEF, "worker", 2), "calls this process worker 2"),
        (text(CHIEF, "worker", -1), "calls this process worker -1"),
        (text(CHIEF, "master", 0), "calls this process master 0"),
        (text(CHIEF, None, 0), "calls this process None 0"),
        (text(CHIEF, ["chief"], 0), "calls this process"),
        (text(CHIEF, "worker", "0"), "has '0' as the index"),
        (text(CHIEF, "worker", True), "has True as the index"),
    ],
)
def test_refused(value: str, said: str) -> None:
    with pytest.raises(TrainerError, match=f"TF_CONFIG .*{said}.*; expected something like .*; correct it") as caught:
        read_cluster(value)
    assert caught.value.exit_code == 2


jsons = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
addresses = st.from_regex(r"[a-z]{1,5}:[0-9]{1,5}", fullmatch=True)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "cluster": st.dictionaries(st.sampled_from(["chief", "worker", "ps"]), st.lists(addresses) | jsons) | jsons,
            "task": st.fixed_dictionaries({"type": st.sampled_from(["chief", "worker"]), "index": st.integers(0, 3)})
            | jsons,
        },
    )
    | jsons
)
def test_anything_is_a_cluster_or_a_clear_refusal(content: Any) -> None:
    try:
        found = read_cluster(json.dumps(content))
    except TrainerError:
        return
    if found is not None:
        assert 0 <= found.rank < found.size == len(found.names) == len(set(found.addresses)) > 1
