"""Distillation: a fitted model in, a smaller one of the same family that has learned from it out.

The student sees the labels and the teacher's softened probabilities (Hinton et al., 2015, arXiv:1503.02531).
That does not always help, so a second student of the same size is trained in the same way without a teacher,
and the result says which one is better. Called by `compressing`.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras

from trainer import inputs, losses, models, training
from trainer.compress import finetuning, network, scoring
from trainer.compress.settings import FinetuneSettings
from trainer.settings import ModelSettings, TrainSettings


class Distiller(tf_keras.Model):
    """Trains a student on labels and on the teacher's probabilities; evaluates it on labels alone."""

    def __init__(self, student: tf_keras.Model, teacher: tf_keras.Model, alpha: float, temperature: float) -> None:
        """Take both models.

        Args:
            student: images to logits; trained.
            teacher: images to logits; kept as it is.
            alpha: weight of the labels' loss, from 0 to 1.
            temperature: divides the logits before both are compared.
        """
        super().__init__()
        self.student = student
        self.teacher = teacher
        self.teacher.trainable = False
        self.alpha = alpha
        self.temperature = temperature
        self.build((None, *student.input_shape[1:]))

    def call(self, inputs: Any, training: bool | None = None) -> tf.Tensor:
        """Return the student's logits."""
        return self.student(inputs, training=training)

    def train_step(self, data: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Update the student by one batch; the loss reported is that on labels."""
        images, targets = data
        taught = self.teacher(images, training=False)
        with tf.GradientTape() as tape:
            logits = self.student(images, training=True)
            labels_loss = self.compiled_loss(targets, logits)
            teacher_loss = tf.reduce_mean(divergence(taught, logits, self.temperature))
            loss = self.alpha * labels_loss + (1.0 - self.alpha) * teacher_loss
        variables = self.student.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return self.compute_metrics(images, targets, logits, None)


def divergence(teacher: tf.Tensor, student: tf.Tensor, temperature: float) -> tf.Tensor:
    """Return the Kullback-Leibler divergence of softened probabilities, times the squared temperature.

    The factor keeps gradients as large as those of the labels, whatever the temperature.

    Args:
        teacher: logits float32 [N, K].
        student: logits float32 [N, K].
        temperature: above 0.

    Returns:
        float32 [N], in nats, never below zero but for rounding.
    """
    wanted = tf.nn.softmax(teacher / temperature)
    cross = losses.cross_entropy(wanted, student / temperature)
    entropy = losses.cross_entropy(wanted, teacher / temperature)
    return (cross - entropy) * temperature**2


def distill(
    model: tf_keras.Model,
    train: inputs.Split,
    evaluation: inputs.Split,
    settings: FinetuneSettings,
    train_settings: TrainSettings,
    model_settings: ModelSettings,
) -> tuple[tf_keras.Model, dict[str, Any]]:
    """Train a smaller model of the same family with the model as its teacher.

    Args:
        model: the teacher; not changed.
        train: examples to learn from.
        evaluation: examples that decide whether the teacher helped.
        settings: the section `compress.finetune`; `distill` has the student's width.
        train_settings: the section `train`; the student starts anew, so its learning rate counts in full.
        model_settings: the section `model` of the teacher.

    Returns:
        The distilled student, and what was done; `helped` says whether it has a higher accuracy than the
        student without a teacher.
    """
    wanted = _student_settings(settings, train_settings)
    plain, plain_history = _train(_student(model, model_settings, settings), None, train, evaluation, wanted, settings)
    student, history = _train(
        _student(model, model_settings, settings), network.rebuild(model), train, evaluation, wanted, settings
    )
    scores = {name: scoring.score(one, evaluation) for name, one in (("student", student), ("plain", plain))}
    details = {
        "stage": "distillation",
        "width": model_settings.width * settings.distill.width,
        "alpha": settings.distill.alpha,
        "temperature": settings.distill.temperature,
        "epochs": wanted.epochs,
        "eval": scores["student"].rounded(),
        "plain_student": {"eval": scores["plain"].rounded(), "history": plain_history},
        "helped": scores["student"].accuracy > scores["plain"].accuracy,
        "history": history,
    }
    return student, details


def _student(model: tf_keras.Model, model_settings: ModelSettings, settings: FinetuneSettings) -> tf_keras.Model:
    tf_keras.utils.set_random_seed(settings.seed)
    smaller = model_settings.model_copy(update={"width": model_settings.width * settings.distill.width})
    return network.rebuild(models.build(smaller, model.input_shape[1:], model.output_shape[-1]))


def _student_settings(settings: FinetuneSettings, train_settings: TrainSettings) -> TrainSettings:
    return train_settings.model_copy(
        update={
            "epochs": settings.distill.epochs or train_settings.epochs,
            "batch_size": settings.batch_size or train_settings.batch_size,
            "ema": None,
            "early_stopping": None,
            "seed": settings.seed,
        }
    )


def _train(
    student: tf_keras.Model,
    teacher: tf_keras.Model | None,
    train: inputs.Split,
    evaluation: inputs.Split,
    wanted: TrainSettings,
    settings: FinetuneSettings,
) -> tuple[tf_keras.Model, list[dict[str, float]]]:
    """Train a student from its first weights, with or without a teacher."""
    if teacher is None:
        return student, finetuning.finetune(student, train, evaluation, wanted)
    distiller = Distiller(student, teacher, settings.distill.alpha, settings.distill.temperature)
    tf_keras.utils.set_random_seed(wanted.seed)
    training.compiled(distiller, wanted, inputs.steps_per_epoch(train, wanted.batch_size))
    history: list[dict[str, float]] = []
    finetuning.fit(distiller, train, evaluation, wanted, history, classes=student.output_shape[-1])
    return student, history
