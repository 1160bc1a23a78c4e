"""The model card: fields of the toolkit's schema, figures with their intervals, names that are no markup."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from pipeline.cards.content import Subject, found_limits, model_card
from pipeline.cards.markdown import to_markdown
from pipeline.cards.publishing import card_settings
from pipeline.config.card import CardSettings
from pipeline.config.config import Config
from pipeline.optimizing.results import Certificate
from serving.certify.picks import Pick
from serving.certify.table import Row
from tests.pipeline.report.made_up import LABELS, ingestion, summary

TEXT = {"type": "string"}


def exactly(**properties: dict) -> dict:
    """An object with these fields and no others."""
    return {"type": "object", "properties": properties, "additionalProperties": False}


def several(**properties: dict) -> dict:
    return {"type": "array", "items": exactly(**properties), "minItems": 1}


DESCRIBED = several(description=TEXT)
SCHEMA = exactly(
    schema_version={"const": "0.0.2"},
    model_details=exactly(
        name=TEXT, overview=TEXT, documentation=TEXT, owners=several(name=TEXT, contact=TEXT),
        version=exactly(name=TEXT, date=TEXT, diff=TEXT), licenses=several(identifier=TEXT, custom_text=TEXT),
        references=several(reference={"type": "string", "format": "uri"}), citations=several(style=TEXT, citation=TEXT),
        path=TEXT,
    ),
    model_parameters=exactly(
        model_architecture=TEXT, data=several(name=TEXT, description=TEXT, link=TEXT), input_format=TEXT,
        output_format=TEXT,
    ),
    quantitative_analysis=exactly(
        performance_metrics=several(
            type=TEXT, value=TEXT, slice=TEXT, confidence_interval=exactly(lower_bound=TEXT, upper_bound=TEXT)
        )
    ),
    considerations=exactly(
        users=DESCRIBED, use_cases=DESCRIBED, limitations=DESCRIBED, tradeoffs=DESCRIBED,
        ethical_considerations=several(name=TEXT, mitigation_strategy=TEXT),
    ),
)  # fmt: skip
"""The fields of the Model Card Toolkit 2.0, schema 0.0.2, without those for pictures."""

EVERYTHING = {
    "author": "Ada", "license": "Apache-2.0", "description": "Tells pets apart.", "users": ("vets",),
    "tradeoffs": ("small rather than exact",), "risks": {"mistaken pets": "a person looks again"},
    "references": ("https://example.org/pets",), "data": "pictures of pets",
}  # fmt: skip


def card(forms: Certificate | None = None, **changes: Any) -> dict:
    settings = CardSettings.model_validate({"intended_use": "to sort pictures", "limits": ("not at night",), **changes})
    return model_card(
        Subject(
            "pets", settings, "cnn_small, width 1", (24, 32, 3), ingestion(), summary(0.9, 0.8), "test", 3,
            "d" * 32, "c" * 64, "0123abc", forms,
        )
    )  # fmt: skip


@pytest.mark.parametrize("written", [{}, EVERYTHING])
def test_the_fields_are_those_of_the_toolkit(written: dict):
    made = card(**written)
    jsonschema.Draft7Validator(SCHEMA).validate(made)
    assert json.loads(json.dumps(made)) == made
    for section in SCHEMA["properties"]:
        assert made[section]


def test_the_schema_of_this_test_refuses():
    made = card()
    made["considerations"]["limits"] = []
    assert not jsonschema.Draft7Validator(SCHEMA).is_valid(made)


def test_what_people_wrote_and_what_was_measured_are_in_it():
    made = card(author="Ada", license="Apache-2.0", description="Tells pets apart.")
    assert made["model_details"]["owners"] == [{"name": "Ada"}]
    assert made["model_details"]["licenses"] == [{"identifier": "Apache-2.0"}]
    assert made["considerations"]["limitations"][0] == {"description": "not at night"}
    everything = to_markdown(card(**EVERYTHING))
    for words in (
        "vets",
        "small rather than exact",
        "mistaken pets: a person looks again",
        "pictures of pets",
        "by Ada",
    ):
        assert f"- {words}" in everything or f"of {words}" in everything
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


def test_each_class_has_precision_and_recall_with_its_interval():
    metrics = card()["quantitative_analysis"]["performance_metrics"]
    (recall,) = (m for m in metrics if m["type"] == "recall" and m["slice"] == f"test, class {LABELS[1]}")
    assert recall["value"] == "0.9" and recall["confidence_interval"] == {
        "lower_bound": "0.3424",
        "upper_bound": "1.0000",
    }
    assert sum(m["type"] == "precision" for m in metrics) == 3
    assert {m["type"] for m in metrics} >= {"accuracy", "log_loss", "calibration_error"}


def limits(figures: dict, found: dict) -> list[str]:
    return found_limits(
        Subject("pets", CardSettings(), "cnn", (8, 8, 1), found, figures, "test", 3, "d" * 32, "c" * 64, "0")
    )


def test_limits_that_the_stages_found():
    figures, found = summary(0.9, None), ingestion()
    plain = limits(figures, found)
    assert "one of its 3 classes whatever the image shows" in plain[0]
    assert "on 6 images of the split test" in plain[1]
    assert plain[2:] == ["1 images of its data lie under two labels."]
    found["conflicts"]["contents"] = 0
    found["examples"]["train"][LABELS[0]] = 500
    figures["slices"][0]["per_class"][LABELS[2]] = {"precision": 1.0, "recall": 0.2, "f1": 0.3, "auc": None}
    weak, uneven = limits(figures, found)[2:]
    assert "ünïcode (20%)" in weak
    assert f"from 9 ({LABELS[1]}) to 504 ({LABELS[0]})" in uneven


def test_forms_that_ship_have_their_figures_and_what_they_give_up():
    rows = [
        Row("saved_model", "", "saved_model", "saved_model", "ok", accuracy=0.9, delta=0.0),
        Row("tflite_int8", "", "tflite_int8", "tflite", "ok", gz_bytes=70_000, accuracy=0.89, delta=-0.01,
            ci95_low=-0.02, ci95_high=0.0, ratio=10.0),
        Row("tflite_float16", "", "tflite_float16", "tflite", "ok", accuracy=0.9, delta=0.0),
    ]  # fmt: skip
    picks = {
        "mobile_cpu": Pick("mobile_cpu", "tflite_int8", "fast"),
        "server_gpu": Pick("server_gpu", "saved_model", ""),
    }
    made = card(Certificate(rows, picks, {"splits": {"report": "test"}}))
    jsonschema.Draft7Validator(SCHEMA).validate(made)
    assert {"type": "accuracy", "value": "0.89", "slice": "test, form tflite_int8"} in made["quantitative_analysis"][
        "performance_metrics"
    ]
    assert [entry["description"] for entry in made["considerations"]["tradeoffs"]] == [
        "tflite_int8: accuracy -1.00 points against the SavedModel (95 % interval -2.00 to +0.00); 70.0 kB after gzip; "
        "10.0 times as fast for one image on the machine that measured it."
    ]


def test_folders_above_the_data_are_not_told():
    given = {"name": "pets", "data": {"source": "/srv/ada/pets/"}, "transform": {"size": [8, 8], "channels": 1}}
    config = Config.model_validate(given)
    assert json.loads(card_settings(config))["card"]["data"] == "pets"


@pytest.mark.parametrize("name", ["a|b", "# head", "<b>", "*bold*", "[link](x)", "line\nbreak"])
def test_text_of_people_is_no_markup(name: str):
    page = to_markdown(card(intended_use=name))
    assert f"- {name}" not in page.replace("\\n", "")
    assert "\n# " not in page[2:]


def test_the_page_is_the_same_every_time_and_whole():
    page = to_markdown(card())
    assert page == to_markdown(card())
    for words in (
        "# pets",
        "## Limits",
        "not at night",
        "| accuracy | test | 0.9 | 0.4",
        "commit 0123abc",
        "## Ethical considerations\n\n- not stated",
    ):
        assert words in page
