"""One run of a pipeline from config to record: what `slipway run` does, as a function.

Comes in: a loaded config and options. Goes out: the run's record. A run in which nothing could have changed ends
before TensorFlow is imported: the keys of all stages, the artifacts and the published version are as the last run
left them, so every stage's result is the one in its record.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.config.config import Config
from pipeline.config.loading import LoadedConfig
from pipeline.environment import environment
from pipeline.errors import GateRefused
from pipeline.records import (
    FAILED,
    HIT,
    INTERRUPTED,
    LEFT_OUT,
    REFUSED,
    SUCCEEDED,
    RunRecord,
    StageRecord,
    new_record,
    records,
)
from pipeline.runners.observer import Observer
from pipeline.runners.options import RunOptions
from pipeline.stage_keys import StageKey, data_fingerprint, stage_keys
from pipeline.workdir import WorkDir
from transform.sources.spans import pinned, span_numbers


def run_pipeline(
    loaded: LoadedConfig, workdir: WorkDir, log: Path, options: RunOptions, observer: Observer
) -> RunRecord:
    """Run a pipeline.

    Args:
        loaded: the config.
        workdir: its work directory, locked by the caller.
        log: where the libraries' output goes, for the record.
        options: which stages run.
        observer: is told what happens.

    Returns:
        The record; `state` is `succeeded` or `refused`.

    Raises:
        DataError, ConfigError, TrainerError, ServingError: something the user has to change.
    """
    started = time.perf_counter()
    config = pin_spans(loaded.config)
    fingerprint = data_fingerprint(config, workdir.stat_cache)
    keys = stage_keys(config, fingerprint)
    record = new_record(config.name, str(loaded.path), str(log), run_fingerprint(config, keys))
    record.spans = span_numbers(config.data)
    record.settings, record.environment = config.model_dump(mode="json"), environment()
    try:
        last = next(records(workdir.records), None)
        if not options.selective and last is not None and still_valid(last, record.fingerprint):
            _repeat(last, record, observer)
        else:
            _execute(config, keys, workdir, fingerprint, record, options, observer)
        record.state = SUCCEEDED if all(v["passed"] for v in record.verdicts) else REFUSED
    except GateRefused as refusal:
        record.state, record.error = REFUSED, str(refusal)
    except BaseException as error:
        record.state = INTERRUPTED if isinstance(error, KeyboardInterrupt) else FAILED
        record.error = str(error)
        raise
    finally:
        record.seconds = round(time.perf_counter() - started, 3)
        record.finished = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        record.save(workdir.records)
        observer.run_finished(record)
    return record


def pin_spans(config: Config) -> Config:
    """Return the config with the spans of now, so that one that arrives during the run isn't seen by half of it."""
    return config.model_copy(update={"data": pinned(config.data)})


def run_fingerprint(config: Config, keys: Mapping[str, StageKey]) -> str:
    """Return a hash of everything that the run depends on, the shape of the graph included."""
    shape = {
        "name": config.name,
        "tune": config.tune.mode,
        "bulk_infer": config.bulk_infer.enabled,
        "schema": _content(config.data.schema_file),
        "metadata": config.metadata.in_words(),
        "graph": StageKey({}, {}).to_json(),
    }
    parts = {node: key.to_json() for node, key in keys.items()} | {"": json.dumps(shape, sort_keys=True)}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def still_valid(last: RunRecord, fingerprint: str) -> bool:
    """Return whether a run with this fingerprint would find everything in the cache.

    Args:
        last: the newest record of the work directory.
        fingerprint: of the run at hand.
    """
    if last.state not in (SUCCEEDED, REFUSED) or last.fingerprint != fingerprint:
        return False
    if any(stage.state == LEFT_OUT or not all(map(os.path.exists, stage.outputs)) for stage in last.stages):
        return False
    return all(os.path.isdir(folder) for folder in (last.served, last.bundle, last.forms) if folder)


def _repeat(last: RunRecord, record: RunRecord, observer: Observer) -> None:
    """Fill the record of a run in which every stage's result is that of the last run."""
    record.stages = [
        StageRecord(stage.id, HIT, f"nothing changed since run {last.run_id}", stage.detail, outputs=stage.outputs)
        for stage in last.stages
    ]
    record.verdicts, record.version, record.warnings = last.verdicts, last.version, last.warnings
    record.served, record.bundle, record.forms = last.served, last.bundle, last.forms
    observer.run_started(record)
    for stage in record.stages:
        observer.stage_started(stage)
        observer.stage_finished(stage)


def _execute(
    config: Config,
    keys: Mapping[str, StageKey],
    workdir: WorkDir,
    fingerprint: str,
    record: RunRecord,
    options: RunOptions,
    observer: Observer,
) -> None:
    """Run the stages that TFX's cache doesn't hold."""
    from pipeline.graph import build_pipeline
    from pipeline.metadata_connection import MetadataAccess
    from pipeline.optimizing.obstacles import obstacles
    from pipeline.runners.local import LocalRunner

    access = MetadataAccess.of(config.metadata, workdir)
    write_data_settings(config, workdir)
    record.warnings = obstacles(config)
    pipeline = build_pipeline(config, keys, workdir, fingerprint)
    past = list(records(workdir.records))
    options = replace(options, no_cache=(*options.no_cache, *stages_to_force(past, keys)))
    LocalRunner(record, observer, options, past, lambda: record.save(workdir.records), access).run(pipeline)


def write_data_settings(config: Config, workdir: WorkDir) -> None:
    """Write the section `data` where ExampleGen reads it, atomically."""
    part = workdir.data_settings.with_suffix(f".{os.getpid()}")
    part.write_text(config.data.model_dump_json(), encoding="utf-8")
    part.replace(workdir.data_settings)


def stages_to_force(past: Sequence[RunRecord], keys: Mapping[str, StageKey]) -> list[str]:
    """Return the stages whose last published version somebody removed; TFX's cache can't see that.

    Args:
        past: earlier runs, the newest first.
        keys: key of each stage of the pipeline at hand.
    """
    stages = {"Pusher": "served", "EdgePusher": "bundle", "FormPusher": "forms"}
    newest = {
        stage: next(filter(None, (getattr(record, name) for record in past)), "") for stage, name in stages.items()
    }
    return [stage for stage, folder in newest.items() if folder and not os.path.isdir(folder) and stage in keys]


def _content(schema_file: str | None) -> str:
    """Return the content of a curated schema; a missing one is reported when the pipeline is built."""
    if schema_file is None or not os.path.isfile(schema_file):
        return ""
    return Path(schema_file).read_text(encoding="utf-8", errors="replace")
