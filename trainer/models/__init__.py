"""Model families by name: a config's `model` section goes in, a flat functional tf_keras model comes out.

Called by the training loop, the tuner and every compression that rebuilds a network. One family stands in
one file and registers itself by `@register`; a user's own file does the same (`model.module`).
"""

from __future__ import annotations

from trainer.models import cnn_deep, cnn_small, mlp, mobilenet_small, resnet
from trainer.models.registry import build, names, register

__all__ = ["build", "cnn_deep", "cnn_small", "mlp", "mobilenet_small", "names", "register", "resnet"]
