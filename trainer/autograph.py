"""The autograph rule that makes the first training step of a process cheap.

TensorFlow 2.16 knows that Keras needs no conversion by autograph, but looks for it under the name `keras`.
Under its own name `tf_keras` all of it is converted from source: about 20 seconds of CPU time in every
process that fits a model. Called by the training loop and the tuner.
"""

from __future__ import annotations


def spare_tf_keras() -> None:
    """Tell autograph not to convert `tf_keras`; does nothing the second time.

    User code (custom models, losses and layers outside `tf_keras`) is still converted.
    """
    # Private to TensorFlow, whose version is pinned; there is no public switch.
    from tensorflow.python.autograph.core import config

    rules = tuple(config.CONVERSION_RULES)
    if not any(getattr(rule, "_prefix", "") == "tf_keras" for rule in rules):
        config.CONVERSION_RULES = (config.DoNotConvert("tf_keras"), *rules)
