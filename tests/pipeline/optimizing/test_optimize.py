"""What becomes of picks that miss the Evaluator's gates, and how a verdict is put into words."""

from __future__ import annotations

from pipeline.config.compress import CompressSettings
from pipeline.config.sections import EvaluateSettings
from pipeline.evaluation.verdict import Verdict
from pipeline.optimizing import optimize
from pipeline.optimizing.making import Made
from pipeline.optimizing.optimize import _PickJudge, teacher_remark
from pipeline.optimizing.results import Certificate
from pipeline.optimizing.sources import Sources
from pipeline.optimizing.variants import parse_variant
from serving.certify.picks import pick
from serving.certify.table import Row
from serving.convert.job import Outcome
from serving.errors import ServingError

FIGURES = {"accuracy": 0.9, "gz_bytes": 100, "bytes": 200, "cpu_ms_b1_p50": 1.0, "ratio": 1.0, "ratio_b32": 1.0}


def row(variant: str, runtime: str = "tflite", **figures: object) -> Row:
    return Row(variant, "", variant, runtime, "ok", **{**FIGURES, **figures})  # type: ignore[arg-type]


ROWS = [
    row("saved_model", "saved_model"),
    row("tflite_float16", bytes=80, gz_bytes=70, cpu_ms_b1_p50=0.6, gpu_delegate_ok=True),
    row("tflite_dynamic", bytes=50, gz_bytes=40, cpu_ms_b1_p50=0.5),
    row("tflite_int8", bytes=45, gz_bytes=30, cpu_ms_b1_p50=0.1),
]


class FakeJudge(_PickJudge):
    """Refuses some variants without evaluating anything."""

    def __init__(self, refused: set[str]):
        self.refused = refused
        self.asked: list[str] = []

    def _evaluate(self, name: str) -> Verdict:
        self.asked.append(name)
        return Verdict("Evaluator", name not in self.refused, f"accuracy of {name} is 0.8 (required: at least 0.85)")


def test_picks_that_pass_are_asked_once_and_stay():
    judge = FakeJudge(set())
    assert judge.settle(ROWS) == ROWS
    assert judge.asked == ["tflite_float16", "tflite_int8"]


def test_a_pick_that_misses_a_gate_is_refused_and_gives_way_to_the_next_best():
    judge = FakeJudge({"tflite_int8"})
    rows = judge.settle(ROWS)
    assert [row.status for row in rows] == ["ok", "ok", "ok", "refused"]
    assert "Refused by the gates of the section evaluate: accuracy of tflite_int8 is 0.8" in rows[3].reason
    picks = pick(rows, "saved_model")
    assert (picks["mobile_cpu"].variant, picks["mobile_size"].variant) == ("tflite_dynamic", "tflite_dynamic")
    assert sorted(judge.asked) == ["tflite_dynamic", "tflite_float16", "tflite_int8"]


def test_if_all_are_refused_the_float_form_ships_and_the_sentence_says_so():
    rows = FakeJudge({"tflite_int8", "tflite_dynamic", "tflite_float16"}).settle(ROWS)
    picks = pick(rows, "saved_model")
    assert {entry.variant for entry in picks.values()} == {"saved_model"}
    sentence = Certificate(rows, picks, {}).sentence("saved_model")
    assert sentence.startswith("none of 3 forms passed, so the float form ships (tflite_float16 refused: ")


def test_a_student_that_is_no_better_for_its_teacher_says_so():
    stage = {"eval": {"accuracy": 0.9833}, "plain_student": {"eval": {"accuracy": 0.9889}}, "helped": False}
    remark = teacher_remark({"stages": [stage]})
    assert remark == "The teacher did not help: 0.9833 on eval, a student of the same size without it 0.9889."
    assert teacher_remark({"stages": [{**stage, "helped": True}]}) == teacher_remark({"stages": [{}]}) == ""
    assert teacher_remark({}) == ""


def test_a_pick_that_does_not_run_in_the_end_is_refused_with_the_reason(tmp_path, monkeypatch):
    def broken(*arguments: object) -> None:
        raise ServingError("the runtime is gone")

    monkeypatch.setattr(optimize, "probabilities", broken)
    variant = parse_variant("tflite_int8")
    made = Made(variant, Outcome("tflite_int8", "ok", "", tmp_path / "model.tflite", 1.0), {})
    judge = _PickJudge(EvaluateSettings(), CompressSettings(), Sources(*[tmp_path] * 4), None, [made], tmp_path)  # type: ignore[arg-type]
    monkeypatch.setattr(type(judge), "_images", None)
    verdict = judge._evaluate("tflite_int8")
    assert not verdict.passed and verdict.sentence == "tflite_int8 does not run: the runtime is gone"
