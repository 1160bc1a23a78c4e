"""Google's services in a rehearsal: a job's command runs here, and its state is of Google's own type."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from google.cloud.aiplatform_v1.types.job_state import JobState

from pipeline.config.vertex import VertexSettings
from pipeline.runners.vertex.jobs import TRAINING, TUNING, job_entries
from pipeline.runners.vertex.stand_ins import LocalJobs


def job(*words: str) -> dict[str, Any]:
    spec = {"worker_pool_specs": [{"replica_count": 1, "container_spec": {"command": list(words)}}]}
    return {"display_name": "trainer", "job_spec": spec}


@pytest.mark.parametrize(("code", "expected"), [(0, JobState.JOB_STATE_SUCCEEDED), (3, JobState.JOB_STATE_FAILED)])
def test_a_job_runs_its_own_command(tmp_path: Path, code: int, expected: JobState) -> None:
    program = f"import pathlib, sys; pathlib.Path(sys.argv[1]).touch(); sys.exit({code})"
    client = LocalJobs(client_options={})
    created = client.create_custom_job("projects/p/locations/l", job("python", "-c", program, str(tmp_path / "ran")))
    assert client.get_custom_job(name=created.name).state is expected
    assert (tmp_path / "ran").exists()


def test_a_module_finds_the_stand_ins_where_googles_clients_were(tmp_path: Path) -> None:
    (tmp_path / "asks.py").write_text(
        "import sys\n"
        "from google.cloud import aiplatform\n"
        "aiplatform.init(project='p', location='l')\n"
        "endpoint = aiplatform.Endpoint.create(display_name='digits')\n"
        "endpoint.deploy(aiplatform.Model.upload(display_name='v1', artifact_uri='gs://b/1'), traffic_percentage=100)\n"
        "print(aiplatform.gapic.JobServiceClient.__name__, sys.argv[1:], __name__)\n",
        encoding="utf-8",
    )
    command = [sys.executable, "-W", "ignore", "-m", "pipeline.runners.vertex.stand_ins", "asks", "a", "b"]
    environment = {"PYTHONPATH": f"{tmp_path}:{Path(__file__).resolve().parents[4]}", "PATH": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "endpoint digits: v1 with {'traffic_percentage': 100}" in done.stdout
    assert "LocalJobs ['a', 'b'] __main__" in done.stdout


def test_only_what_is_asked_for_starts_jobs() -> None:
    plain = VertexSettings.model_validate({"project": "p", "region": "l", "image": "i"})
    assert job_entries(plain, TRAINING, "t") is None
    training = plain.model_copy(update={"training": VertexSettings.model_validate({"training": {}}).training})
    entries = job_entries(training, TRAINING, "t")
    assert entries is not None and entries[TRAINING]["project"] == "p"
    assert job_entries(training, TUNING, "t") is None
