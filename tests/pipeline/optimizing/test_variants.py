"""Names of variants: every form alone and with every technique it goes with, and clear words for the rest."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.optimizing.variants import REFERENCE, parse_variant
from serving.convert.forms import FORMS

CONVERTED = sorted(set(FORMS) - {REFERENCE})
TECHNIQUES = ["prune80", "prune50const", "pruneauto", "prune2by4", "channels30", "cluster16", "distill"]
AWARE = ["qat", "pqat60", "cqat16", "pcqat60x16"]


@given(st.sampled_from(sorted(FORMS)))
def test_a_form_alone_is_a_variant(form: str) -> None:
    variant = parse_variant(form)
    assert (variant.name, variant.form, variant.technique) == (form, form, None)


@given(st.sampled_from(TECHNIQUES), st.sampled_from(CONVERTED))
def test_a_technique_goes_with_every_converted_form(technique: str, form: str) -> None:
    variant = parse_variant(f"{technique}_{form}")
    assert variant.form == form
    assert variant.technique is not None
    assert variant.technique.name == technique


@given(st.sampled_from(AWARE), st.sampled_from(CONVERTED))
def test_quantization_aware_training_is_for_8_bit_forms(technique: str, form: str) -> None:
    name = f"{technique}_{form}"
    if form.endswith("_int8"):
        assert parse_variant(name).technique is not None
    else:
        with pytest.raises(ValueError, match=f"expected {technique}_tflite_int8"):
            parse_variant(name)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("tflite_int9", "did you mean tflite_int8"),
        ("tflite", "Expected a form"),
        ("", "Expected a form"),
        ("prune80", "Expected a form"),
        ("prun80_tflite_int8", "prune80"),
        ("prune0_tflite_int8", "no technique 'prune0'"),
        ("_tflite_int8", "no technique ''"),
        ("cluster16_saved_model", "needs a form to convert to"),
    ],
)
def test_other_names_are_refused_with_what_was_probably_meant(name: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_variant(name)
