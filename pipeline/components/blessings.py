"""Which gates refused a model; asked by everything that publishes."""

from __future__ import annotations

from tfx import types
from tfx.components.util import model_utils
from tfx.types import artifact_utils


def refusing_gates(input_dict: dict[str, list[types.Artifact]]) -> list[str]:
    """Return the names of the gates that did not bless the model.

    Args:
        input_dict: a component's inputs, `model_blessing` and `infra_blessing` among them.
    """
    refused = []
    if not model_utils.is_model_blessed(artifact_utils.get_single_instance(input_dict["model_blessing"])):
        refused.append("the Evaluator")
    if not model_utils.is_infra_validated(artifact_utils.get_single_instance(input_dict["infra_blessing"])):
        refused.append("the InfraValidator")
    return refused
