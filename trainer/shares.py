"""Which part of every batch a process computes on.

Called by the input pipeline, which cuts batches, and by `trainer.distribution`, which knows the devices.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf


class Share(NamedTuple):
    """The devices of one process among all that take part in a training; by default there is one of each.

    Attributes:
        replicas: number of devices in all processes together.
        first: number of the first device of this process, from 0.
        devices: number of devices of this process.
    """

    replicas: int = 1
    first: int = 0
    devices: int = 1

    def of(self, pieces: tf.Tensor) -> tf.Tensor:
        """Return of a tensor [N, replicas, ...] what belongs to this process, [N * devices, ...]."""
        if self == WHOLE:
            return pieces[:, 0]
        own = pieces[:, self.first : self.first + self.devices]
        return tf.reshape(own, tf.concat([[-1], tf.shape(pieces)[2:]], 0))


WHOLE = Share()
"""One process with one device."""
