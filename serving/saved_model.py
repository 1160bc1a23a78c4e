"""A SavedModel, loaded and run the way TensorFlow Serving's C++ loader does it.

Comes in: the directory of a SavedModel. Goes out: `SessionModel`, which runs signatures on numpy arrays.
Called by the infra probe, the classifier and the model server.

`tf.saved_model.load` rebuilds Python objects and so accepts models that break in production, where only the graph
counts: import the MetaGraphDef into a private Session, run the restore op, then the init op. The steps follow
`tensorflow/cc/saved_model/loader.cc`. Only TensorFlow submodules are imported, so that `serving.lean_tensorflow` can
keep the start-up short.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, TypeAlias

import numpy as np

from serving.errors import ModelLoadError, RunError, SignatureError
from serving.signature import Signature, ordered_inputs, signature_from_proto, unknown_signature

_INIT_OP = "__saved_model_init_op"
_INTERNAL_SIGNATURES = frozenset({_INIT_OP, "__saved_model_train_op"})
_FAILED_PRECONDITION = 9
_IN_ORDER = "SINGLE_THREADED_EXECUTOR"  # TensorFlow's name for it; operations may still use several threads.

Prepared: TypeAlias = "tuple[tuple[str, ...], Callable[[Sequence[np.ndarray]], list[Any]]]"
"""Names of the outputs, and a function from arrays in the order of the inputs to arrays in that of these outputs."""


class SessionModel:
    """A loaded model that owns one private Session; safe to call from several threads.

    Example:
        >>> with SessionModel.load("served/3") as model:
        ...     model.run("serving_default", {"image_bytes": np.array([png], dtype=object)})["label"]
    """

    def __init__(self, path: Path, session: Any, meta_graph: Any) -> None:
        """Use `SessionModel.load`."""
        self.path = path
        self._session: Any = session
        self._callables: dict[tuple[str, tuple[str, ...]], Prepared] = {}
        self._unusable: dict[str, SignatureError] = {}
        self.signature_protos: Mapping[str, Any] = MappingProxyType(dict(sorted(meta_graph.signature_def.items())))
        signatures = {}
        for name, proto in sorted(meta_graph.signature_def.items()):
            if name in _INTERNAL_SIGNATURES:
                continue
            try:
                signatures[name] = signature_from_proto(name, proto)
            except SignatureError as error:
                self._unusable[name] = error
        self.signatures: Mapping[str, Signature] = MappingProxyType(signatures)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        tags: Iterable[str] = ("serve",),
        intra_op_threads: int = 0,
        inter_op_threads: int = 0,
        spin: bool = True,
        in_order: bool = False,
    ) -> SessionModel:
        """Load a SavedModel into a private Session.

        Args:
            path: Directory with `saved_model.pb`, and `variables/` and `assets/` where the model has them.
            tags: Exact set of tags of the graph to load.
            intra_op_threads: Threads inside one operation; 0 leaves the choice to TensorFlow.
            inter_op_threads: Operations that run side by side; 0 leaves the choice to TensorFlow.
            spin: Whether TensorFlow's threads stay awake for a moment after their work, as they do by default. The
                first Session of a process decides for the threads inside operations.
            in_order: Run the operations one after another in an order that is found once, in place of looking after
                each which ones have become ready. Errors then don't name the operation that failed.

        Returns:
            The model, variables restored and initialized.

        Raises:
            ModelLoadError: The directory is missing, empty, damaged or no SavedModel, has no graph with these
                tags, or TensorFlow refuses to restore or initialize it. With `in_order` it refuses the control flow
                of TensorFlow 1, perhaps not before a signature runs.
        """
        from tensorflow.core.protobuf import config_pb2

        directory = Path(path)
        meta_graph = _read_meta_graph(directory, frozenset(tags))
        config = config_pb2.ConfigProto(
            intra_op_parallelism_threads=intra_op_threads,
            inter_op_parallelism_threads=inter_op_threads,
            use_per_session_threads=bool(intra_op_threads or inter_op_threads),
            experimental=config_pb2.ConfigProto.Experimental(
                disable_thread_spinning=not spin, executor_type=_IN_ORDER if in_order else ""
            ),
        )
        session = _start_session(directory, meta_graph, config)
        try:
            _restore(session, meta_graph, directory)
            _initialize(session, meta_graph, directory)
            return cls(directory, session, meta_graph)
        except BaseException:
            session.close()
            raise

    def run(
        self, signature: str, inputs: Mapping[str, Any], outputs: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Run one signature.

        Args:
            signature: Name of the signature.
            inputs: Array of each input by name; dtype and shape as in `signatures`, dtype object for strings.
            outputs: Names of the outputs to compute; None for all.

        Returns:
            Array of each output by name; strings are bytes in arrays of dtype object.

        Raises:
            SignatureError: The signature does not exist, or the inputs do not fit it.
            RunError: The graph failed, for example on an image that cannot be decoded.
            ModelLoadError: The model was closed.
        """
        names, call = self.prepare(signature, outputs)
        arrays = ordered_inputs(self.signatures[signature], inputs)
        from tensorflow.python.framework import errors_impl

        try:
            values = call(arrays)
        except errors_impl.OpError as error:
            raise _run_error(signature, error) from error
        return dict(zip(names, (np.asarray(value) for value in values), strict=True))

    def prepare(self, signature: str, outputs: Sequence[str] | None = None) -> Prepared:
        """Return the fastest way to run a signature again and again; nothing is checked when it runs.

        Args:
            signature: Name of the signature.
            outputs: Names of the outputs to compute; None for all.

        Returns:
            Names of the outputs, and a function from the arrays of the inputs, in the order of the signature, to the
            arrays of these outputs. It raises TensorFlow's own errors.

        Raises:
            SignatureError: The signature or an output does not exist, or it cannot be fed or fetched.
            ModelLoadError: The model was closed.
        """
        if self._session is None:
            raise ModelLoadError(f"{self.path} was closed; load it again to run it.")
        if signature in self._unusable:
            raise self._unusable[signature]
        spec = self.signatures.get(signature)
        if spec is None:
            raise unknown_signature(signature, [*self.signatures, *self._unusable])
        names = tuple(spec.outputs if outputs is None else outputs)
        prepared = self._callables.get((signature, names))
        if prepared is None:
            unknown = [name for name in names if name not in spec.outputs]
            if unknown:
                raise SignatureError(
                    f"signature {signature!r} has no output {unknown[0]!r}; it has {', '.join(spec.outputs) or 'none'}."
                )
            prepared = names, _make_callable(self._session, spec, names)
            self._callables[signature, names] = prepared
        return prepared

    def close(self) -> None:
        """Free the Session and its variables; closing twice is allowed."""
        session, self._session = self._session, None
        self._callables.clear()
        if session is not None:
            session.close()

    def __enter__(self) -> SessionModel:
        """Give the model itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free the model."""
        self.close()


def _read_meta_graph(directory: Path, tags: frozenset[str]) -> Any:
    from google.protobuf import text_format
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    file = _graph_file(directory)
    model = saved_model_pb2.SavedModel()
    try:
        content = file.read_bytes()
        if file.suffix == ".pb":
            model.ParseFromString(content)
        else:
            text_format.Parse(content.decode("utf-8"), model)
    except OSError as error:
        raise ModelLoadError(f"{file} cannot be read: {error.strerror}. Check its permissions.") from error
    except (DecodeError, text_format.ParseError, UnicodeDecodeError) as error:
        raise ModelLoadError(
            f"{file} ({len(content):,} bytes) is not a complete SavedModel proto: {error}. "
            "It is damaged or truncated; export or copy the model again."
        ) from error
    for meta_graph in model.meta_graphs:
        if frozenset(meta_graph.meta_info_def.tags) == tags:
            return meta_graph
    found = [sorted(meta_graph.meta_info_def.tags) for meta_graph in model.meta_graphs]
    raise ModelLoadError(
        f"{file} ({len(content):,} bytes) holds no graph with the tags {sorted(tags)}; "
        + (
            f"it holds graphs with {found}."
            if found
            else "it holds no graph at all: empty, truncated or no SavedModel."
        )
    )


def _graph_file(directory: Path) -> Path:
    expected = "expected the directory of a SavedModel, with saved_model.pb in it"
    if not directory.exists():
        raise ModelLoadError(f"{directory} does not exist; {expected}.")
    if not directory.is_dir():
        raise ModelLoadError(f"{directory} is a file; {expected}.")
    for name in ("saved_model.pb", "saved_model.pbtxt"):
        if (directory / name).is_file():
            return directory / name
    try:
        names = sorted(entry.name for entry in directory.iterdir())
    except OSError as error:
        raise ModelLoadError(f"{directory} cannot be listed: {error.strerror}; {expected}.") from error
    if not names:
        raise ModelLoadError(f"{directory} is empty; {expected}.")
    versions = sorted(int(name) for name in names if name.isascii() and name.isdigit())
    hint = f" It looks like a directory of versions: load {directory / str(versions[-1])}." if versions else ""
    shown = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
    raise ModelLoadError(f"{directory} holds {shown}; {expected}.{hint}")


def _start_session(directory: Path, meta_graph: Any, config: Any) -> Any:
    from tensorflow.python.client import session as session_module
    from tensorflow.python.framework import errors_impl, importer, ops

    graph = ops.Graph()
    try:
        with graph.as_default():
            importer.import_graph_def(meta_graph.graph_def, name="")
    except (ValueError, TypeError, errors_impl.OpError) as error:
        raise ModelLoadError(
            f"TensorFlow cannot import the graph of {directory}: {_brief(str(error))}. It was exported with "
            "custom operations or by another TensorFlow; export it with the installed one."
        ) from error
    return session_module.Session(graph=graph, config=config)


def _restore(session: Any, meta_graph: Any, directory: Path) -> None:
    if not (directory / "variables" / "variables.index").exists():
        return
    saver = meta_graph.saver_def
    if not saver.restore_op_name:
        raise ModelLoadError(
            f"{directory} has variables/variables.index, but its graph names no restore op. Export it again."
        )
    feed = {
        saver.filename_tensor_name: str(directory / "variables" / "variables"),
        **_assets(meta_graph, directory),
    }
    _run_once(session, saver.restore_op_name, feed, f"the variables of {directory} cannot be restored")


def _initialize(session: Any, meta_graph: Any, directory: Path) -> None:
    init_op = ""
    if _INIT_OP in meta_graph.signature_def:
        outputs = meta_graph.signature_def[_INIT_OP].outputs
        init_op = outputs[_INIT_OP].name.split(":")[0] if _INIT_OP in outputs else ""
    else:
        for key in ("saved_model_main_op", "legacy_init_op"):
            if key not in meta_graph.collection_def:
                continue
            ops = meta_graph.collection_def[key].node_list.value
            if len(ops) != 1:
                raise ModelLoadError(f"{directory}: expected exactly one op in {key}, found {len(ops)}.")
            init_op = ops[0]
            break
    if init_op:
        feed = _assets(meta_graph, directory)
        _run_once(session, init_op, feed, f"the model in {directory} cannot be initialized")


def _assets(meta_graph: Any, directory: Path) -> dict[str, str]:
    return {asset.tensor_info.name: str(directory / "assets" / asset.filename) for asset in meta_graph.asset_file_def}


def _run_once(session: Any, op: str, feed: Mapping[str, str], failure: str) -> None:
    from tensorflow.python.framework import errors_impl

    try:
        session.run(session.graph.get_operation_by_name(op), dict(feed))
    except (errors_impl.OpError, KeyError, ValueError, TypeError) as error:
        raise ModelLoadError(
            f"{failure}: {_brief(str(error))}. A file is missing, truncated or from another export; "
            "export or copy the model again."
        ) from error


def _make_callable(
    session: Any, signature: Signature, outputs: Sequence[str]
) -> Callable[[Sequence[np.ndarray]], list[Any]]:
    """Callable from arrays in the order of the inputs to arrays in the order of the outputs."""
    feeds = [spec.tensor for spec in signature.inputs.values()]
    fetches = [signature.outputs[name].tensor for name in outputs]
    # The private call skips the per-call mapping of names: 1.5x faster at batch 1 (stable since TensorFlow 1.5).
    fast = getattr(session, "_make_callable_from_options", None)
    if fast is not None:
        from tensorflow.core.protobuf import config_pb2

        call = fast(config_pb2.CallableOptions(feed=feeds, fetch=fetches))
        return lambda arrays: call(*arrays)
    slow = session.make_callable(fetches, feed_list=feeds)
    return lambda arrays: slow(*arrays)


def _run_error(signature: str, error: Any) -> RunError:
    brief = _brief(error.message)
    message = f"signature {signature!r} failed: {brief}"
    if error.error_code == _FAILED_PRECONDITION:
        message = f"signature {signature!r} failed: {brief.split('. ')[0]}" + (
            ". A variable that the signature reads was not restored: checkpoint and graph belong to "
            "different variables (tf.saved_model.save of a module that holds a Keras 3 model does this), or "
            "variables/ is missing. Export from tf_keras."
        )
    return RunError(message, error.error_code)


def _brief(message: str) -> str:
    """First line without the names of graph nodes, which mean nothing to the caller."""
    lines = re.sub(r"\{\{.*?\}\}", "", message).strip().splitlines()
    text = " ".join(lines[0].split()) if lines else "no message"
    return text[:300].rstrip(". ")
