"""Vertex AI: the pipeline as a specification for its service, checked and rehearsed here, and sent there.

`compile_vertex`, `rehearse` and `submit` are what the command line calls; each imports what it needs when it runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.config.loading import LoadedConfig
    from pipeline.runners.vertex.rehearsal import Rehearsal


def compile_vertex(loaded: LoadedConfig, out: Path, schema: str | None = None) -> list[Path]:
    """Write the specification of a pipeline for Vertex AI.

    Args:
        loaded: the config.
        out: folder for the files.
        schema: version of the format, 2.0 or 2.1; None: that of the section `vertex`.

    Returns:
        The files: `NAME.json` (a pipeline job), and from 2.1 on `NAME.yaml` (the pipeline alone, for galleries).

    Raises:
        ConfigError: a value that the service needs is missing, or a stage can't run there.
        DataError: the data isn't there.
    """
    from pipeline.runners.vertex.compiling import compile_to

    return compile_to(loaded, out, schema)


def rehearse(
    spec: Path,
    folder: Path,
    *,
    here: Mapping[str, str] | None = None,
    parameters: Mapping[str, Any] | None = None,
    timeout_seconds: float = 3600,
) -> Rehearsal:
    """Run every container of a compiled specification on this machine, as the service would.

    Args:
        spec: the first file of `compile_vertex` or `compile_kubeflow`.
        folder: what would lie in buckets and on volumes lies here afterwards.
        here: paths of containers that lie elsewhere on this machine (`pipeline.runners.remote.paths_here`).
        parameters: values of runtime parameters.
        timeout_seconds: time limit of each container.

    Returns:
        What happened to each task.

    Raises:
        ConfigError: the specification is damaged, or a parameter has no value.
    """
    from pipeline.runners.vertex.rehearsal import rehearse_file

    return rehearse_file(spec, folder, here=here, parameters=parameters, timeout_seconds=timeout_seconds)


def submit(loaded: LoadedConfig, out: Path, *, job_id: str | None = None) -> str:
    """Compile a pipeline and start it, or create its schedule, on Vertex AI.

    Args:
        loaded: the config.
        out: folder for the files that are sent.
        job_id: id of the run; None: made of the pipeline's content, so the same thing isn't started twice.

    Returns:
        What was started, in one sentence.

    Raises:
        ConfigError: a value is missing, or the service refuses.
    """
    from pipeline.runners.vertex.submitting import submit_pipeline

    return submit_pipeline(loaded, out, job_id)
