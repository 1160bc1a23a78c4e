"""Artifacts and executors without a pipeline around them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.dsl.components.base.base_executor import BaseExecutor
from tfx.types import artifact

from pipeline.beam_options import IN_PROCESS

T = TypeVar("T", bound=artifact.Artifact)


def made(kind: type[T], folder: Path, **properties: Any) -> T:
    """Return an artifact with an empty folder.

    Args:
        kind: its type.
        folder: its URI.
        **properties: custom properties.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made_artifact = kind()
    made_artifact.uri = str(folder)
    for name, value in properties.items():
        if isinstance(value, int):
            made_artifact.set_int_custom_property(name, value)
        else:
            made_artifact.set_string_custom_property(name, value)
    return made_artifact


def executor(kind: type[BaseExecutor], folder: Path, beam_args: Sequence[str] = IN_PROCESS) -> Any:
    """Return an executor as TFX would make it, on an engine of Beam's."""
    if issubclass(kind, BaseBeamExecutor):
        return kind(BaseBeamExecutor.Context(beam_pipeline_args=list(beam_args), tmp_dir=str(folder), unique_id="1"))
    return kind(BaseExecutor.Context(tmp_dir=str(folder), unique_id="1"))
