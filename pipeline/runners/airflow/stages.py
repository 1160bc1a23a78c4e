"""What Airflow shows of the stages and how long each may take: task groups, one line of help, time limits."""

from __future__ import annotations

GROUPS = {
    "data": "From the source to examples with a schema that holds, and one transform for training and serving.",
    "train": "The search for hyperparameters, and the training.",
    "judge": "The gates: against thresholds and the baseline, and as a server would load the model.",
    "ship": "The forms for devices and servers, and publishing.",
    "predict": "Predictions for a whole split.",
}
"""Task groups in the order of the pipeline, with their tooltips."""

_MEMBERS = {
    "data": ("ExampleGen", "StatisticsGen", "SchemaGen", "ExampleValidator", "Transform"),
    "judge": ("Resolver", "Evaluator", "InfraValidator"),
    "ship": ("Pusher", "Optimizer", "EdgePusher", "FormPusher"),
    "predict": ("BulkInferrer",),
}

DOCS = {
    "prepare": "Reads the config, takes stock of the data, writes the plan that the stages follow.",
    "finish": "Closes the run's record. Red where a gate refused or a stage failed; the last line says why.",
    "look": "Looks whether there is data that no run has taken; if so, the asset is updated and a run starts.",
    "ExampleGen": "Reads the source, deals examples to the splits.",
    "StatisticsGen": "Counts what is in the examples.",
    "SchemaGen": "The schema: a person's, or the one that the train split suggests.",
    "ExampleValidator": "A gate: data that breaks the schema stops here.",
    "Transform": "The preprocessing, as a graph for training and serving.",
    "Tuner": "Searches hyperparameters.",
    "BaseModel": "Looks up the model that the training starts from.",
    "Trainer": "Trains and exports the model.",
    "Resolver": "Looks up the model to compare with.",
    "Evaluator": "A gate: thresholds, slices, against the baseline.",
    "InfraValidator": "A gate: a fresh process loads the model and answers requests.",
    "Pusher": "Publishes the model for TensorFlow Serving.",
    "Optimizer": "Makes the forms for devices and servers, and measures them; a gate for each.",
    "EdgePusher": "Publishes the mobile bundle.",
    "FormPusher": "Publishes the forms for servers.",
    "BulkInferrer": "Predicts a whole split.",
}
"""One line of help by task."""

TIMEOUT_MINUTES = {"": 120, "prepare": 60, "finish": 10, "look": 10, "Tuner": 2880, "Trainer": 1440, "Optimizer": 720}
"""Time limits by task, generous: they end what hangs, not what is slow. `""`: every other task."""


def group_of(node: str) -> str:
    """Return the task group of a stage; what is in no list belongs to the training."""
    return next((group for group, members in _MEMBERS.items() if node in members), "train")
