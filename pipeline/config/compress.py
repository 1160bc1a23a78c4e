"""The section `compress`: the forms in which a model ships, and what each of them must prove.

Read by the stage Optimizer.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from trainer.compress.settings import FinetuneSettings
from transform.settings import Settings

ComparedSplit = Literal["eval", "test"]


class BudgetSettings(Settings):
    """What a form may lose against the float model and cost; one beyond a limit is refused and not published."""

    max_accuracy_drop: float | None = Field(
        0.015,
        ge=0,
        le=1,
        description="largest loss of accuracy, 0.015 is 1.5 points, by the lower end of the paired 95 % interval",
    )
    max_worst_class_drop: float | None = Field(
        0.05, ge=0, le=1, description="largest loss of accuracy of any one class; unset: not tested"
    )
    min_top1_agreement: float | None = Field(
        0.97,
        ge=0,
        le=1,
        description="least share of images on which a converted form gives the float model's answer; unset: not tested",
    )
    min_top1_agreement_trained: float | None = Field(
        0.9, ge=0, le=1, description="the same for techniques that train on, which change answers on purpose"
    )
    max_float_difference: float | None = Field(
        1e-4, gt=0, le=1, description="largest difference of a probability for forms that calculate in 32-bit floats"
    )
    max_bytes: int | None = Field(None, ge=1, description="largest TFLite file in bytes; unset: any")
    max_gz_bytes: int | None = Field(None, ge=1, description="largest download (gzip) of one in bytes; unset: any")
    min_speedup: float | None = Field(
        None,
        gt=0,
        description="least speed as a multiple of the SavedModel's, CPU time at batch 1 in the same run; unset: any",
    )
    require_gpu_delegate: bool = Field(
        False, description="true: float TFLite files must run on the GPU delegate as a whole"
    )


class CompressSettings(Settings):
    """Which forms are made of a blessed model, how they are measured, and what they must reach."""

    variants: tuple[str, ...] = Field(
        (),
        description="forms to make, such as tflite_int8 or cluster16_tflite_int8; none: the stage is left out",
    )
    choose_split: ComparedSplit = Field("eval", description="split on which forms are admitted and picked")
    report_split: ComparedSplit = Field(
        "test", description="split whose figures are shown; another one, else the choice flatters the figures"
    )
    examples: int = Field(
        10_000, ge=1, description="most images measured per split; below 5,000 small differences drown in chance"
    )
    representative: int = Field(
        300, ge=1, le=100_000, description="images of the train split that set the ranges of int8 forms; 200 suffice"
    )
    rounds: int = Field(
        200, ge=1, le=100_000, description="interleaved rounds of the latency measurement; fewer than 200 are noisy"
    )
    personalization: bool = Field(
        False, description="true: the mobile bundle also holds a file whose last layer learns on the device"
    )
    timeout_seconds: int = Field(
        300, ge=1, le=86_400, description="seconds until a conversion that doesn't end is given up"
    )
    seed: int = Field(7, ge=0, lt=2**31, description="seed of the representative images and of all drawing of samples")
    finetune: FinetuneSettings = Field(
        default_factory=FinetuneSettings, description="how techniques that train (pruning, clustering, QAT) train"
    )
    budget: BudgetSettings = Field(
        default_factory=BudgetSettings, description="what a form may lose against the float model"
    )

    @field_validator("variants")
    @classmethod
    def _variants_exist(cls, variants: tuple[str, ...]) -> tuple[str, ...]:
        from pipeline.optimizing.variants import parse_variant

        if len(set(variants)) < len(variants):
            raise ValueError(f"names a variant twice: {list(variants)}; list each at most once")
        problems = []
        for name in variants:
            try:
                parse_variant(name)
            except ValueError as error:
                problems.append(str(error))
        if problems:
            raise ValueError("\n".join(problems))
        return variants

    @model_validator(mode="after")
    def _splits_differ(self) -> CompressSettings:
        if self.choose_split == self.report_split:
            raise ValueError(
                f"choose_split and report_split are both {self.choose_split}; figures on the split that chose would "
                "flatter, so choose on eval and report on test"
            )
        return self
