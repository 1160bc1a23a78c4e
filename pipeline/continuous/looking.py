"""A look at the data: what would a run started now depend on?

A loaded config comes in; the spans that have come to rest, and the fingerprint of everything that the run would depend
on, go out. Called by `pipeline.continuous.watching`. Nothing here imports TensorFlow.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.config.config import Config
from pipeline.continuous.settling import last_change, signature
from pipeline.running import run_fingerprint
from pipeline.stage_keys import data_fingerprint, stage_keys
from pipeline.workdir import WorkDir
from transform.settings import DataSettings
from transform.sources.spans import Span, is_span_source, pinned, select, span_numbers


@dataclass(frozen=True)
class Look:
    """What was seen.

    Attributes:
        config: the config with its spans fixed.
        signature: of the config's text and the data's files by name, size and time; cheap.
        changing: seconds that the data still has to stay unchanged before a run; 0: it has come to rest.
        changing_spans: spans that are left out since they still change.
    """

    config: Config
    signature: str
    changing: float = 0.0
    changing_spans: tuple[str, ...] = ()

    @property
    def overrides(self) -> list[str]:
        """What makes another process see the same spans, as `--set` takes it."""
        only = self.config.data.spans.only
        return [f"data.spans.only={json.dumps(list(only))}"] if only else []

    @property
    def in_words(self) -> str:
        """The spans in a few words; empty for other sources."""
        spans = span_numbers(self.config.data)
        if not spans:
            return ""
        names = [str(number) if version is None else f"{number} (version {version})" for number, version in spans]
        return f"{'span' if len(names) == 1 else 'spans'} {', '.join(names[-5:])}" + (
            f" and {len(names) - 5} before" if names[5:] else ""
        )


def look(config: Config, now: float) -> Look:
    """Look at the data of a config.

    Args:
        config: the config.
        now: Unix time.

    Raises:
        DataError: there is no data that a run could use.
    """
    data, quiet = config.data, config.retrain.quiet_seconds
    changing: list[str] = []

    def at_rest(span: Span) -> bool:
        rests = data.spans.marker is not None or _rest(span.path, quiet, now) <= 0
        if not rests:
            changing.append(str(span))
        return rests

    settled = pinned(data, at_rest)
    fixed = config.model_copy(update={"data": settled})
    folders = _folders(settled)
    waits = 0.0 if is_span_source(data) else max((_rest(folder, quiet, now) for folder in folders), default=0.0)
    return Look(fixed, _signature(fixed, folders), max(waits, 0.0), tuple(changing))


def input_fingerprint(seen: Look, workdir: WorkDir) -> str:
    """Return the hash of everything that a run on what was seen depends on; reads files that are new or changed.

    Raises:
        DataError: the data can't be used, for example because the classes of its spans differ.
    """
    fingerprint = data_fingerprint(seen.config, workdir.stat_cache)
    return run_fingerprint(seen.config, stage_keys(seen.config, fingerprint))


def _rest(folder: str, quiet: float, now: float) -> float:
    """Return for how many seconds a folder has to stay as it is until it counts as complete."""
    return last_change(folder) + quiet - now


def _folders(data: DataSettings) -> list[str]:
    """Return the folders behind a source; none for built-in sets of which nobody expects changes."""
    if is_span_source(data):
        return [span.path for span in select(data).spans]
    return [folder for folder in (data.source, data.path) if folder is not None and os.path.isdir(folder)]


def _signature(config: Config, folders: Sequence[str]) -> str:
    text = config.model_dump_json() + signature(folders)
    return hashlib.sha256(text.encode()).hexdigest()
