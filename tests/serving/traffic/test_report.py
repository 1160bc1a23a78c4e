"""The A/B report says which version is better, and how sure that is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from serving.traffic import commands, report
from serving.traffic.outcomes import Evidence
from serving.traffic.picture import svg
from serving.traffic.state import TrafficState
from serving.traffic.tallies import Tally
from tests.serving.traffic.fakes import Scene

STATE = TrafficState(
    model="pets", base_path="/pets", stable=2, canary=3, weight=0.5, phase="running", rollout="r1", steps=(0.5,)
)


def arm(right: int, wrong: int, failures: int = 0) -> Tally:
    tally = Tally(right=right, wrong=wrong)
    for number in range(200):
        tally.answer(number >= failures, 200, 10.0 + number / 10, number % 3, 0.8)
    return tally


def built(stable: Tally, canary: Tally, shadow: Tally | None = None) -> report.ABReport:
    return report.build(STATE, Evidence(stable, canary, shadow or Tally()), now=0)


def test_the_better_version_is_named() -> None:
    found = built(arm(800, 200), arm(930, 70))

    assert found.feedback.winner == "canary"
    assert found.feedback.low > 0
    assert found.feedback.p_value < 0.01
    assert found.headline.startswith("Version 3 is better than version 2, 95% certain: right answers: canary 93.00%")


def test_the_worse_canary_is_named_as_well() -> None:
    found = built(arm(930, 70), arm(800, 200))

    assert found.feedback.winner == "stable"
    assert found.headline.startswith("Version 2 is better than version 3")


def test_too_little_is_not_decided() -> None:
    found = built(arm(80, 20), arm(85, 15))

    assert found.feedback.winner == "undecided"
    assert found.headline.startswith("Not decided at 95%")
    assert found.feedback.low < 0 < found.feedback.high


def test_without_feedback_nothing_is_claimed() -> None:
    found = built(arm(80, 20), arm(0, 0))

    assert found.feedback.difference is None
    assert found.feedback.winner == "undecided"
    assert "have not called" in found.headline


def test_fewer_errors_are_better() -> None:
    found = built(arm(0, 0, failures=100), arm(0, 0, failures=1))

    assert found.errors.winner == "canary"
    assert found.errors.difference == pytest.approx(-0.495)


def test_agreement_of_shadow_answers_has_an_interval() -> None:
    shadow = Tally(agreed=180, disagreed=20)

    found = built(arm(0, 0), Tally(), shadow).agreement

    assert found.rate == 0.9
    assert 0.75 < found.low < 0.9 < found.high < 0.97


def test_json_is_valid_and_complete() -> None:
    found = built(arm(800, 200), Tally())
    values = json.loads(found.to_json())

    assert values["canary"]["p99"] is None
    assert values["stable"]["accuracy"] == 0.8
    assert values["feedback"]["text"]


def test_the_picture_is_well_formed_and_escaped() -> None:
    from xml.etree import ElementTree

    for found in (built(arm(800, 200), arm(930, 70)), built(Tally(), Tally())):
        root = ElementTree.fromstring(svg(found))
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
    hostile = report.build(STATE.changed(model="<script>"), Evidence(), now=0)
    assert "<script>" not in svg(hostile)


def test_the_report_of_a_finished_rollout_is_kept(scene: Scene) -> None:
    scene.controller.start()
    scene.answers("canary", 3, 50)
    name = scene.state.rollout
    scene.controller.abort()

    found = report.kept(scene.state_dir, name)

    assert found is not None
    assert (found.canary.answers, found.canary.version, found.stable.version) == (50, 3, 2)
    assert commands.compare(scene.settings) == found


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"stable": {"x": 1}}'])
def test_a_damaged_report_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "r1.json").write_text(content)

    assert report.kept(tmp_path, "r1") is None


def test_a_report_that_cannot_be_kept_does_not_hinder_a_rollback(scene: Scene) -> None:
    scene.controller.start()
    (scene.state_dir / "reports").write_text("a file where the folder should be")

    assert scene.controller.abort().canary is None
