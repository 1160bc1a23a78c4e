"""Version labels: names for versions that an operator moves, such as `stable` and `canary`.

Comes in: configs and what is available. Goes out: the map of labels, or a refusal. Called by the manager.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from serving.server.config.models import ModelConfig
from serving.server.status import Code, StatusError

Labels = Mapping[str, Mapping[str, int]]
"""Version by label, by model."""


def check(
    configs: Mapping[str, ModelConfig],
    current: Labels,
    available: Mapping[str, Collection[int]],
    allow_unavailable: bool,
) -> Labels:
    """Return the labels of a new configuration.

    Args:
        configs: The models.
        current: The labels so far.
        available: Versions that are available, by model.
        allow_unavailable: Whether a label that is new, or stays where it is, may point to a version that is not
            available.

    Raises:
        StatusError: FAILED_PRECONDITION; a label points to a version that is not available.
    """
    labels: dict[str, dict[str, int]] = {}
    for name, config in configs.items():
        for label, version in config.labels.items():
            moved = current.get(name, {}).get(label, version) != version
            if version not in available.get(name, ()) and (moved or not allow_unavailable):
                raise StatusError(
                    Code.FAILED_PRECONDITION,
                    f"Request to assign label to version {version} of model {name}, which is not currently available "
                    "for inference",
                )
            labels.setdefault(name, {})[label] = version
    return labels


def resolve(labels: Labels, model: str, label: str) -> int:
    """Version that a label points to.

    Raises:
        StatusError: INVALID_ARGUMENT; the model has no such label.
    """
    version = labels.get(model, {}).get(label)
    if version is None:
        raise StatusError(Code.INVALID_ARGUMENT, f"Unrecognized servable version label: {label}")
    return version
