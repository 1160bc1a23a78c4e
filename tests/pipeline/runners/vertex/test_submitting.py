"""Submission to Vertex AI: what is sent, that it is sent once, and a sentence for every way in which it fails."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import google.auth
import pytest
from google.api_core import exceptions
from google.auth import credentials
from google.auth import exceptions as auth
from google.cloud import aiplatform_v1

from pipeline.config.loading import load
from pipeline.errors import ConfigError
from pipeline.runners.vertex import compiling, submitting

ROOT = Path(__file__).resolve().parents[4]
SET = [
    "vertex.project=a-project",
    "vertex.region=europe-west4",
    "vertex.root=gs://bucket/slipway",
    "vertex.image=europe-docker.pkg.dev/a-project/slipway/pipeline:1",
]
SCHEDULE = "vertex.schedule={cron: '0 4 * * 1', most_at_once: 2, most_runs: 10}"


@pytest.fixture(autouse=True)
def compiled(job: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Send the small specification; compiling has tests of its own."""

    def compile_to(_: Any, out: Path, schema: str | None = None) -> list[Path]:
        out.mkdir(exist_ok=True)
        (out / "small.json").write_text(json.dumps(job), encoding="utf-8")
        return [out / "small.json"]

    monkeypatch.setattr(compiling, "compile_to", compile_to)


def submit(out: Path, *more: str, leave_out: str = "", job_id: str | None = None) -> str:
    values = [value for value in SET if not value.startswith(f"vertex.{leave_out}=")]
    return submitting.submit_pipeline(load(ROOT / "configs/digits.yaml", [*values, *more]), out, job_id)


class Service:
    """Google's clients of pipelines and schedules, which remember what they are sent."""

    def __init__(self) -> None:
        self.runs: dict[str, Any] = {}
        self.schedules: list[Any] = []
        self.options: list[dict[str, str]] = []
        self.parents: set[str] = set()

    def __call__(self, client_options: dict[str, str]) -> Service:
        self.options.append(client_options)
        return self

    def create_pipeline_job(self, parent: str, pipeline_job: Any, pipeline_job_id: str, timeout: float) -> None:
        self.parents.add(parent)
        if pipeline_job_id in self.runs:
            raise exceptions.AlreadyExists("409 the pipeline job exists")
        self.runs[pipeline_job_id] = pipeline_job

    def list_schedules(self, parent: str, timeout: float) -> list[Any]:
        self.parents.add(parent)
        return [*self.schedules]

    def create_schedule(self, parent: str, schedule: Any, timeout: float) -> None:
        schedule.name = f"{parent}/schedules/{len(self.schedules)}"
        self.schedules.append(schedule)

    def delete_schedule(self, name: str, timeout: float) -> None:
        self.schedules = [schedule for schedule in self.schedules if schedule.name != name]


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Service:
    found = Service()
    monkeypatch.setattr(aiplatform_v1, "PipelineServiceClient", found)
    monkeypatch.setattr(aiplatform_v1, "ScheduleServiceClient", found)
    return found


def test_a_run_is_started_with_all_that_was_asked_for(tmp_path: Path, service: Service) -> None:
    sentence = submit(tmp_path, "vertex.service_account=runner@a-project.iam.gserviceaccount.com")
    ((run, request),) = service.runs.items()
    assert run in sentence and run.startswith("small-")
    assert service.options == [{"api_endpoint": "europe-west4-aiplatform.googleapis.com"}]
    assert service.parents == {"projects/a-project/locations/europe-west4"}
    assert request.display_name == "small"
    assert request.runtime_config.gcs_output_directory == "gs://bucket/small"
    assert request.runtime_config.parameter_values["span"] == 3
    assert dict(request.labels) == {"tfx_version": "1-16-0"}
    assert request.service_account == "runner@a-project.iam.gserviceaccount.com"
    assert set(request.pipeline_spec["components"]) == {"import", "latest", "train", "judge", "push", "tell"}


def test_the_same_thing_is_never_started_twice(tmp_path: Path, service: Service, job: dict[str, Any]) -> None:
    submit(tmp_path)
    assert "is there already" in submit(tmp_path)
    assert len(service.runs) == 1
    assert "started the run again-1" in submit(tmp_path, job_id="again-1")
    job["runtimeConfig"]["parameterValues"]["span"] = 4
    assert "started" in submit(tmp_path)
    assert len(service.runs) == 3


def test_an_id_that_the_service_refuses_is_refused_here(tmp_path: Path, service: Service) -> None:
    with pytest.raises(ConfigError, match="lowercase letters"):
        submit(tmp_path, job_id="Not An Id")
    assert not service.runs


@pytest.mark.parametrize("field", ["project", "region", "root", "image"])
def test_what_is_missing_is_named(tmp_path: Path, service: Service, field: str) -> None:
    with pytest.raises(ConfigError, match=f"vertex.{field} is not set"):
        submit(tmp_path, leave_out=field)
    assert not service.runs


FAILURES = [
    (auth.DefaultCredentialsError("none"), "gcloud auth application-default login"),
    (auth.RefreshError("invalid_grant: Token has been expired or revoked."), "have expired or were withdrawn"),
    (exceptions.Unauthenticated("401"), "doesn't accept the credentials"),
    (exceptions.PermissionDenied("aiplatform.pipelineJobs.create"), "permission denied in project 'a-project'"),
    (exceptions.NotFound("bucket"), "check the id of the project"),
    (exceptions.InvalidArgument("bad template\nmore"), "refuses the request: 400 bad template"),
    (exceptions.ResourceExhausted("runs"), "quota"),
    (exceptions.ServiceUnavailable("name"), "europe-west4-aiplatform.googleapis.com can't be reached"),
    (exceptions.DeadlineExceeded("late"), "nothing is started twice"),
    (auth.TransportError("no route"), "can't be reached"),
    (ConnectionRefusedError("refused"), "can't be reached"),
]


@pytest.mark.parametrize(("error", "expected"), FAILURES, ids=[type(error).__name__ for error, _ in FAILURES])
@pytest.mark.parametrize("more", [(), (SCHEDULE,)], ids=["run", "schedule"])
def test_every_failure_is_one_sentence(
    tmp_path: Path, service: Service, error: Exception, expected: str, more: tuple[str, ...]
) -> None:
    def fail(**_: Any) -> None:
        raise error

    service.create_pipeline_job = service.create_schedule = fail  # type: ignore[assignment, method-assign]
    with pytest.raises(ConfigError) as caught:
        submit(tmp_path, *more)
    assert expected in str(caught.value) and "\n" not in str(caught.value)


def test_a_bug_is_not_taken_for_a_failure_of_the_network(tmp_path: Path, service: Service) -> None:
    def fail(**_: Any) -> None:
        raise KeyError("a bug")

    service.create_pipeline_job = fail  # type: ignore[assignment, method-assign]
    with pytest.raises(KeyError):
        submit(tmp_path)


def test_without_credentials_the_sentence_says_how_to_get_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    with pytest.raises(ConfigError, match="no Google credentials were found"):
        submit(tmp_path)


def test_a_service_that_does_not_answer_is_told_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        monkeypatch.setattr(submitting, "_options", lambda _: {"api_endpoint": address})
        monkeypatch.setattr(google.auth, "default", lambda *_, **__: (credentials.AnonymousCredentials(), "a-project"))
        with pytest.raises(ConfigError, match="can't be reached"):
            submit(tmp_path)


def test_a_schedule_is_created_once(tmp_path: Path, service: Service) -> None:
    assert "was created (0 4 * * 1)" in submit(tmp_path, SCHEDULE)
    assert "is there already" in submit(tmp_path, SCHEDULE)
    (schedule,) = service.schedules
    assert (schedule.cron, schedule.max_concurrent_run_count, schedule.max_run_count) == ("0 4 * * 1", 2, 10)
    request = schedule.create_pipeline_job_request
    assert request.parent == "projects/a-project/locations/europe-west4"
    assert request.pipeline_job.display_name == "small"


def test_a_new_schedule_takes_the_place_of_the_old_one_only(tmp_path: Path, service: Service) -> None:
    submit(tmp_path, SCHEDULE)
    for name in ("small-but-another-0123456789ab", "other-0123456789ab"):
        service.create_schedule("projects/p", aiplatform_v1.Schedule(display_name=name), 1)
    assert "takes the place of 1 older" in submit(tmp_path, SCHEDULE.replace("0 4", "0 5"))
    assert [schedule.cron for schedule in service.schedules] == ["", "", "0 5 * * 1"]
