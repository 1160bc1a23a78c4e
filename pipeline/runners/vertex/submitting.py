"""Starting a compiled pipeline on Vertex AI, now or on a schedule, and never the same thing twice.

Comes in: the config. Goes out: a sentence that says what was started. A run's id is made of what the pipeline
consists of, unless one is given: sending it again, after the network failed for example, finds it there. A schedule of
the same pipeline is replaced by the new one.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from pipeline.config.loading import LoadedConfig
from pipeline.config.vertex import ScheduleSettings, VertexSettings
from pipeline.errors import ConfigError
from pipeline.runners.vertex.errors import explained

JOB_ID = re.compile(r"[a-z][-a-z0-9]{0,127}")

_SECONDS = 60.0
"""Time limit of a request."""

DIGEST = 12
"""Hexadecimal digits of the content's hash in an id."""


def submit_pipeline(loaded: LoadedConfig, out: Path, job_id: str | None = None) -> str:
    """Compile and start a pipeline; see `pipeline.runners.vertex.submit`."""
    from pipeline.runners.vertex.compiling import compile_to, settings_of

    vertex = settings_of(loaded.config)
    if job_id is not None and not JOB_ID.fullmatch(job_id):
        raise ConfigError(
            f"the run id is {job_id!r}; expected up to 128 lowercase letters, digits and '-', beginning with a letter"
        )
    file = compile_to(loaded, out)[0]
    job = json.loads(file.read_text(encoding="utf-8"))
    if vertex.schedule is not None:
        return _schedule(job, vertex, vertex.schedule)
    return _start(job, vertex, job_id)


def content_id(job: dict[str, Any]) -> str:
    """Return an id for a pipeline job, the same for the same content.

    Args:
        job: as `compile_job` returns it.
    """
    digest = hashlib.sha256(json.dumps(job, sort_keys=True).encode()).hexdigest()[:DIGEST]
    name = job["pipelineSpec"]["pipelineInfo"]["name"]
    return f"{name if name[0].isalpha() else f'p-{name}'}-{digest}"


def _start(job: dict[str, Any], vertex: VertexSettings, job_id: str | None) -> str:
    """Start one run."""
    from google.api_core import exceptions

    run = job_id or content_id(job)
    where = f"project {vertex.project!r}, region {vertex.region!r}"
    with explained(f"starting {run} in {where}", str(vertex.project), str(vertex.region)):
        try:
            _clients().PipelineServiceClient(client_options=_options(vertex)).create_pipeline_job(
                parent=_parent(vertex), pipeline_job=message(job, vertex), pipeline_job_id=run, timeout=_SECONDS
            )
        except exceptions.AlreadyExists:
            return (
                f"the run {run} is there already in {where}, so nothing was started; to run the same pipeline again, "
                "give it another id with --run-id"
            )
    return f"started the run {run} in {where}"


def _schedule(job: dict[str, Any], vertex: VertexSettings, schedule: ScheduleSettings) -> str:
    """Create a schedule, and take away older ones of the same pipeline."""
    clients = _clients()
    options = schedule.model_dump(mode="json")
    name = content_id({**job, "schedule": options, "account": vertex.service_account})
    ours = re.compile(re.escape(name[:-DIGEST]) + f"[0-9a-f]{{{DIGEST}}}")
    doing = f"scheduling {name} in project {vertex.project!r}, region {vertex.region!r}"
    with explained(doing, str(vertex.project), str(vertex.region)):
        client = clients.ScheduleServiceClient(client_options=_options(vertex))
        listed = client.list_schedules(parent=_parent(vertex), timeout=_SECONDS)
        finished = clients.Schedule.State.COMPLETED
        known = [found for found in listed if ours.fullmatch(found.display_name) and found.state != finished]
        if not any(found.display_name == name for found in known):
            request = clients.CreatePipelineJobRequest(parent=_parent(vertex), pipeline_job=message(job, vertex))
            wanted = clients.Schedule(
                display_name=name,
                cron=schedule.cron,
                max_concurrent_run_count=schedule.most_at_once,
                max_run_count=schedule.most_runs,
                create_pipeline_job_request=request,
            )
            client.create_schedule(parent=_parent(vertex), schedule=wanted, timeout=_SECONDS)
        old = [found for found in known if found.display_name != name]
        for found in old:
            client.delete_schedule(name=found.name, timeout=_SECONDS)
    there = "is there already" if len(old) < len(known) else f"was created ({schedule.cron})"
    return f"the schedule {name} {there}" + (f"; it takes the place of {len(old)} older" if old else "")


def message(job: dict[str, Any], vertex: VertexSettings) -> Any:
    """Return a pipeline job as the service's own message.

    Args:
        job: as `compile_job` returns it.
        vertex: the section, for the service account.
    """
    from google.protobuf import json_format

    found = _clients().PipelineJob()
    json_format.ParseDict(job, found._pb)
    if vertex.service_account:
        found.service_account = vertex.service_account
    return found


def _clients() -> Any:
    """Return Google's generated clients.

    Its convenient `PipelineJob.submit` makes the bucket if there is none, in whatever project it is asked for, and
    waits for minutes where there is no network.
    """
    from google.cloud import aiplatform_v1

    return aiplatform_v1


def _options(vertex: VertexSettings) -> dict[str, str]:
    return {"api_endpoint": f"{vertex.region}-aiplatform.googleapis.com"}


def _parent(vertex: VertexSettings) -> str:
    return f"projects/{vertex.project}/locations/{vertex.region}"
