"""A run in the cell of a notebook: what `slipway run` does, with a line per stage as output and nothing else.

Comes in: a config file and overrides. Goes out: the run's record. Called by the notebooks and by anybody's own.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

from pipeline.records import HIT, RAN, SUCCEEDED, RunRecord, StageRecord
from pipeline.runners.observer import Observer


def set_up() -> None:
    """Prepare the process of a notebook as the command line prepares its own; before TensorFlow is imported.

    What libraries log stays out of the cells: TensorFlow, imported in a notebook, would write to them by a handler of
    its own, but adds none where there is one. During a run the log lines go to the run's log file.
    """
    from pipeline.__main__ import set_up_process

    set_up_process()
    logging.getLogger().addHandler(logging.NullHandler())


def run(
    config: str | os.PathLike[str],
    *overrides: str,
    workdir: str | os.PathLike[str] | None = None,
    to: str | None = None,
) -> RunRecord:
    """Run a pipeline and print a line about each stage.

    A gate that refuses is a finding to look at and raises nothing, unlike on the command line.

    Args:
        config: the YAML file.
        *overrides: values of the config for this run, such as `"train.epochs=3"`.
        workdir: the work directory; None: `runs/<name>` below the current folder.
        to: the stage after which to stop; None: run all of them.

    Returns:
        The record; `state` is `succeeded` or `refused`.

    Raises:
        DataError, ConfigError, TrainerError, ServingError: something the user has to change.

    Example:
        >>> record = run("digits.yaml", "train.epochs=3")  # doctest: +SKIP
        ExampleGen        MISS    1,797 images in 10 classes: train 1,438, eval 180, test 179 (no earlier run)
    """
    from pipeline.cli.noise import noise_to
    from pipeline.config.loading import load
    from pipeline.runners.options import RunOptions
    from pipeline.running import run_pipeline
    from pipeline.workdir import WorkDir

    loaded = load(config, list(overrides))
    place = WorkDir.of(loaded.config.name, workdir)
    place.create()
    log = place.logs / f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}.log"
    with place.lock(), _displays_dropped(), noise_to(log):
        return run_pipeline(loaded, place, log, RunOptions(to_stage=to), StageLines(place.root))


def output(record: RunRecord, stage: str, key: str) -> Path:
    """Return the folder of one output of a stage.

    Args:
        record: of the run.
        stage: id of the stage, such as `Evaluator`.
        key: name of the output, such as `evaluation`; the folder's parent is called so.

    Raises:
        KeyError: the run has no such stage, or the stage no such output.
    """
    found = {Path(uri).parent.name: Path(uri) for entry in record.stages if entry.id == stage for uri in entry.outputs}
    if key not in found:
        stages = ", ".join(entry.id for entry in record.stages)
        raise KeyError(
            f"received {stage}/{key}; " + (f"{stage} has {', '.join(found)}" if found else f"the stages are {stages}")
        )
    return found[key]


class StageLines(Observer):
    """Prints a line per stage: whether the cache held its result, what came out, and why it ran.

    Times are left out, and paths in the work directory are shown as they are below it, so that a notebook that runs
    again, or on another machine, shows the same text.
    """

    def __init__(self, root: Path) -> None:
        """Begin with no stage at work.

        Args:
            root: of the work directory.
        """
        self._root = f"{root}/"
        self._gap = ""
        """What stands between the state and the text of the line that is begun; empty where none is."""

    def stage_runs(self, stage: StageRecord) -> None:
        """Begin the line of a stage that executes, so that one sees what is at work."""
        self._begin(stage.id, RAN)

    def stage_finished(self, stage: StageRecord) -> None:
        """End the line, or print that of a stage that didn't execute."""
        if not self._gap:
            self._begin(stage.id, stage.state)
        reason = f"({stage.reason})" if stage.state == RAN and stage.reason else ""
        self._end(" ".join(part for part in (stage.detail, reason) if part))

    def run_finished(self, record: RunRecord) -> None:
        """Print how the run ended."""
        if self._gap:
            self._end("")
        if all(stage.state == HIT for stage in record.stages) and record.stages:
            print(f"{record.state}: nothing had changed")
        elif record.state == SUCCEEDED and record.version is not None:
            print(f"{record.state}: version {record.version} is published")
        else:
            refusals = [verdict["sentence"] for verdict in record.verdicts if not verdict["passed"]]
            reason = record.error or "; ".join(refusals)
            print(f"{record.state}{f': {self._shown(reason)}' if reason else ''}")

    def _begin(self, stage_id: str, state: str) -> None:
        print(f"{stage_id:<17} {state}", end="", flush=True)
        self._gap = " " * max(1, 8 - len(state))

    def _end(self, text: str) -> None:
        print(f"{self._gap}{self._shown(text)}".rstrip())
        self._gap = ""

    def _shown(self, text: str) -> str:
        return text.replace(self._root, "")


@contextlib.contextmanager
def _displays_dropped() -> Iterator[None]:
    """Keep what libraries display out of the cell: Beam shows a script that loads others from the web."""
    try:
        from IPython.utils.capture import capture_output
    except ImportError:
        yield
        return
    with capture_output(stdout=False, stderr=False, display=True):
        yield
