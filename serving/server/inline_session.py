"""A loaded SavedModel that can also run a signature in the calling thread.

Comes in: a version directory. Goes out: `InlineSessionModel`. Called by `serving.server.saved_model_servable`.

TensorFlow hands the operations of a call to a pool of threads, which wake up for it and then spin for a while in case
more work comes. For a small batch that costs up to a third of the call. The threads inside one operation stay as they
are, so a large convolution still uses all cores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from serving.saved_model import Prepared, SessionModel

_CALLING_THREAD = -1  # TensorFlow's number for "no pool" in RunOptions.inter_op_thread_pool.


class InlineSessionModel(SessionModel):
    """A `SessionModel` with one more way to run."""

    def __init__(self, path: Path, session: Any, meta_graph: Any) -> None:
        """Use `InlineSessionModel.load`."""
        super().__init__(path, session, meta_graph)
        self._inline: dict[tuple[str, tuple[str, ...]], Prepared] = {}

    def prepare_inline(self, signature: str, outputs: Sequence[str] | None = None) -> Prepared:
        """Do as `prepare` does, with all operations in the calling thread, one after another.

        Args:
            signature: Name of the signature.
            outputs: Names of the outputs to compute; None for all.

        Returns:
            As `prepare`.

        Raises:
            SignatureError: As `prepare`.
            ModelLoadError: As `prepare`.
        """
        names, pooled = self.prepare(signature, outputs)
        prepared = self._inline.get((signature, names))
        if prepared is None:
            prepared = names, self._make_inline(signature, names) or pooled
            self._inline[signature, names] = prepared
        return prepared

    def device_types(self) -> set[str]:
        """Return the kinds of the devices that operations may run on, such as `CPU` and `GPU`."""
        return {device.device_type for device in self._session.list_devices()}

    def graph_def(self) -> Any:
        """Return the graph as a proto."""
        return self._session.graph.as_graph_def()

    def close(self) -> None:
        """Free the Session and its variables; closing twice is allowed."""
        self._inline.clear()
        super().close()

    def _make_inline(self, signature: str, names: Sequence[str]) -> Callable[[Sequence[np.ndarray]], list[Any]] | None:
        from tensorflow.core.protobuf import config_pb2

        make = getattr(self._session, "_make_callable_from_options", None)
        if make is None:
            return None
        spec = self.signatures[signature]
        options = config_pb2.CallableOptions(
            feed=[given.tensor for given in spec.inputs.values()],
            fetch=[spec.outputs[name].tensor for name in names],
            run_options=config_pb2.RunOptions(inter_op_thread_pool=_CALLING_THREAD),
        )
        call = make(options)
        return lambda arrays: call(*arrays)
