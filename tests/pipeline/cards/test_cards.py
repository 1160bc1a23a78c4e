"""The model card: fields of the toolkit's schema, figures with their intervals, names that are no markup."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cards.content import Subject, _interval, model_card
from pipeline.cards.markdown import to_markdown
from pipeline.config.card import CardSettings
from tests.pipeline.report.made_up import LABELS, ingestion, summary

FIELDS = {
    "model_details": {"name", "overview", "documentation", "owners", "version", "licenses", "references", "citations",
                      "path", "graphics"},
    "model_parameters": {"model_architecture", "data", "input_format", "input_format_map", "output_format",
                         "output_format_map"},
    "quantitative_analysis": {"performance_metrics", "graphics"},
    "considerations": {"users", "use_cases", "limitations", "tradeoffs", "ethical_considerations"},
}  # fmt: skip
"""Of the Model Card Toolkit's JSON schema 0.0.2."""


def card(**changes: str | tuple[str, ...]) -> dict:
    settings = CardSettings.model_validate({"intended_use": "to sort pictures", "limits": ("not at night",), **changes})
    return model_card(
        Subject(
            "pets", settings, "cnn_small, width 1", (24, 32, 3), ingestion(), summary(0.9, 0.8), "test", "d" * 32,
            "c" * 64, "0123abc",
        )
    )  # fmt: skip


def test_the_fields_are_those_of_the_toolkit():
    made = card()
    assert made.pop("schema_version") == "0.0.2"
    assert set(made) == set(FIELDS)
    for section, values in made.items():
        assert set(values) <= FIELDS[section]
    assert json.loads(json.dumps(made)) == made


def test_what_people_wrote_and_what_was_measured_are_in_it():
    made = card(author="Ada", license="Apache-2.0", description="Tells pets apart.")
    assert made["model_details"]["owners"] == [{"name": "Ada"}]
    assert made["model_details"]["licenses"] == [{"identifier": "Apache-2.0"}]
    assert made["considerations"]["limitations"][0] == {"description": "not at night"}
    (accuracy, _) = (m for m in made["quantitative_analysis"]["performance_metrics"] if m["type"] == "accuracy")
    assert accuracy["value"] == "0.9" and accuracy["slice"] == "test"
    assert [entry["name"] for entry in made["model_parameters"]["data"]] == ["train", "eval", "test"]
    assert "24 x 32" in made["model_parameters"]["input_format"]


def test_only_the_candidate_counts_and_slices_are_named():
    metrics = card()["quantitative_analysis"]["performance_metrics"]
    assert {m["value"] for m in metrics if m["type"] == "accuracy"} == {"0.9"}
    assert f"test, label_name = {LABELS[0]}" in {m["slice"] for m in metrics}


def test_a_license_that_is_no_identifier_is_text():
    assert card(license="ask the legal department")["model_details"]["licenses"] == [
        {"custom_text": "ask the legal department"}
    ]


def test_weak_classes_are_a_limit():
    from pipeline.cards.content import _weak_classes

    figures = summary(0.9, None)
    figures["slices"][0]["per_class"][LABELS[2]] = {"precision": 1.0, "recall": 0.2, "f1": 0.3, "auc": None}
    (sentence,) = _weak_classes(figures)
    assert "ünïcode (20%)" in sentence


@given(st.integers(0, 1000), st.integers(1, 1000))
def test_the_interval_holds_the_share_and_stays_within_bounds(right: int, more: int):
    share = right / (right + more)
    interval = _interval(share, right + more)
    low, high = float(interval["lower_bound"]), float(interval["upper_bound"])
    assert 0 <= low <= share + 1e-4 and share - 1e-4 <= high <= 1


@pytest.mark.parametrize("name", ["a|b", "# head", "<b>", "*bold*", "[link](x)", "line\nbreak"])
def test_text_of_people_is_no_markup(name: str):
    page = to_markdown(card(intended_use=name))
    assert f"- {name}" not in page.replace("\\n", "")
    assert "\n# " not in page[2:]


def test_the_page_is_the_same_every_time_and_whole():
    page = to_markdown(card())
    assert page == to_markdown(card())
    for words in ("# pets", "## Limits", "not at night", "| accuracy | test | 0.9 | 0.4", "commit 0123abc"):
        assert words in page
