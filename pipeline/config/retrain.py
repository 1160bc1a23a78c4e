"""The section `retrain`: what starts the next run, and from when on the served model's requests count as drifted."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from pipeline.continuous.cron import cron_problem
from transform.settings import Settings

Trigger = Literal["data", "schedule", "drift"]


class DriftSettings(Settings):
    """What `slipway drift` compares, and from which distance on it is drift."""

    hours: float = Field(
        24, gt=0, description="age of the oldest logged request that is looked at; a day has its rhythm"
    )
    min_samples: int = Field(
        200, ge=10, description="images without which nothing is said; fewer make large distances by chance"
    )
    sample: int = Field(2000, ge=10, description="most images that are looked at, on either side; a sample shows it")
    max_feature_distance: float = Field(
        0.1,
        gt=0,
        le=1,
        description="largest Jensen-Shannon divergence of a property of the images (brightness, contrast, size …)",
    )
    max_confidence_distance: float = Field(
        0.1, gt=0, le=1, description="largest Jensen-Shannon divergence of the confidence"
    )
    max_class_distance: float = Field(
        0.15, gt=0, le=1, description="largest change of the share of one predicted class (L-infinity distance)"
    )


class RetrainSettings(Settings):
    """When `slipway watch` runs the pipeline; it never trains twice on the same data, whatever starts it."""

    triggers: tuple[Trigger, ...] = Field(
        ("data",),
        description="when new data leads to a run. data: at once; schedule: at these times; drift: when the requests "
        "have drifted",
    )
    schedule: str | None = Field(
        None, description="five fields of cron in UTC, such as '0 3 * * *'; needed by the trigger schedule"
    )
    poll_seconds: float = Field(
        30, gt=0, le=86_400, description="how often watch looks; a look at unchanged data is cheap"
    )
    quiet_seconds: float = Field(
        60,
        ge=0,
        description="data that changed less than this long ago may still be on its way, so it is left alone; "
        "a marker (data.spans.marker) makes it unnecessary",
    )
    attempts: int = Field(
        5, ge=1, le=100, description="runs of the same data that may fail before watch waits for something to change"
    )
    backoff_seconds: float = Field(
        60, gt=0, description="wait after the first failed run; doubles with each further one"
    )
    backoff_max_seconds: float = Field(3600, gt=0, description="longest wait between two attempts")
    log: str | None = Field(
        None, description="the model server's --request_log_dir; needed by the trigger drift and by `slipway drift`"
    )
    drift_check_seconds: float = Field(3600, gt=0, description="how often watch compares, for the trigger drift")
    drift: DriftSettings = Field(default_factory=DriftSettings, description="from when on requests have drifted")

    @field_validator("schedule")
    @classmethod
    def _is_cron(cls, schedule: str | None) -> str | None:
        if schedule is not None and (problem := cron_problem(schedule)):
            raise ValueError(problem)
        return schedule

    @model_validator(mode="after")
    def _triggers_have_what_they_need(self) -> RetrainSettings:
        if len(set(self.triggers)) < len(self.triggers) or not self.triggers:
            raise ValueError(
                f"triggers is {list(self.triggers)}; expected one or more of data, schedule, drift, each once"
            )
        if "schedule" in self.triggers and self.schedule is None:
            raise ValueError("triggers holds schedule, but schedule is not set; write five fields, such as '0 3 * * *'")
        if "drift" in self.triggers and self.log is None:
            raise ValueError("triggers holds drift, but log is not set; name the model server's --request_log_dir")
        return self
