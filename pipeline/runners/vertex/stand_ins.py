"""Stand-ins for Google's services in a rehearsal: a container's module runs with them in place of Google's clients.

`python -m pipeline.runners.vertex.stand_ins MODULE ARGUMENTS` is what the rehearsal starts for
`python -m MODULE ARGUMENTS`. A custom job is run here: the command of its first worker pool, which is what Vertex AI
would run there. An endpoint takes what is deployed and prints it. Nothing leaves the machine.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import itertools
import runpy
import subprocess
import sys
from collections.abc import Callable, Sequence
from types import ModuleType, SimpleNamespace
from typing import Any

_numbers = itertools.count(1)


class LocalJobs:
    """`JobServiceClient` that runs a custom job's command on this machine."""

    def __init__(self, **_: Any):
        """Take the arguments of Google's client."""
        self._failed = False

    def create_custom_job(self, parent: str, custom_job: dict[str, Any]) -> Any:
        """Run the chief of a job to its end."""
        pool = custom_job["job_spec"]["worker_pool_specs"][0]
        words = [*pool["container_spec"]["command"], *pool["container_spec"].get("args", [])]
        command = [sys.executable if word == "python" else word for word in words]
        workers = sum(spec.get("replica_count", 1) for spec in custom_job["job_spec"]["worker_pool_specs"])
        print(f"custom job {custom_job['display_name']} in {parent}: {workers} workers, here 1", flush=True)
        self._failed = subprocess.run(command, check=False).returncode != 0
        return SimpleNamespace(name=f"{parent}/customJobs/{next(_numbers)}")

    def get_custom_job(self, name: str, **_: Any) -> Any:
        """Return the job's state; a client polls for ever unless it is of Google's own type."""
        from google.cloud.aiplatform_v1.types.job_state import JobState

        state = JobState.JOB_STATE_FAILED if self._failed else JobState.JOB_STATE_SUCCEEDED
        return SimpleNamespace(name=name, state=state)


class StandInModel:
    """`aiplatform.Model` that exists on this machine only."""

    def __init__(self, name: str):
        """Give it a resource name."""
        self.display_name = name
        self.resource_name = f"models/{next(_numbers)}"

    @classmethod
    def list(cls, **_: Any) -> list[StandInModel]:
        """Return none: every model is new."""
        return []

    @classmethod
    def upload(cls, display_name: str, artifact_uri: str, **_: Any) -> StandInModel:
        """Take a model."""
        print(f"model {display_name}: {artifact_uri}", flush=True)
        return cls(display_name)


class StandInEndpoint:
    """`aiplatform.Endpoint` that exists on this machine only."""

    def __init__(self, name: str):
        """Make it empty."""
        self.display_name = name
        self.resource_name = f"endpoints/{next(_numbers)}"
        self.traffic_split: dict[str, int] = {}

    @classmethod
    def list(cls, **_: Any) -> list[StandInEndpoint]:
        """Return none: every endpoint is new."""
        return []

    @classmethod
    def create(cls, display_name: str, **_: Any) -> StandInEndpoint:
        """Make an endpoint."""
        return cls(display_name)

    def list_models(self) -> Sequence[Any]:
        """Return what is deployed: nothing yet."""
        return []

    def deploy(self, model: StandInModel, **options: Any) -> None:
        """Take a model."""
        print(f"endpoint {self.display_name}: {model.display_name} with {options}", flush=True)


class _AfterImport(importlib.abc.MetaPathFinder):
    """Changes a module right after it was imported, so that a stage that never imports it doesn't pay for it."""

    def __init__(self, name: str, change: Callable[[ModuleType], None]):
        self._name = name
        self._change = change

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name != self._name:
            return None
        sys.meta_path.remove(self)
        found = importlib.util.find_spec(name)
        if found is None or found.loader is None:
            return found
        execute, change = found.loader.exec_module, self._change

        def and_change(module: ModuleType) -> None:
            execute(module)
            change(module)

        found.loader.exec_module = and_change  # type: ignore[method-assign]
        return found


def _replace_clients(module: ModuleType) -> None:
    module.init = lambda **_: None  # type: ignore[attr-defined]
    module.Model = StandInModel  # type: ignore[attr-defined]
    module.Endpoint = StandInEndpoint  # type: ignore[attr-defined]
    module.gapic.JobServiceClient = LocalJobs


def main(argv: Sequence[str]) -> None:
    """Run a module as its own process would, with the stand-ins in place."""
    sys.meta_path.insert(0, _AfterImport("google.cloud.aiplatform", _replace_clients))
    # Kubernetes' client takes this along where it is, which no image has; importing it takes seconds of every process.
    sys.modules.setdefault("kubernetes_validate", None)  # type: ignore[arg-type]
    sys.argv = list(argv)
    runpy.run_module(argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
