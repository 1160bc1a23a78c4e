"""A TFLite file as a servable, run by a pool of interpreters.

Comes in: `model.tflite` of a version directory. Goes out: `TfliteServable`. Called by `serving.server.loading` where
`--prefer_tflite_model` asks for it.

An interpreter runs one call at a time, so there are as many as calls may run side by side. One that was last used
with the same shapes is preferred: giving it others costs as much as running a small model ten times.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from serving.errors import ModelLoadError, ServingError
from serving.forms.tflite_file import check_by_running, check_structure
from serving.server.saved_model_servable import RunningCalls, is_batchable
from serving.server.status import Code, StatusError
from serving.server.tensor_checks import check_outputs, check_tensors
from serving.server.tflite_signatures import TfliteSignature, read_signatures
from serving.signature import Signature, TensorSpec

if TYPE_CHECKING:
    from serving.server.loading import LoadOptions

_SHAPES_KEPT = 4  # Interpreters kept for each that may run, so that batches of changing size find theirs.


class TfliteServable:
    """A loaded TFLite file; see `serving.server.servable.Servable`."""

    def __init__(self, content: bytes, where: str, pool: int, threads: int) -> None:
        """Set up the first interpreter; `load` checks the content first."""
        self._content = content
        self._where = where
        self._threads = threads
        first = self._new_interpreter()
        found = read_signatures(content, first.interpreter, where)
        self._found = {name: _by_row(signature) for name, signature in found.items()}
        self.signatures: Mapping[str, Signature] = {name: entry[0].signature for name, entry in self._found.items()}
        self.batchable: Mapping[str, bool] = {
            name: not by_row and is_batchable(entry.signature) for name, (entry, by_row) in self._found.items()
        }
        self.one_core_rows: Mapping[str, int] = {}
        self._pool = _Pool(self._new_interpreter, first, pool)
        self._running = RunningCalls(where)

    @classmethod
    def load(cls, file: Path, options: LoadOptions) -> TfliteServable:
        """Load a TFLite file; it is walked and run once in another process before this one touches it.

        Raises:
            ServingError: It is no sound TFLite file, or the runtime cannot run it.
        """
        try:
            content = file.read_bytes()
        except OSError as error:
            raise ModelLoadError(f"{file} cannot be read: {error.strerror}. Check its permissions.") from error
        check_structure(content, str(file))
        check_by_running(content, file)
        return cls(content, str(file), options.tflite_pool or os.cpu_count() or 1, options.tflite_threads)

    def run(
        self, signature: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Run a signature; see `Servable.run`."""
        if signature not in self._found:
            raise StatusError(Code.FAILED_PRECONDITION, f'Serving signature key "{signature}" not found.')
        entry, by_row = self._found[signature]
        check_tensors(entry.signature, inputs)
        if outputs is not None:
            check_outputs(entry.signature, outputs)
        names = tuple(entry.outputs if outputs is None else outputs)
        with self._running:
            if not by_row:
                return self._run(entry, inputs, names)
            rows = [
                self._run(entry, {name: array[row : row + 1] for name, array in inputs.items()}, names)
                for row in range(_row_count(inputs))
            ]
            return {name: np.concatenate([row[name] for row in rows]) for name in names}

    def signature_defs(self) -> Any:
        """Return the `SignatureDefMap` proto: what the file declares, or what was made up for it."""
        from tensorflow_serving.apis import get_model_metadata_pb2

        shown = get_model_metadata_pb2.SignatureDefMap()
        for name, (entry, _) in self._found.items():
            shown.signature_def[name].CopyFrom(entry.proto)
        return shown

    def close(self) -> None:
        """Wait for the calls that run, then free the interpreters; closing twice is allowed."""
        self._running.stop()
        self._pool.clear()

    def _run(
        self, entry: TfliteSignature, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]
    ) -> dict[str, np.ndarray]:
        arrays = {entry.inputs[name]: np.ascontiguousarray(array) for name, array in inputs.items()}
        if not all(array.size for array in arrays.values()):
            raise StatusError(Code.INVALID_ARGUMENT, "An input has no elements; a TFLite model needs at least one row")
        shapes = tuple(sorted((index, array.shape) for index, array in arrays.items()))
        held = self._pool.take(shapes)
        try:
            held.give_shapes(shapes)
            for index, array in arrays.items():
                held.interpreter.set_tensor(index, array)
            held.interpreter.invoke()
            return {name: held.interpreter.get_tensor(entry.outputs[name]) for name in outputs}
        except (RuntimeError, ValueError) as error:
            held.shapes = ()
            raise StatusError(Code.INTERNAL, f"Failed to run interpreter: {' '.join(str(error).split())}") from error
        finally:
            self._pool.give_back(held)

    def _new_interpreter(self) -> _Held:
        from tensorflow.lite.python.interpreter import Interpreter

        try:
            # From memory: the file may be replaced while it is in use.
            interpreter = Interpreter(model_content=self._content, num_threads=self._threads)
            interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ServingError(
                f"the TFLite runtime cannot load {self._where}: {' '.join(str(error).split())}."
            ) from error
        return _Held(interpreter)


class _Held:
    """An interpreter and the shapes of inputs that it is set up for."""

    def __init__(self, interpreter: Any) -> None:
        self.interpreter = interpreter
        self.shapes: tuple[tuple[int, tuple[int, ...]], ...] = ()

    def give_shapes(self, shapes: tuple[tuple[int, tuple[int, ...]], ...]) -> None:
        if shapes == self.shapes:
            return
        for index, shape in shapes:
            self.interpreter.resize_tensor_input(index, shape, strict=False)
        self.interpreter.allocate_tensors()
        self.shapes = shapes


class _Pool:
    """Interpreters of one file; at most `size` are in use at a time."""

    def __init__(self, make: Callable[[], _Held], first: _Held, size: int) -> None:
        self._make = make
        self._free = [first]
        self._made = 1
        self._most = size * _SHAPES_KEPT
        self._places = threading.Semaphore(size)
        self._lock = threading.Lock()

    def take(self, shapes: tuple[tuple[int, tuple[int, ...]], ...]) -> _Held:
        """Wait for a place, then take the interpreter that fits best."""
        self._places.acquire()
        with self._lock:
            fitting = next((held for held in self._free if held.shapes == shapes), None)
            if fitting is not None:
                self._free.remove(fitting)
                return fitting
            if self._made >= self._most or (self._free and not self._free[0].shapes):
                return self._free.pop(0)
            self._made += 1
        try:
            return self._make()
        except BaseException:
            with self._lock:
                self._made -= 1
            self._places.release()
            raise

    def give_back(self, held: _Held) -> None:
        with self._lock:
            self._free.append(held)
        self._places.release()

    def clear(self) -> None:
        with self._lock:
            self._free.clear()


def _by_row(found: TfliteSignature) -> tuple[TfliteSignature, bool]:
    """A signature for exactly one row becomes one for any number of rows, run row by row."""
    signature = found.signature
    if not signature.inputs or not all(map(_is_one_row, (*signature.inputs.values(), *signature.outputs.values()))):
        return found, False
    wide = Signature(signature.name, signature.method_name, _any_rows(signature.inputs), _any_rows(signature.outputs))
    return TfliteSignature(wide, found.proto, found.inputs, found.outputs), True


def _is_one_row(spec: TensorSpec) -> bool:
    return bool(spec.shape) and spec.shape is not None and spec.shape[0] == 1


def _any_rows(specs: Mapping[str, TensorSpec]) -> Mapping[str, TensorSpec]:
    return {
        name: TensorSpec(spec.name, spec.tensor, spec.dtype, (None, *(spec.shape or ())[1:]), spec.numpy_dtype)
        for name, spec in specs.items()
    }


def _row_count(inputs: Mapping[str, np.ndarray]) -> int:
    counts = {array.shape[0] for array in inputs.values()}
    if len(counts) != 1 or 0 in counts:
        raise StatusError(Code.INVALID_ARGUMENT, f"Inputs have {sorted(counts)} rows; expected the same number of each")
    return counts.pop()
