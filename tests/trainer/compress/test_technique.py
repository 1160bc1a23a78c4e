"""Names of techniques: what is valid means what it says, what is not gets the nearest valid name."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.compress.technique import parse
from trainer.errors import TrainerError


@pytest.mark.parametrize(
    ("name", "family", "sparsity", "schedule", "clusters", "quantizes"),
    [
        ("prune80", "prune", 0.8, "polynomial", None, False),
        ("prune5", "prune", 0.05, "polynomial", None, False),
        ("prune50const", "prune", 0.5, "constant", None, False),
        ("pruneauto", "prune", None, "scan", None, False),
        ("prune2by4", "prune", None, "2by4", None, False),
        ("channels30", "channels", 0.3, None, None, False),
        ("cluster16", "cluster", None, None, 16, False),
        ("qat", "qat", None, None, None, True),
        ("pqat60", "pqat", 0.6, "polynomial", None, True),
        ("cqat256", "cqat", None, None, 256, True),
        ("pcqat75x8", "pcqat", 0.75, "polynomial", 8, True),
        ("distill", "distill", None, None, None, False),
    ],
)
def test_a_name_says_everything(
    name: str, family: str, sparsity: float | None, schedule: str | None, clusters: int | None, quantizes: bool
) -> None:
    found = parse(name)
    assert (found.name, found.family, found.schedule, found.clusters) == (name, family, schedule, clusters)
    assert found.sparsity == sparsity
    assert found.quantizes is quantizes


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("prune800", "prune99"),
        ("prune0", "prune1"),
        ("prune", "prune70"),
        ("prun80", "prune80"),
        ("prune80constant", "prune80const"),
        ("cluster2", "cluster3"),
        ("cluster1000", "cluster256"),
        ("pqat60x16", "pcqat60x16"),
        ("QAT", "qat"),
        ("distil", "distill"),
        ("prune2of4", "prune2by4"),
        ("channel25", "channels25"),
        ("", "qat"),
    ],
)
def test_a_wrong_name_gets_the_nearest_one(name: str, nearest: str) -> None:
    with pytest.raises(TrainerError, match=re.escape(f"did you mean {nearest!r}")):
        parse(name)


@given(st.one_of(st.text(max_size=20), st.from_regex(r"(prune|p?c?qat|cluster|channels)\d*(x\d*|const|auto)?")))
def test_any_text_is_a_technique_or_leads_to_one(name: str) -> None:
    try:
        found = parse(name)
    except TrainerError as error:
        suggested = re.search("did you mean '([^']+)'", str(error))
        assert suggested is not None
        assert parse(suggested[1]).name != name
    else:
        assert found.name == name
        assert found.sparsity is None or 0 < found.sparsity < 1
        assert found.clusters is None or 3 <= found.clusters <= 256
