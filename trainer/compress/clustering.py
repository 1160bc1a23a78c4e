"""Weight clustering: a fitted model in, the same with few different values in each kernel out.

A kernel of 16 values compresses to about four bits a weight (Han et al., 2016, arXiv:1510.00149). Heads and
first convolutions keep their weights, as in pruning. Called by `compressing`, alone or before quantization.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tf_keras

from trainer import inputs
from trainer.compress import finetuning, network, scoring
from trainer.compress.settings import FinetuneSettings
from trainer.settings import TrainSettings


def cluster(
    model: tf_keras.Model,
    clusters: int,
    keep_zeros: bool,
    train: inputs.Split,
    evaluation: inputs.Split,
    settings: FinetuneSettings,
    train_settings: TrainSettings,
) -> tuple[tf_keras.Model, dict[str, Any]]:
    """Cluster kernels and train the centroids on.

    Args:
        model: the float model; not changed.
        clusters: different values that a kernel may hold.
        keep_zeros: whether zeros stay zeros; zero is then one of the values.
        train: examples to learn from.
        evaluation: examples to evaluate after each epoch.
        settings: the section `compress.finetune`.
        train_settings: the section `train`.

    Returns:
        The clustered model without wrappers, and what was done.
    """
    import tensorflow_model_optimization as tfmot

    wanted = finetuning.stage_settings(settings, train_settings)
    names = clusterable(model, clusters)
    wrapped = wrap(network.rebuild(model), names, clusters, keep_zeros)
    history = finetuning.finetune(wrapped, train, evaluation, wanted)
    clustered = network.rebuild(tfmot.clustering.keras.strip_clustering(wrapped))
    details = {
        "stage": "clustering",
        "clusters": clusters,
        "layers": names,
        "keep_zeros": keep_zeros,
        "epochs": wanted.epochs,
        "unique_weights": unique_weights(clustered),
        "sparsity": network.sparsity(clustered),
        "eval": scoring.score(clustered, evaluation).rounded(),
        "history": history,
    }
    return clustered, details


def wrap(model: tf_keras.Model, names: Sequence[str], clusters: int, keep_zeros: bool) -> tf_keras.Model:
    """Return the model with clustering wrappers around the layers named; it shares the layers with `model`."""
    import tensorflow_model_optimization as tfmot
    from tensorflow_model_optimization.python.core.clustering.keras.experimental import cluster as sparse

    arguments: dict[str, Any] = {
        "number_of_clusters": clusters,
        "cluster_centroids_init": tfmot.clustering.keras.CentroidInitialization.KMEANS_PLUS_PLUS,
    }
    apply = tfmot.clustering.keras.cluster_weights
    if keep_zeros:
        apply = sparse.cluster_weights
        arguments["preserve_sparsity"] = True

    def wrapped(layer: Any) -> Any:
        return apply(layer, **arguments) if layer.name in names else layer

    return tf_keras.models.clone_model(model, clone_function=wrapped)


def clusterable(model: tf_keras.Model, clusters: int) -> list[str]:
    """Return the layers whose kernel has more weights than clusters and is neither head nor first."""
    sizes = {name: value.size for name, value in network.kernels(model).items()}
    return [name for name in network.thinnable(model) if sizes[name] > clusters]


def unique_weights(model: tf_keras.Model) -> dict[str, int]:
    """Return the number of different values in each kernel, by layer."""
    return {name: len(np.unique(value)) for name, value in network.kernels(model).items()}
