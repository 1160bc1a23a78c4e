"""A person's schema where stages run in containers: its text travels in the pipeline's definition.

TFX's ImportSchemaGen reads a file, and a container doesn't see the files of the machine that compiled the pipeline.
The output is that of ImportSchemaGen.
"""

from __future__ import annotations

import os
from typing import Any

from tfx import types
from tfx.components.schema_gen import executor as tfx_executor
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, component_spec, standard_artifacts

from pipeline.components.fingerprinted import parameter


class InlineSchemaSpec(component_spec.ComponentSpec):
    """Interface of the component."""

    PARAMETERS = {"text": parameter(str)}
    INPUTS: dict[str, component_spec.ChannelParameter] = {}
    OUTPUTS = {"schema": component_spec.ChannelParameter(type=standard_artifacts.Schema)}


class Executor(base_executor.BaseExecutor):
    """Writes the schema."""

    def Do(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Write the text as the artifact's file."""
        schema = artifact_utils.get_single_instance(output_dict["schema"])
        with open(os.path.join(schema.uri, tfx_executor.DEFAULT_FILE_NAME), "w", encoding="utf-8") as file:
            file.write(exec_properties["text"])


class InlineSchema(base_component.BaseComponent):
    """TFX component; see the module's docstring."""

    SPEC_CLASS = InlineSchemaSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(self, text: str):
        """Initialize.

        Args:
            text: a schema as text proto.
        """
        super().__init__(InlineSchemaSpec(text=text, schema=types.Channel(type=standard_artifacts.Schema)))
