"""The autograph rule that makes the first training step of a process cheap.

TensorFlow 2.16 knows that Keras needs no conversion by autograph, but looks for it under the name `keras`.
Under its own name `tf_keras` all of it is converted from source: about 20 seconds of CPU time in every
process that fits a model. The graph code of tf.Transform, of TF-MOT and of this project uses TensorFlow's operations
for control flow, so it needs none either, which saves another 6 seconds. Called by everything that traces a model.
"""

from __future__ import annotations

_SPARED = ("tf_keras", "tensorflow_transform", "tensorflow_model_optimization", "trainer", "transform")


def spare_known_code() -> None:
    """Tell autograph not to convert code that needs no conversion; does nothing the second time.

    User code (custom models, losses and layers in modules of their own) is still converted.
    """
    # Private to TensorFlow, whose version is pinned; there is no public switch.
    from tensorflow.python.autograph.core import config

    known = {getattr(rule, "_prefix", "") for rule in config.CONVERSION_RULES}
    new = [config.DoNotConvert(name) for name in _SPARED if name not in known]
    config.CONVERSION_RULES = (*new, *config.CONVERSION_RULES)
