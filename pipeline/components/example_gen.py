"""ExampleGen: images from a source of `transform.sources` to `tf.Example` files, on Beam.

TFX's base executor shuffles single records through Beam and splits by a hash of the serialized example, which
keeps neither classes nor duplicates together. Here a Beam element is a chunk of thousands of images: the first pass
digests and checks, the driver deals examples to splits, the second pass writes one shard per element. The output is
an Examples artifact like that of any TFX ExampleGen, with `labels.txt` and `ingest_report.json` beside the splits.
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
from tfx import types
from tfx.components.util import examples_utils
from tfx.dsl.components.base import base_beam_component, base_beam_executor, executor_spec
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils, component_spec, standard_artifacts

from pipeline.components.fingerprinted import FINGERPRINT, parameter
from transform.check import ChunkCheck
from transform.errors import DataError
from transform.features import SPLITS
from transform.ingest import IngestPlan, Shard, check_chunk, chunks, make_plan, merge_checks, write_chunk
from transform.ledger import Ledger
from transform.progress import report
from transform.settings import DataSettings
from transform.sources.base import Source
from transform.sources.registry import build_source

REPORT_FILE = "ingest_report.json"
LABELS_FILE = "labels.txt"

_COLUMNS = ("indices", "digests", "formats", "reencoded", "sizes", "stored_bytes")


class ExampleGenSpec(component_spec.ComponentSpec):
    """Interface of the component."""

    PARAMETERS = {"settings_file": parameter(str), "ledger": parameter(str), FINGERPRINT: parameter(str)}
    INPUTS: dict[str, component_spec.ChannelParameter] = {}
    OUTPUTS = {"examples": component_spec.ChannelParameter(type=standard_artifacts.Examples)}


@functools.lru_cache(maxsize=1)
def _worker_source(data: str, fingerprint: str) -> Source:
    """Return a worker's source; the listing is made once per process and content, not once per element."""
    del fingerprint  # part of the cache key: another content is another listing
    return build_source(DataSettings.model_validate_json(data))


class _WorkOnChunks(beam.DoFn):
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
        source = _worker_source(self._data, self._fingerprint)
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


class _Check(_WorkOnChunks):
    def work(self, source: Source, settings: DataSettings, element: tuple[int, int]) -> int:
        check = check_chunk(source, np.arange(*element), settings)
        path = os.path.join(self._folder, f"check-{element[0]:012d}.npz")
        np.savez(path, unreadable=np.array(json.dumps(check.unreadable)), **{c: getattr(check, c) for c in _COLUMNS})
        return element[1] - element[0]


class _Write(_WorkOnChunks):
    def __init__(self, out_dir: str, *arguments: Any):
        super().__init__(*arguments)
        self._out_dir = out_dir

    def work(self, source: Source, settings: DataSettings, element: str) -> int:
        with np.load(element, allow_pickle=False) as stored:
            columns = {field.name: stored[field.name] for field in dataclasses.fields(Shard)}
        columns = {name: value.item() if value.ndim == 0 else value for name, value in columns.items()}
        shard = Shard(**columns)
        write_chunk(source, shard, self._out_dir, settings)
        return len(shard)


class Executor(base_beam_executor.BaseBeamExecutor):
    """Runs both passes."""

    def Do(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Ingest the source.

        Raises:
            DataError: the data can't be used as it stands.
        """
        examples = artifact_utils.get_single_instance(output_dict["examples"])
        fingerprint = exec_properties[FINGERPRINT]
        with open(exec_properties["settings_file"], encoding="utf-8") as file:
            data = file.read()
        settings = DataSettings.model_validate_json(data)
        source = _worker_source(data, fingerprint)
        ledger = Ledger.load(exec_properties["ledger"], settings.split)
        folder = self._get_tmp_dir()
        os.makedirs(folder, exist_ok=True)
        total = len(source.listing())
        # Elements of a Beam pipeline are pickled and compressed, so they are small: a range, a path.
        ranges = [(int(chunk[0]), int(chunk[-1]) + 1) for chunk in chunks(source)]
        self._run(ranges, _Check(data, fingerprint, folder, total, "images checked"), folder)
        plan = make_plan(source, _load_checks(folder), settings, ledger)
        written = sum(len(shard) for shard in plan.shards)
        shards = [_save_shard(shard, folder) for shard in plan.shards]
        self._run(shards, _Write(examples.uri, data, fingerprint, folder, written, "images written"), folder)
        _describe(examples, plan)
        plan.ledger.save(exec_properties["ledger"])

    def _run(self, elements: list[Any], work: _WorkOnChunks, folder: str) -> None:
        """Work on all elements with Beam, and raise what a worker found wrong with the data."""
        with self._make_beam_pipeline() as pipeline:
            _ = pipeline | "Chunks" >> beam.Create(elements) | "Spread" >> beam.Reshuffle() | "Work" >> beam.ParDo(work)
        errors = sorted(name for name in os.listdir(folder) if name.startswith("error-"))
        if errors:
            with open(os.path.join(folder, errors[0]), encoding="utf-8") as file:
                raise DataError(file.read())


def _save_shard(shard: Shard, folder: str) -> str:
    """Write what a worker has to know about a shard into a file, and return its path."""
    path = os.path.join(folder, f"shard-{shard.split}-{shard.number:05d}.npz")
    np.savez(path, **{field.name: np.asarray(getattr(shard, field.name)) for field in dataclasses.fields(shard)})
    return path


def _load_checks(folder: str) -> ChunkCheck:
    """Return the results of the first pass over all chunks."""
    checks = []
    for name in sorted(os.listdir(folder)):
        if name.startswith("check-"):
            with np.load(os.path.join(folder, name), allow_pickle=False) as stored:
                unreadable = [(index, reason) for index, reason in json.loads(str(stored["unreadable"]))]
                checks.append(ChunkCheck(**{c: stored[c] for c in _COLUMNS}, unreadable=unreadable))
    return merge_checks(checks)


def _describe(examples: types.Artifact, plan: IngestPlan) -> None:
    """Write class names and report beside the splits, and fill the artifact's properties as TFX's readers expect."""
    present = {shard.split for shard in plan.shards}
    examples.split_names = artifact_utils.encode_split_names([split for split in SPLITS if split in present])
    examples_utils.set_payload_format(examples, example_gen_pb2.PayloadFormat.FORMAT_TF_EXAMPLE)
    examples_utils.set_file_format(examples, "tfrecords_gzip")
    with open(os.path.join(examples.uri, LABELS_FILE), "w", encoding="utf-8") as file:
        file.write("\n".join(plan.report.labels) + "\n")
    with open(os.path.join(examples.uri, REPORT_FILE), "w", encoding="utf-8") as file:
        file.write(plan.report.to_json())


class ExampleGen(base_beam_component.BaseBeamComponent):
    """TFX component; see the module's docstring."""

    SPEC_CLASS = ExampleGenSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)

    def __init__(self, settings_file: str, ledger: str, fingerprint: str):
        """Initialize.

        Args:
            settings_file: path of the config's section `data` as JSON. A file, since what stands in it and isn't in
                the fingerprint (where the data lies, say) must not make the cache miss.
            ledger: path of the split ledger, read and replaced.
            fingerprint: code and data that the stage depends on.
        """
        examples = types.Channel(type=standard_artifacts.Examples)
        super().__init__(
            ExampleGenSpec(settings_file=settings_file, ledger=ledger, fingerprint=fingerprint, examples=examples)
        )
