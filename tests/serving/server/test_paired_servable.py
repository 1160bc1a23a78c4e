"""Two loads of a model: each call goes to one of them, by its rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from serving.server.paired_servable import PairedServable
from serving.server.status import Code, StatusError
from tests.serving.server.engines import BAD, Engine, signature


@pytest.fixture()
def engines() -> tuple[Engine, Engine]:
    """With all cores, and with one thread."""
    both = [Engine(signature("serving_default"), signature("other")) for _ in range(2)]
    return both[0], both[1]


@pytest.mark.parametrize(
    ("name", "shape", "single"),
    [
        ("serving_default", (1, 2), True),
        ("serving_default", (4, 2), True),
        ("serving_default", (5, 2), False),
        ("serving_default", (0, 2), False),
        ("serving_default", (), False),
        ("other", (1, 2), False),
    ],
)
def test_few_rows_of_a_measured_signature_go_to_the_one_thread(
    engines: tuple[Engine, Engine], name: str, shape: tuple[int, ...], single: bool
) -> None:
    paired = PairedServable(*engines, {"serving_default": 4})
    inputs = {"x": np.ones(shape)}
    paired.run(name, inputs, ["y"])
    whole, one = engines
    assert [bool(whole.runs), bool(one.runs)] == [not single, single]
    ((asked, given, outputs),) = whole.runs or one.runs
    assert (asked, outputs) == (name, ("y",))
    assert given["x"] is inputs["x"]


def test_a_call_without_inputs_goes_to_the_whole_model(engines: tuple[Engine, Engine]) -> None:
    def empty(_: Any) -> dict[str, np.ndarray]:
        return {}

    engines[0].answer = empty
    assert PairedServable(*engines, {"serving_default": 4}).run("serving_default", {}) == {}


def test_a_call_that_fails_on_one_thread_is_left_to_the_whole_model(engines: tuple[Engine, Engine]) -> None:
    def fail(_: Any) -> dict[str, np.ndarray]:
        raise StatusError(Code.INVALID_ARGUMENT, "an operation that shall not be named")

    whole, one = engines
    one.answer = fail
    paired = PairedServable(whole, one, {"serving_default": 4})
    assert paired.run("serving_default", {"x": np.ones((1, 2))})["y"].tolist() == [[2, 2]]
    with pytest.raises(StatusError, match="a bad row"):
        paired.run("serving_default", {"x": np.full((1, 2), BAD)})


def test_both_are_closed(engines: tuple[Engine, Engine]) -> None:
    paired = PairedServable(*engines, {"serving_default": 4})
    paired.close()
    assert engines[0].closed and engines[1].closed


def test_it_shows_the_signatures_of_the_model(engines: tuple[Engine, Engine]) -> None:
    paired = PairedServable(*engines, {"serving_default": 4})
    assert paired.signatures is engines[0].signatures
    assert paired.batchable is engines[0].batchable
