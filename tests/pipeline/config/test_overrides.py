"""`--set`: values, addresses and messages."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.config import load
from pipeline.errors import ConfigError


def problems(file: Path, *overrides: str) -> list[str]:
    """Return the messages that overrides give."""
    with pytest.raises(ConfigError) as caught:
        load(file, overrides)
    return list(caught.value.problems)


def test_values_are_yaml(minimal: Path) -> None:
    config = load(
        minimal,
        [
            "train.epochs=3",
            "train.learning_rate=1e-2",
            "tune.mode=off",
            "push.keep=~",
            "train.augment=[flip, cutout]",
        ],
    ).config
    assert (config.train.epochs, config.train.learning_rate, config.tune.mode) == (3, 0.01, "off")
    assert config.push.keep is None and config.train.augment == ("flip", "cutout")


def test_a_value_may_hold_an_equals_sign(minimal: Path) -> None:
    assert load(minimal, ["data.source=/a=b"]).config.data.source == "/a=b"


def test_the_last_override_wins(minimal: Path) -> None:
    assert load(minimal, ["train.epochs=3", "train={seed: 5}", "train.epochs=4"]).config.train.epochs == 4


def test_a_gate_that_the_file_does_not_have(minimal: Path) -> None:
    loaded = load(minimal, ["evaluate.gates.accuracy.min=0.9"])
    assert loaded.config.evaluate.gates["accuracy"].min == 0.9
    assert loaded.positions["evaluate", "gates", "accuracy", "min"].override == "evaluate.gates.accuracy.min=0.9"


def test_an_item_of_a_list_in_the_file(minimal: Path) -> None:
    loaded = load(minimal, ["transform.size.1=16"])
    assert loaded.config.transform.size == (8, 16)
    assert loaded.positions["transform", "size", 0].line == 3


def test_an_item_of_a_default_list(minimal: Path) -> None:
    low, high = load(minimal).config.tune.learning_rate
    assert load(minimal, [f"tune.learning_rate.1={high / 2}"]).config.tune.learning_rate == (low, high / 2)


def test_an_override_repairs_what_the_file_gets_wrong(minimal: Path) -> None:
    minimal.write_text(minimal.read_text() + "train: {epochs: 0}\n")
    assert load(minimal, ["train.epochs=1"]).config.train.epochs == 1


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epochs", "expected section.key=value, for example train.epochs=3"),
        ("=3", "expected section.key=value"),
        ("train..epochs=3", "expected section.key=value"),
        ("train.epoch=3", "unknown key 'epoch' in section 'train'; did you mean 'epochs'?"),
        ("trian.epochs=3", "unknown key 'trian' at the top level; did you mean 'train'?"),
        ("train.epochs=0", "train.epochs: received 0; expected a whole number from 1 to 10000"),
        ("train.epochs=[1", "this is not YAML"),
        ("train.epochs=&a 1", "anchor '&a' is not supported"),
        ("name.x=1", "name is 'demo', which holds no 'x'"),
        (
            "transform.size.2=1",
            "transform.size is a list of 2 items; expected a position from 0 to 1 instead of '2'",
        ),
        ("transform.size.-1=1", "transform.size is a list of 2 items"),
        ("transform.size.x=1", "transform.size is a list of 2 items"),
        (
            "train.augment.0=flip",
            "train.augment is an empty list; set the whole list, for example train.augment=[…]",
        ),
        ("tune.learning_rate.0=1", "tune.learning_rate is [1.0, 0.01]; expected [min, max]"),
    ],
)
def test_a_message_names_the_override(minimal: Path, override: str, message: str) -> None:
    [problem] = problems(minimal, override)
    assert problem.startswith(f"--set {override}: ")
    assert message in problem


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(override=st.one_of(st.text(), st.from_regex(r"(train|evaluate|tune|name)(\.[a-z0-9]{1,9}){0,4}=.{0,12}")))
def test_any_override_gives_a_config_or_a_config_error(minimal: Path, override: str) -> None:
    try:
        assert load(minimal, [override]).config.data.source
    except ConfigError as error:
        assert all(problem.startswith(("--set", str(minimal))) for problem in error.problems)
