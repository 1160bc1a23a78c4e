"""ExampleValidator whose verdict stops the run.

TFX's executor writes the anomalies and goes on. This one calls it, writes a verdict in words and raises
`GateRefused`, so that data that breaks the schema never reaches the trainer.
"""

from __future__ import annotations

import os
from typing import Any

from tfx import types
from tfx.components.example_validator import executor as tfx_executor
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import artifact_utils, component_spec, standard_artifacts

from pipeline.components.fingerprinted import FINGERPRINT, parameter
from pipeline.errors import GateRefused
from pipeline.evaluation.verdict import Verdict, write_verdict
from transform import features

_MOST_NAMED = 5

_TOLERATED = frozenset({features.FORMAT, features.ORIGIN, features.DIGEST})
"""Features that an inferred schema says too much about: a format or a name that the train split lacks is no fault."""


class ExampleValidatorSpec(component_spec.ComponentSpec):
    """Interface of the component."""

    PARAMETERS = {"curated": parameter(int), FINGERPRINT: parameter(str)}
    INPUTS = {
        "statistics": component_spec.ChannelParameter(type=standard_artifacts.ExampleStatistics),
        "schema": component_spec.ChannelParameter(type=standard_artifacts.Schema),
    }
    OUTPUTS = {"anomalies": component_spec.ChannelParameter(type=standard_artifacts.ExampleAnomalies)}


def anomaly_checks(uri: str, splits: list[str], curated: bool) -> list[dict[str, Any]]:
    """Return one record per anomaly that TFDV wrote.

    Args:
        uri: folder of the anomalies artifact.
        splits: the splits that were validated.
        curated: whether a person wrote the schema; if not, some features are only warned about.

    Returns:
        Records of `split`, `feature`, `finding` and `passed`.
    """
    from tensorflow_metadata.proto.v0 import anomalies_pb2

    checks = []
    for split in splits:
        with open(os.path.join(uri, f"Split-{split}", tfx_executor.DEFAULT_FILE_NAME), "rb") as file:
            anomalies = anomalies_pb2.Anomalies.FromString(file.read())
        found = dict(anomalies.anomaly_info)
        if anomalies.HasField("dataset_anomaly_info"):
            found["(data set)"] = anomalies.dataset_anomaly_info
        for feature, info in sorted(found.items()):
            checks.append(
                {
                    "split": split,
                    "feature": feature,
                    "finding": info.description or info.short_description,
                    "passed": info.severity != anomalies_pb2.AnomalyInfo.ERROR
                    or (not curated and feature in _TOLERATED),
                }
            )
    return checks


class Executor(tfx_executor.Executor):
    """Writes anomalies and verdict, and raises where the data breaks the schema."""

    def Do(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> Any:
        """Validate every split's statistics against the schema.

        Raises:
            GateRefused: an anomaly of severity ERROR was found.
        """
        outcome = super().Do(input_dict, output_dict, exec_properties)
        anomalies = artifact_utils.get_single_instance(output_dict["anomalies"])
        splits = artifact_utils.decode_split_names(anomalies.split_names)
        checks = anomaly_checks(anomalies.uri, splits, bool(exec_properties["curated"]))
        errors = [check for check in checks if not check["passed"]]
        if errors:
            named = "; ".join(f"{c['feature']} in {c['split']}: {c['finding']}" for c in errors[:_MOST_NAMED])
            more = f"; and {len(errors) - _MOST_NAMED} more" if len(errors) > _MOST_NAMED else ""
            sentence = f"the data breaks its schema: {named}{more}"
            raise GateRefused(Verdict("ExampleValidator", False, sentence, checks))
        warnings = f", {len(checks)} warnings" if checks else ""
        sentence = f"no anomaly in {', '.join(splits)}{warnings}"
        write_verdict(Verdict("ExampleValidator", True, sentence, checks), anomalies.uri)
        return outcome


class ExampleValidator(base_component.BaseComponent):
    """TFX component; see the module's docstring."""

    SPEC_CLASS = ExampleValidatorSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(self, statistics: types.BaseChannel, schema: types.BaseChannel, curated: bool, fingerprint: str):
        """Initialize.

        Args:
            statistics: statistics of all splits.
            schema: the schema.
            curated: whether a person wrote it.
            fingerprint: what the stage depends on besides its inputs.
        """
        anomalies = types.Channel(type=standard_artifacts.ExampleAnomalies)
        super().__init__(
            ExampleValidatorSpec(
                statistics=statistics,
                schema=schema,
                curated=int(curated),
                fingerprint=fingerprint,
                anomalies=anomalies,
            )
        )
