"""The section `airflow`: how Airflow runs the pipeline.

Read by `slipway compile --target airflow`, which writes it into the DAG's JSON file, and by `slipway submit`.
"""

from __future__ import annotations

from pydantic import Field, field_validator

from pipeline.continuous.cron import cron_problem
from transform.settings import Settings

PRESETS = frozenset({"@once", "@continuous", "@hourly", "@daily", "@weekly", "@monthly", "@quarterly", "@yearly"})
"""Schedules that Airflow knows by name."""


class AirflowStage(Settings):
    """What one task does differently from the others."""

    timeout_minutes: int | None = Field(None, ge=1, description="the task is ended after this time; unset: by stage")
    retries: int | None = Field(None, ge=0, le=100, description="tries after the first; unset: as for all tasks")
    pool: str | None = Field(None, min_length=1, description="Airflow pool of the task; unset: that of all tasks")
    pool_slots: int = Field(1, ge=1, description="slots it takes in the pool; more for a stage that fills a machine")
    queue: str | None = Field(None, min_length=1, description="queue of Celery workers, such as one with a GPU")


class AirflowSettings(Settings):
    """What only Airflow has to know."""

    schedule: str | None = Field(
        None, description="cron fields or @daily and the like at which a run starts; unset: only when triggered"
    )
    watch: str | None = Field(
        None,
        description="cron fields at which a small DAG looks for new data and starts a run by an asset; unset: never",
    )
    parallelism: int = Field(
        2, ge=1, le=1000, description="most tasks of a run at a time; two, since each takes a core and 1 to 2 GB"
    )
    retries: int = Field(
        2, ge=0, le=100, description="tries of a task after the first; a refused gate and a wrong config get none"
    )
    retry_delay_seconds: int = Field(60, ge=0, description="pause before a retry, enough for a server to come back")
    pool: str | None = Field(None, min_length=1, description="Airflow pool of all tasks; unset: default_pool")
    queue: str | None = Field(None, min_length=1, description="queue of Celery workers; unset: the executor's default")
    stages: dict[str, AirflowStage] = Field(
        default_factory=dict, description="what single tasks do differently, by the name of the stage"
    )
    tags: tuple[str, ...] = Field((), description="further tags of the DAG, for Airflow's list of DAGs")
    owner: str = Field("slipway", min_length=1, description="owner of the tasks, for Airflow's list of DAGs")
    python: str | None = Field(
        None, min_length=1, description="the project's Python on the workers; unset: the one that compiles"
    )
    environment: dict[str, str] = Field(
        default_factory=dict, description="variables of the tasks' processes; no secrets, the DAG's file holds them"
    )
    url: str = Field(
        "http://127.0.0.1:8080",
        pattern=r"^https?://\S+$",
        description="Airflow's API, for `slipway submit`; its credentials come from AIRFLOW_TOKEN or AIRFLOW_USER and "
        "AIRFLOW_PASSWORD in the environment",
    )

    @field_validator("schedule", "watch")
    @classmethod
    def _is_a_schedule(cls, text: str | None) -> str | None:
        if text is None or text in PRESETS:
            return text
        problem = cron_problem(text)
        if problem:
            raise ValueError(f"{problem}; or one of {', '.join(sorted(PRESETS))}")
        return text
