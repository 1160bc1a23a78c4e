"""Kubeflow Pipelines on one's own cluster: the same specification as for Vertex AI, with what a cluster needs.

`compile_kubeflow` and `submit` are what the command line calls; `pipeline.runners.vertex.rehearse` rehearses both.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.config.loading import LoadedConfig


def compile_kubeflow(loaded: LoadedConfig, out: Path) -> list[Path]:
    """Write the specification of a pipeline for Kubeflow Pipelines.

    Args:
        loaded: the config.
        out: folder for the file.

    Returns:
        The file: `NAME.yaml`, the pipeline and what its pods need.

    Raises:
        ConfigError: a value that the cluster needs is missing, or a stage can't run there.
        DataError: the data isn't there.
    """
    from pipeline.runners.kubeflow.compiling import compile_to

    return compile_to(loaded, out)


def submit(loaded: LoadedConfig, out: Path, *, job_id: str | None = None) -> str:
    """Compile a pipeline and start it, or create its schedule, on a cluster.

    Args:
        loaded: the config.
        out: folder for the file that is sent.
        job_id: name of the run; None: made of the pipeline's content, so the same thing isn't started twice.

    Returns:
        What was started, in one sentence.

    Raises:
        ConfigError: a value is missing, or the cluster refuses.
    """
    from pipeline.runners.kubeflow.submitting import submit_pipeline

    return submit_pipeline(loaded, out, job_id)
