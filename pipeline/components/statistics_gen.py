"""StatisticsGen: TFDV's statistics of each split, in memory on a sample, through Beam where more is asked for.

TFX's own executor reads every record through Beam one by one, and TFDV's Beam transform costs ten CPU seconds
before it has seen an example. Statistics are there to find what is wrong with a feature, and a random sample of
10,000 examples (`data.statistics_sample`) finds it; exact counts of labels, sizes and formats over all examples
stand in the ingestion's report. So records are decoded to Arrow in large batches by tfx_bsl, and TFDV computes on
them in memory. A sample above `IN_MEMORY_EXAMPLES` goes through TFDV's Beam transform, with as many workers as Beam
has. The output is that of TFX's StatisticsGen.
"""

from __future__ import annotations

import glob
import os
from typing import Any

import pyarrow as pa
from tfx import types
from tfx.components.statistics_gen import executor as tfx_executor
from tfx.dsl.components.base import base_beam_component, base_beam_executor, executor_spec
from tfx.types import artifact_utils, component_spec, standard_artifacts

from pipeline.components.fingerprinted import FINGERPRINT, parameter
from pipeline.record_batches import read_record_batches, record_batches
from transform.progress import report

IN_MEMORY_EXAMPLES = 50_000
"""Largest sample of a split that is worked on in memory."""

_IN_MEMORY_BYTES = 256_000_000
"""Where the images are large, the sample ends here, so that memory stays bounded."""


class StatisticsGenSpec(component_spec.ComponentSpec):
    """Interface of the component."""

    PARAMETERS = {"sample": parameter(int), FINGERPRINT: parameter(str)}
    INPUTS = {"examples": component_spec.ChannelParameter(type=standard_artifacts.Examples)}
    OUTPUTS = {"statistics": component_spec.ChannelParameter(type=standard_artifacts.ExampleStatistics)}


class Executor(base_beam_executor.BaseBeamExecutor):
    """Writes `Split-<name>/FeatureStats.pb` for every split of the examples."""

    def Do(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Compute and write the statistics."""
        examples = artifact_utils.get_single_instance(input_dict["examples"])
        statistics = artifact_utils.get_single_instance(output_dict["statistics"])
        splits = artifact_utils.decode_split_names(examples.split_names)
        statistics.split_names = examples.split_names
        statistics.span = examples.span
        for done, split in enumerate(splits):
            report(done, len(splits), "splits")
            paths = sorted(glob.glob(os.path.join(artifact_utils.get_split_uri([examples], split), "*.gz")))
            target = os.path.join(artifact_utils.get_split_uri([statistics], split), tfx_executor.DEFAULT_FILE_NAME)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            self._write(paths, exec_properties["sample"], target)
        report(len(splits), len(splits), "splits")

    def _write(self, paths: list[str], sample: int, target: str) -> None:
        """Write one split's statistics."""
        import tensorflow_data_validation as tfdv

        if sample <= IN_MEMORY_EXAMPLES:
            batches = list(record_batches(paths, sample, _IN_MEMORY_BYTES))
            return _write_binary(in_memory_statistics(batches), target)
        import apache_beam as beam

        per_file = max(1, sample // len(paths))
        with self._make_beam_pipeline() as pipeline:
            _ = (
                pipeline
                | "Files" >> beam.Create(paths)
                | "Spread" >> beam.Reshuffle()
                | "Read" >> beam.FlatMap(read_record_batches, per_file)
                | "Statistics" >> tfdv.GenerateStatistics(tfdv.StatsOptions())
                | "Write" >> tfdv.WriteStatisticsToBinaryFile(target)
            )
        return None


def in_memory_statistics(batches: list[pa.RecordBatch]) -> Any:
    """Return TFDV's statistics (a `DatasetFeatureStatisticsList`) of record batches."""
    from tensorflow_data_validation.statistics import stats_impl, stats_options
    from tfx_bsl.arrow import table_util

    return stats_impl.generate_statistics_in_memory(
        table_util.MergeRecordBatches(batches), stats_options.StatsOptions()
    )


def _write_binary(statistics: Any, target: str) -> None:
    import tensorflow as tf

    with tf.io.gfile.GFile(target, "wb") as file:
        file.write(statistics.SerializeToString(deterministic=True))


class StatisticsGen(base_beam_component.BaseBeamComponent):
    """TFX component; see the module's docstring."""

    SPEC_CLASS = StatisticsGenSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)

    def __init__(self, examples: types.BaseChannel, sample: int, fingerprint: str):
        """Initialize.

        Args:
            examples: the examples of all splits.
            sample: examples per split behind the statistics.
            fingerprint: what the stage depends on besides its inputs.
        """
        super().__init__(
            StatisticsGenSpec(
                examples=examples,
                sample=sample,
                fingerprint=fingerprint,
                statistics=types.Channel(type=standard_artifacts.ExampleStatistics),
            )
        )
