"""What a person sees of a run, with and without a terminal."""

from __future__ import annotations

import io

from pipeline.cli.screen import RunScreen
from pipeline.records import HIT, RAN, SUCCEEDED, RunRecord, StageRecord
from transform.progress import report


def shown(terminal: bool) -> str:
    """Return what the screen writes about a small run."""

    class Stream(io.StringIO):
        def isatty(self) -> bool:
            return terminal

    stream = Stream()
    screen = RunScreen(stream)
    record = RunRecord("id", "pictures", "p.yaml", "now", 1, "the.log", "f")
    record.stages = [StageRecord("ExampleGen"), StageRecord("Trainer"), StageRecord("Pusher")]
    record.warnings = ["qat cannot be applied"]
    with screen.prepared("pictures"):
        screen.run_started(record)
    cached, trainer, _ = record.stages
    screen.stage_started(cached)
    cached.state, cached.detail, cached.seconds = HIT, "12 images", 0.1
    screen.stage_finished(cached)
    screen.stage_started(trainer)
    trainer.state, trainer.reason = RAN, "train.epochs 5 -> 6"
    screen.stage_runs(trainer)
    report(2, 6, "epochs", loss=0.123456)
    trainer.detail, trainer.seconds = "6 epochs", 61.2
    screen.stage_finished(trainer)
    record.state, record.seconds, record.version, record.served = SUCCEEDED, 70.0, 3, "served/3"
    record.bundle, record.forms = "edge/4", "forms/2"
    record.verdicts = [{"gate": "Evaluator", "passed": True, "sentence": "accuracy is 0.99", "checks": []}]
    screen.run_finished(record)
    return stream.getvalue()


def test_a_run_without_a_terminal_is_plain_lines():
    text = shown(terminal=False)
    assert "\x1b" not in text
    for words in (
        "Slipway pictures: looking at the data", "the.log", "known now: qat cannot be applied",
        "ExampleGen        HIT", "MISS: train.epochs 5 -> 6", "6 epochs", "accuracy is 0.99",
        "version 3 is in served/3, the mobile bundle in edge/4, the forms for other servers in forms/2", "all stages",
    ):  # fmt: skip
        assert words in text


def test_a_terminal_shows_progress_with_figures(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    text = shown(terminal=True)
    assert "\x1b[" in text
    assert "served/3" in text
