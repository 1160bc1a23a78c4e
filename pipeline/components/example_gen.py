"""ExampleGen: images from a source of `transform.sources` to `tf.Example` files, on Beam.

TFX's base executor shuffles single records through Beam and splits by a hash of the serialized example, which
keeps neither classes nor duplicates together. Here a Beam element is a chunk of thousands of images: the first pass
digests and checks, the driver deals examples to splits, the second pass writes one shard per element. The output is
an Examples artifact like that of any TFX ExampleGen, with `labels.txt` and `ingest_report.json` beside the splits.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import apache_beam as beam
from tfx import types
from tfx.components.util import examples_utils
from tfx.dsl.components.base import base_beam_component, base_beam_executor, executor_spec
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils, component_spec, standard_artifacts

from pipeline.components.fingerprinted import FINGERPRINT, parameter
from pipeline.ingestion import (
    CheckChunks,
    WorkOnChunks,
    WriteShards,
    load_checks,
    raise_first_error,
    save_shard,
    worker_source,
)
from transform.features import SPLITS
from transform.ingest import IngestPlan, chunks, make_plan
from transform.ledger import Ledger
from transform.settings import DataSettings

REPORT_FILE = "ingest_report.json"
LABELS_FILE = "labels.txt"


class ExampleGenSpec(component_spec.ComponentSpec):
    """Interface of the component."""

    PARAMETERS = {
        "settings_file": component_spec.ExecutionParameter(type=str, optional=True),
        "settings": component_spec.ExecutionParameter(type=str, optional=True),
        "ledger": parameter(str),
        FINGERPRINT: parameter(str),
    }
    INPUTS: dict[str, component_spec.ChannelParameter] = {}
    OUTPUTS = {"examples": component_spec.ChannelParameter(type=standard_artifacts.Examples)}


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
        data = exec_properties.get("settings") or Path(exec_properties["settings_file"]).read_text(encoding="utf-8")
        settings = DataSettings.model_validate_json(data)
        source = worker_source(data, fingerprint)
        ledger = Ledger.load(exec_properties["ledger"], settings.split)
        folder = self._get_tmp_dir()
        shutil.rmtree(folder, ignore_errors=True)  # an attempt that was killed may have left results
        os.makedirs(folder)
        total = len(source.listing())
        # Elements of a Beam pipeline are pickled and compressed, so they are small: a range, a path.
        ranges = [(int(chunk[0]), int(chunk[-1]) + 1) for chunk in chunks(source)]
        self._run(ranges, CheckChunks(data, fingerprint, folder, total, "images checked"), folder)
        plan = make_plan(source, load_checks(folder), settings, ledger)
        written = sum(len(shard) for shard in plan.shards)
        shards = [save_shard(shard, folder) for shard in plan.shards]
        self._run(shards, WriteShards(examples.uri, data, fingerprint, folder, written, "images written"), folder)
        _describe(examples, plan)
        plan.ledger.save(exec_properties["ledger"])

    def _run(self, elements: list[Any], work: WorkOnChunks, folder: str) -> None:
        """Work on all elements with Beam, and raise what a worker found wrong with the data."""
        with self._make_beam_pipeline() as pipeline:
            _ = pipeline | "Chunks" >> beam.Create(elements) | "Spread" >> beam.Reshuffle() | "Work" >> beam.ParDo(work)
        raise_first_error(folder)


def _describe(examples: types.Artifact, plan: IngestPlan) -> None:
    """Write class names and report beside the splits, and fill the artifact's properties as TFX's readers expect."""
    present = {shard.split for shard in plan.shards}
    examples.split_names = artifact_utils.encode_split_names([split for split in SPLITS if split in present])
    examples_utils.set_payload_format(examples, example_gen_pb2.PayloadFormat.FORMAT_TF_EXAMPLE)
    examples_utils.set_file_format(examples, "tfrecords_gzip")
    if plan.report.spans:
        _note_spans(examples, plan.report.spans)
    with open(os.path.join(examples.uri, LABELS_FILE), "w", encoding="utf-8") as file:
        file.write("\n".join(plan.report.labels) + "\n")
    with open(os.path.join(examples.uri, REPORT_FILE), "w", encoding="utf-8") as file:
        file.write(plan.report.to_json())


def _note_spans(examples: types.Artifact, spans: dict[str, Any]) -> None:
    """Note the newest span and its version as TFX's file-based ExampleGen does, and beside it the whole range."""
    newest = spans["used"][-1]
    examples.set_int_custom_property("span", newest["span"])
    if newest["version"] is not None:
        examples.set_int_custom_property("version", newest["version"])
    examples.set_int_custom_property("first_span", spans["from"])
    names = (str(s["span"]) if s["version"] is None else f"{s['span']}/{s['version']}" for s in spans["used"])
    examples.set_string_custom_property("spans", ", ".join(names))


class ExampleGen(base_beam_component.BaseBeamComponent):
    """TFX component; see the module's docstring."""

    SPEC_CLASS = ExampleGenSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)

    def __init__(self, settings_file: str | None, ledger: str, fingerprint: str, settings: str | None = None):
        """Initialize.

        Args:
            settings_file: path of the config's section `data` as JSON. A file, since what stands in it and isn't in
                the fingerprint (where the data lies, say) must not make the cache miss.
            ledger: path of the split ledger, read and replaced.
            fingerprint: code and data that the stage depends on.
            settings: the section itself, where stages don't see the files of this machine; in place of the file.
        """
        examples = types.Channel(type=standard_artifacts.Examples)
        super().__init__(
            ExampleGenSpec(
                settings_file=settings_file,
                settings=settings,
                ledger=ledger,
                fingerprint=fingerprint,
                examples=examples,
            )
        )
