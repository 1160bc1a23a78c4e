"""Our own artifact types in a pipeline specification, where TFX knows its own only.

TFX's compiler takes no properties of other types, and its containers look for their classes by the type's name. Both
are told here: a schema per type for the compiler, and a table from title to class for the containers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import yaml
from tfx.orchestration.kubeflow.v2 import compiler_utils
from tfx.types.artifact import Artifact, PropertyType
from tfx.utils import name_utils

from pipeline.components.artifacts import ModelVariant, VariantResults

OWN_TYPES: tuple[type[Artifact], ...] = (ModelVariant, VariantResults)

_NAMESPACE = "slipway"
_YAML_TYPES = {PropertyType.STRING: "string", PropertyType.INT: "integer", PropertyType.FLOAT: "double"}


def title(artifact_type: type[Artifact]) -> str:
    """Return the name of one of our types in a specification."""
    return f"{_NAMESPACE}.{artifact_type.TYPE_NAME}"


def class_paths() -> dict[str, str]:
    """Return the import path of each of our types, by its title."""
    return {title(own): name_utils.get_full_name(own) for own in OWN_TYPES}


def schema(artifact_type: type[Artifact]) -> str:
    """Return the schema of one of our types, in the YAML that specifications hold."""
    properties = {name: {"type": _YAML_TYPES[kind.type]} for name, kind in (artifact_type.PROPERTIES or {}).items()}
    return str(yaml.safe_dump({"title": title(artifact_type), "type": "object", "properties": properties}))


@contextlib.contextmanager
def known_to_the_compiler() -> Iterator[None]:
    """Let TFX's compiler ask us for the schemas of our types."""
    of_tfx = compiler_utils.get_artifact_schema

    def of_both(artifact_type: type[Artifact]) -> str:
        return schema(artifact_type) if artifact_type in OWN_TYPES else of_tfx(artifact_type)

    compiler_utils.get_artifact_schema = of_both
    try:
        yield
    finally:
        compiler_utils.get_artifact_schema = of_tfx
