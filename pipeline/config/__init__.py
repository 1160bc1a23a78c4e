"""The typed config: a strict YAML file in, frozen sections out, and errors that name file, line and fix."""

from pipeline.config.config import Config
from pipeline.config.loading import LoadedConfig, load
from pipeline.config.origins import Origin, Positions
from pipeline.config.sections import BulkInferSettings, EvaluateSettings, Gate, InfraSettings, PushSettings
from pipeline.config.show import json_schema, render_yaml, to_json

__all__ = [
    "BulkInferSettings",
    "Config",
    "EvaluateSettings",
    "Gate",
    "InfraSettings",
    "LoadedConfig",
    "Origin",
    "Positions",
    "PushSettings",
    "json_schema",
    "load",
    "render_yaml",
    "to_json",
]
