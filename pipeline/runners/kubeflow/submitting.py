"""Starting a compiled pipeline on a cluster's Kubeflow Pipelines, now or on a schedule, and never the same thing twice.

Comes in: the config. Goes out: a sentence that says what was started. A run's name is made of what the pipeline
consists of, unless one is given; a run of that name that is there already isn't started again.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from pipeline.config.kubeflow import KubeflowSettings
from pipeline.config.loading import LoadedConfig
from pipeline.config.vertex import ScheduleSettings
from pipeline.errors import ConfigError
from pipeline.runners.remote import demand
from pipeline.runners.vertex.submitting import DIGEST, content_id

_SECONDS = 30.0
_EQUALS = 1
_PAGE = 100
_STATUS = {
    401: "it doesn't know the token; kubeflow.token_env names the environment variable with a valid one",
    403: "the account may not start runs there; check kubeflow.namespace and the account's role",
    404: "it isn't Kubeflow Pipelines 2, or an address before it cuts the path; expected one under which "
    "/apis/v2beta1/healthz answers",
}


def submit_pipeline(loaded: LoadedConfig, out: Path, job_id: str | None = None) -> str:
    """Compile and start a pipeline; see `pipeline.runners.kubeflow.submit`."""
    from pipeline.runners.kubeflow.compiling import compile_to

    settings = loaded.config.kubeflow
    demand(settings, "kubeflow", {"host": "set the address of the service, such as http://localhost:8080"})
    token = _token(settings)
    (file,) = compile_to(loaded, out)
    spec, *platforms = yaml.safe_load_all(file.read_text(encoding="utf-8"))
    options = settings.schedule.model_dump(mode="json") if settings.schedule else None
    content = {"pipelineSpec": spec, "platforms": platforms, "schedule": options}
    with _explained(settings):
        client = _client(settings, token)
        if settings.schedule is not None:
            return _schedule(client, file, settings, settings.schedule, content_id(content))
        return _start(client, file, settings, job_id or content_id(content))


def _token(settings: KubeflowSettings) -> str | None:
    """Return the access token.

    Raises:
        ConfigError: its environment variable isn't set.
    """
    if settings.token_env is None:
        return None
    token = os.environ.get(settings.token_env)
    if not token:
        raise ConfigError(f"kubeflow.token_env is {settings.token_env}, which isn't set; set it to an access token")
    return token


def _client(settings: KubeflowSettings, token: str | None) -> Any:
    """Return Kubeflow's client, once the service has answered: the client itself would ask for half a minute."""
    import kfp
    import urllib3
    from kfp_server_api import exceptions

    headers = {"Authorization": f"Bearer {token}"} if token else {}
    address = f"{str(settings.host).rstrip('/')}/apis/v2beta1/healthz"
    answer = urllib3.PoolManager().request("GET", address, headers=headers, retries=False, timeout=_SECONDS)
    if answer.status != 200:
        raise exceptions.ApiException(answer.status, answer.reason)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return kfp.Client(host=settings.host, namespace=settings.namespace or "kubeflow", existing_token=token)


def _start(client: Any, file: Path, settings: KubeflowSettings, name: str) -> str:
    """Start one run, unless there is one of this name."""
    known = client.list_runs(namespace=settings.namespace, filter=_named(name), page_size=1).runs
    if known:
        return (
            f"the run {name} is there already at {settings.host} ({known[0].run_id}), so nothing was started; to run "
            "the same pipeline again, give it another name with --run-id"
        )
    started = client.create_run_from_pipeline_package(
        str(file),
        run_name=name,
        experiment_name=settings.experiment,
        namespace=settings.namespace,
        service_account=settings.service_account,
    )
    return f"started the run {name} at {settings.host} ({started.run_id})"


def _schedule(client: Any, file: Path, settings: KubeflowSettings, schedule: ScheduleSettings, name: str) -> str:
    """Create a schedule, and take away older ones of the same pipeline."""
    if schedule.most_runs is not None or "TZ=" in schedule.cron:
        raise ConfigError(
            "kubeflow.schedule has most_runs or a time zone, which Kubeflow Pipelines doesn't know; remove them, its "
            "times are in UTC"
        )
    experiment = client.create_experiment(settings.experiment, namespace=settings.namespace).experiment_id
    ours = re.compile(re.escape(name[:-DIGEST]) + f"[0-9a-f]{{{DIGEST}}}")
    listed = client.list_recurring_runs(experiment_id=experiment, page_size=_PAGE).recurring_runs or []
    known = [found for found in listed if ours.fullmatch(found.display_name)]
    if not any(found.display_name == name for found in known):
        client.create_recurring_run(
            experiment_id=experiment,
            job_name=name,
            cron_expression=f"0 {schedule.cron}",  # Kubeflow counts seconds too
            max_concurrency=schedule.most_at_once,
            no_catchup=True,
            pipeline_package_path=str(file),
            service_account=settings.service_account,
        )
    old = [found for found in known if found.display_name != name]
    for found in old:
        client.delete_recurring_run(found.recurring_run_id)
    there = "is there already" if len(old) < len(known) else f"was created ({schedule.cron})"
    return f"the schedule {name} {there}" + (f"; it takes the place of {len(old)} older" if old else "")


def _named(name: str) -> str:
    return json.dumps({"predicates": [{"operation": _EQUALS, "key": "display_name", "stringValue": name}]})


@contextlib.contextmanager
def _explained(settings: KubeflowSettings) -> Iterator[None]:
    """Turn errors of the cluster and of the network into one sentence.

    Raises:
        ConfigError: in place of an error of Kubeflow's client.
    """
    import urllib3
    from kfp_server_api import exceptions

    try:
        yield
    except exceptions.ApiException as error:
        why = _STATUS.get(error.status) or f"it answers {error.status} {error.reason}: {str(error.body or '')[:300]}"
        raise ConfigError(f"kubeflow.host {settings.host} refuses: {why}") from error
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise ConfigError(
            f"kubeflow.host {settings.host} can't be reached ({type(error).__name__}); check the address, or "
            "forward it with `kubectl port-forward -n kubeflow svc/ml-pipeline-ui 8080:80`; nothing is started twice"
        ) from error
