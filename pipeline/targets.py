"""What runs a pipeline, and what is different there: the graph itself is the same for every target.

Comes in: nothing. Goes out: `LOCAL`, and the type of the targets that `pipeline.runners.vertex` and
`pipeline.runners.kubeflow` make from the config. Read by `pipeline.graph` only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Baseline = Literal["other_than_candidate", "latest_blessed", "served"]


@dataclass(frozen=True)
class Target:
    """Where a pipeline runs."""

    name: Literal["local", "vertex", "kubeflow"] = "local"
    pipeline_root: str | None = None
    """URI below which artifacts lie; None: in the work directory."""
    baseline: Baseline = "other_than_candidate"
    """How the model to compare with is found: by our own strategy, which needs TFX's own drivers; by the one strategy
    for models that Vertex AI knows; or from what is published, where there are no resolvers at all."""
    training_job: Mapping[str, Any] | None = None
    """Entries of the Trainer's `custom_config` that make it start a job of its own; None: it trains where it runs."""
    tuning_job: Mapping[str, Any] | None = None
    """The same of the Tuner."""
    deployment: str | None = None
    """JSON of the endpoint that a pushed model is deployed to; None: it is published as files only."""

    @property
    def remote(self) -> bool:
        """Whether stages run in containers elsewhere, which see neither files nor metadata store of this machine."""
        return self.name != "local"


LOCAL = Target()
"""Stages run in this process or others of this machine, on the files of the work directory."""
