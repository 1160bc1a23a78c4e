"""What TFX calls: the Trainer's `run_fn` and the Tuner's `tuner_fn`.

Both only unwrap TFX's arguments (`FnArgs`), call the plain functions of this package and put the results
where TFX expects them. `custom_config` carries `settings` (the sections `model`, `train`, `tune` and
`transform` as plain data) and, optionally, `resume`: a folder that outlives a failed run, where unfinished
trainings and searches keep their state.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from trainer import autograph, handover, inputs, training, warm_start
from trainer import distribution as distributions
from trainer.errors import TrainerError
from trainer.export import LABELS_FILE, export
from trainer.settings import ModelSettings, TrainSettings, TuneSettings
from transform.settings import ImageSettings

WARMUP_EXAMPLES = 4
DISTRIBUTION_FILE = "distribution.json"
"""Where the run folder of a model says on how many devices it was trained."""


class Task(NamedTuple):
    """The typed settings and the data of one call by TFX."""

    model: ModelSettings
    train: TrainSettings
    tune: TuneSettings
    transform: ImageSettings
    labels: list[str]
    train_split: inputs.Split
    eval_split: inputs.Split
    resume: Path | None


class TunerFnResult(NamedTuple):
    """What TFX's Tuner takes from `tuner_fn`; the shape of TFX's type of the same name."""

    tuner: Any
    fit_kwargs: dict[str, Any]


def run_fn(fn_args: Any) -> None:
    """Train and export, as TFX's Trainer asks.

    Args:
        fn_args: TFX's `FnArgs`; read are `train_files`, `eval_files`, `transform_output`, `hyperparameters`,
            `custom_config`, `base_model`, `serving_model_dir` and `model_run_dir`.
    """
    train = TrainSettings.model_validate(fn_args.custom_config["settings"]["train"])
    # Before anything else makes TensorFlow work.
    distribution = distributions.choose(train.distribute, train.distribute_timeout)
    with distribution.guard():
        _train(fn_args, distribution)
        distribution.finish(Path(fn_args.serving_model_dir) / "saved_model.pb")


def _train(fn_args: Any, distribution: distributions.Distribution) -> None:
    """Train in all processes, and write as the chief."""
    task = _task(fn_args)
    train_settings, model_settings = task.train, task.model
    if fn_args.hyperparameters:
        import keras_tuner

        from trainer import tuning

        found = keras_tuner.HyperParameters.from_config(fn_args.hyperparameters)
        train_settings, model_settings = tuning.apply(tuning.chosen(found), train_settings, model_settings)
    run_dir = Path(fn_args.model_run_dir)
    start = warm_start.prepare(
        getattr(fn_args, "base_model", None), train_settings, model_settings, task.labels, task.train_split.shape
    )
    result = training.train(
        start.settings,
        model_settings,
        task.train_split,
        task.eval_split,
        len(task.labels),
        task.resume or run_dir,
        initial_weights=start.weights,
        distribution=distribution,
    )
    if not distribution.chief:
        return
    training.write_history(result.history, run_dir)
    text = json.dumps(distribution.describe(), indent=1)
    (run_dir / DISTRIBUTION_FILE).write_text(text + "\n", encoding="utf-8")
    start.write(run_dir)
    examples = inputs.first_records(task.eval_split, WARMUP_EXAMPLES)
    # TFX starts a failed component again with the same folder.
    shutil.rmtree(fn_args.serving_model_dir, ignore_errors=True)
    export(result.model, task.labels, task.transform, examples, fn_args.serving_model_dir)
    beside = Path(fn_args.serving_model_dir).parent / handover.FOLDER
    handover.save(result.model, model_settings, train_settings, beside)


def tuner_fn(fn_args: Any) -> TunerFnResult:
    """Prepare a search, as TFX's Tuner asks.

    Args:
        fn_args: TFX's `FnArgs`; read are `train_files`, `eval_files`, `transform_graph_path`, `custom_config`
        and
            `working_dir`.

    Returns:
        The tuner and the arguments of its `search`.
    """
    from trainer import tuning

    task = _task(fn_args)
    splits = (task.train_split, task.eval_split)
    key = training.key(task.train, task.tune, task.model, *splits, len(task.labels))
    directory = task.resume or Path(fn_args.working_dir)
    tuner = tuning.make_tuner(task.tune, task.train, task.model, directory, f"search_{key[:16]}")
    arguments = {"train_split": splits[0], "eval_split": splits[1], "classes": len(task.labels)}
    return TunerFnResult(tuner, arguments)


def read_labels(files: list[str]) -> list[str]:
    """Return the class names that lie in the examples artifact, `<uri>/labels.txt`.

    Args:
        files: paths or patterns of the files of one split, `<uri>/Split-train/...`.

    Raises:
        TrainerError: if the file is missing or empty.
    """
    path = Path(files[0]).parent.parent / LABELS_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise TrainerError(f"{path} cannot be read ({error.strerror}); expected one class name per line") from error
    if not text:
        raise TrainerError(f"{path} is empty; expected one class name per line")
    # Not splitlines: other characters that end a line may be part of a name.
    return text.removesuffix("\n").split("\n")


def _task(fn_args: Any) -> Task:
    autograph.spare_known_code()  # the transform graph is a tf_keras layer, and decoding traces it
    settings: Mapping[str, Any] = fn_args.custom_config["settings"]
    train_settings = TrainSettings.model_validate(settings["train"])
    transform_settings = ImageSettings.model_validate(settings["transform"])
    shape = (*transform_settings.size, transform_settings.channels)
    decode = decoder(fn_args.transform_graph_path or fn_args.transform_output)
    budget = train_settings.cache_mb * 1_000_000
    train_split = inputs.load(fn_args.train_files, decode, shape, budget)
    eval_split = inputs.load(fn_args.eval_files, decode, shape, max(0, budget - train_split.kept_bytes))
    resume = fn_args.custom_config.get("resume")
    return Task(
        ModelSettings.model_validate(settings["model"]),
        train_settings,
        TuneSettings.model_validate(settings.get("tune", {})),
        transform_settings,
        read_labels(fn_args.train_files),
        train_split,
        eval_split,
        Path(resume) if resume else None,
    )


def decoder(transform_output: str) -> inputs.Decoder:
    """Return a decoder of examples that runs the transform graph of the Transform component.

    Args:
        transform_output: folder of the component's artifact.
    """
    import tensorflow_transform

    output = tensorflow_transform.TFTransformOutput(transform_output)
    graph: Callable[..., Any] = output.transform_features_layer()
    return inputs.parser(lambda raw: graph(raw), inputs.raw_features(output.raw_feature_spec()))
