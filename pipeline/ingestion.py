"""The two passes over a source's examples, as Beam elements of thousands of images each.

In come the section `data` and ranges or shards, out go files in a folder that all workers see: results of the check,
examples, and errors of the user's data. Called by ExampleGen. Nothing here imports TFX, whose import would cost every
worker seconds.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import uuid
from collections.abc import Iterable
from typing import Any

import apache_beam as beam
import numpy as np

from transform.check import ChunkCheck
from transform.errors import DataError
from transform.ingest import Shard, check_chunk, merge_checks, write_chunk
from transform.progress import report
from transform.settings import DataSettings
from transform.sources.base import Source
from transform.sources.registry import build_source

_COLUMNS = ("indices", "digests", "formats", "reencoded", "sizes", "stored_bytes")


@functools.lru_cache(maxsize=1)
def worker_source(data: str, fingerprint: str) -> Source:
    """Return a worker's source; the listing is made once per process and content, not once per element.

    Args:
        data: JSON of the section `data`.
        fingerprint: of the content; part of the cache's key, since another content is another listing.
    """
    del fingerprint
    return build_source(DataSettings.model_validate_json(data))


class WorkOnChunks(beam.DoFn):
    """What both passes share: the source, and errors of the user's data, which must reach the driver as such.

    Beam turns whatever a worker raises into a RuntimeError that holds a stack trace. So the sentence is put
    into a file, and the driver raises it again.
    """

    def __init__(self, data: str, fingerprint: str, folder: str, total: int, unit: str):
        """Initialize.

        Args:
            data: JSON of the section `data`.
            fingerprint: of the content.
            folder: where results go.
            total: number of images of the pass, for the progress report.
            unit: what is counted.
        """
        self._data = data
        self._fingerprint = fingerprint
        self._folder = folder
        self._total = total
        self._unit = unit
        self._done = 0

    def process(self, element: Any) -> Iterable[int]:
        """Work on one element and yield its number of images."""
        source = worker_source(self._data, self._fingerprint)
        settings = DataSettings.model_validate_json(self._data)
        images = 0
        try:
            images = self.work(source, settings, element)
        except DataError as error:
            path = os.path.join(self._folder, f"error-{uuid.uuid4().hex}")
            with open(path, "w", encoding="utf-8") as file:
                file.write(str(error))
        self._done += images
        report(self._done, self._total, self._unit)
        yield images

    def work(self, source: Source, settings: DataSettings, element: Any) -> int:
        """Do the pass's work on one element and return its number of images."""
        raise NotImplementedError


class CheckChunks(WorkOnChunks):
    """The first pass: digests and checks a range of the listing."""

    def work(self, source: Source, settings: DataSettings, element: tuple[int, int]) -> int:
        """Check the examples from the first number up to the second."""
        check = check_chunk(source, np.arange(*element), settings)
        path = os.path.join(self._folder, f"check-{element[0]:012d}.npz")
        np.savez(path, unreadable=np.array(json.dumps(check.unreadable)), **{c: getattr(check, c) for c in _COLUMNS})
        return element[1] - element[0]


class WriteShards(WorkOnChunks):
    """The second pass: writes one shard, of which a file says what belongs into it."""

    def __init__(self, out_dir: str, *arguments: Any):
        """Initialize.

        Args:
            out_dir: the examples' folder.
            *arguments: of the base class.
        """
        super().__init__(*arguments)
        self._out_dir = out_dir

    def work(self, source: Source, settings: DataSettings, element: str) -> int:
        """Write the shard that is described in a file of `save_shard`."""
        with np.load(element, allow_pickle=False) as stored:
            columns = {field.name: stored[field.name] for field in dataclasses.fields(Shard)}
        columns = {name: value.item() if value.ndim == 0 else value for name, value in columns.items()}
        shard = Shard(**columns)
        write_chunk(source, shard, self._out_dir, settings)
        return len(shard)


def save_shard(shard: Shard, folder: str) -> str:
    """Write what a worker has to know about a shard into a file, and return its path."""
    path = os.path.join(folder, f"shard-{shard.split}-{shard.number:05d}.npz")
    np.savez(path, **{field.name: np.asarray(getattr(shard, field.name)) for field in dataclasses.fields(shard)})
    return path


def load_checks(folder: str) -> ChunkCheck:
    """Return the results of the first pass over all chunks."""
    checks = []
    for name in sorted(os.listdir(folder)):
        if name.startswith("check-"):
            with np.load(os.path.join(folder, name), allow_pickle=False) as stored:
                unreadable = [(index, reason) for index, reason in json.loads(str(stored["unreadable"]))]
                checks.append(ChunkCheck(**{c: stored[c] for c in _COLUMNS}, unreadable=unreadable))
    return merge_checks(checks)


def raise_first_error(folder: str) -> None:
    """Raise what a worker found wrong with the data, if it did.

    Raises:
        DataError: the first one, by the name of its file.
    """
    errors = sorted(name for name in os.listdir(folder) if name.startswith("error-"))
    if errors:
        with open(os.path.join(folder, errors[0]), encoding="utf-8") as file:
            raise DataError(file.read())
