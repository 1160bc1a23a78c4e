"""A SavedModel as a servable: its signatures run on a private Session.

Comes in: a version directory. Goes out: `SavedModelServable`. Called by `serving.server.loading`; requests reach it
through the batcher.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from serving.errors import ModelLoadError, SignatureError
from serving.server.status import Code, StatusError
from serving.server.tensor_checks import check_tensors
from serving.signature import Signature, TensorSpec

if TYPE_CHECKING:
    from serving.server.inline_session import InlineSessionModel
    from serving.server.loading import LoadOptions

# Up to this many rows a call is cheaper without TensorFlow's pool of threads; beyond, it makes no difference.
_INLINE_ROWS = 8


class SavedModelServable:
    """A loaded SavedModel; see `serving.server.servable.Servable`."""

    def __init__(self, model: InlineSessionModel, inline_rows: int = _INLINE_ROWS) -> None:
        """Serve a loaded model; `load` does both.

        Args:
            model: The model.
            inline_rows: Calls of up to this many rows run in the calling thread; 0 for none.
        """
        self._model = model
        self._inline_rows = inline_rows
        self.signatures: Mapping[str, Signature] = model.signatures
        self.batchable: Mapping[str, bool] = {
            name: is_batchable(signature) for name, signature in model.signatures.items()
        }
        self.one_core_rows: Mapping[str, int] = {}
        self._running = RunningCalls(f"the model in {model.path}")

    @classmethod
    def load(
        cls, path: Path, options: LoadOptions, inline_rows: int = _INLINE_ROWS, in_order: bool = False
    ) -> SavedModelServable:
        """Load a SavedModel as the C++ loader does.

        Args:
            path: Its version directory.
            options: How to load it.
            inline_rows: Calls of up to this many rows run in the calling thread, unless the options set the size of
                TensorFlow's pool of threads.
            in_order: As for `SessionModel.load`.

        Returns:
            The loaded model.

        Raises:
            ModelLoadError: The directory does not hold a SavedModel that loads.
        """
        from serving.server.inline_session import InlineSessionModel

        model = InlineSessionModel.load(
            path,
            tags=options.tags,
            intra_op_threads=options.intra_op_threads,
            inter_op_threads=options.inter_op_threads,
            # What the threads would stay awake for is the next request, which they can't see coming.
            spin=False,
            in_order=in_order,
        )
        return cls(cast(InlineSessionModel, model), 0 if options.inter_op_threads else inline_rows)

    def run(
        self, signature: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Run a signature; see `Servable.run`."""
        from tensorflow.python.framework import errors_impl

        if signature in self.signatures:
            # Not left to TensorFlow: an array of another rank makes some operations abort the whole process.
            check_tensors(self.signatures[signature], inputs)
        with self._running:
            try:
                prepare = self._model.prepare_inline if self._is_small(signature, inputs) else self._model.prepare
                names, call = prepare(signature, outputs)
                values = call([inputs[name] for name in self.signatures[signature].inputs])
            except errors_impl.OpError as error:
                raise StatusError(Code(error.error_code), error.message) from error
            except SignatureError as error:
                raise StatusError(Code.INVALID_ARGUMENT, str(error)) from error
            except ModelLoadError as error:
                raise StatusError(Code.UNAVAILABLE, str(error)) from error
            except (TypeError, ValueError) as error:
                raise StatusError(Code.INVALID_ARGUMENT, f"An input has no tensor form: {error}") from error
            return dict(zip(names, map(np.asarray, values), strict=True))

    def _is_small(self, signature: str, inputs: Mapping[str, np.ndarray]) -> bool:
        """Whether a call has so few rows that TensorFlow's pool of threads costs more than it gives."""
        return self.batchable.get(signature, False) and len(next(iter(inputs.values()))) <= self._inline_rows

    def runs_on_cpu(self) -> bool:
        """Whether calls have no other device than the CPU."""
        return self._model.device_types() == {"CPU"}

    def keeps_nothing(self) -> bool:
        """Whether no call leaves anything behind that a later one could see."""
        from serving.server.graph_state import keeps_nothing

        tensors = [spec.tensor for signature in self.signatures.values() for spec in signature.outputs.values()]
        return keeps_nothing(self._model.graph_def(), tensors)

    def signature_defs(self) -> Any:
        """Return the `SignatureDefMap` proto of the model, internal signatures included."""
        from tensorflow_serving.apis import get_model_metadata_pb2

        shown = get_model_metadata_pb2.SignatureDefMap()
        for name, proto in self._model.signature_protos.items():
            shown.signature_def[name].CopyFrom(proto)
        return shown

    def close(self) -> None:
        """Wait for the calls that run, then free the Session; closing twice is allowed."""
        self._running.stop()
        self._model.close()


class RunningCalls:
    """Counts the calls of a model that are under way, so that it is not freed below them."""

    def __init__(self, what: str) -> None:
        """Count calls of `what`, a name for messages."""
        self._what = what
        self._count = 0
        self._stopped = False
        self._changed = threading.Condition()

    def __enter__(self) -> None:
        """Begin a call; StatusError UNAVAILABLE if the model was closed."""
        with self._changed:
            if self._stopped:
                raise StatusError(Code.UNAVAILABLE, f"{self._what} was unloaded; send the request again.")
            self._count += 1

    def __exit__(self, *_: object) -> None:
        """End a call."""
        with self._changed:
            self._count -= 1
            if self._stopped and not self._count:
                self._changed.notify_all()

    def stop(self) -> None:
        """Let no call begin any more, and wait for those under way."""
        with self._changed:
            self._stopped = True
            self._changed.wait_for(lambda: not self._count)


def is_batchable(signature: Signature) -> bool:
    """Whether rows of several requests may be run as one call."""
    specs = [*signature.inputs.values(), *signature.outputs.values()]
    return bool(signature.inputs) and all(map(_leads_with_unknown, specs))


def _leads_with_unknown(spec: TensorSpec) -> bool:
    return bool(spec.shape) and spec.shape is not None and spec.shape[0] is None
