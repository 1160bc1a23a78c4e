"""Whether the calls of a graph leave anything behind that a later call could see.

Comes in: a GraphDef and the tensors that calls fetch. Goes out: yes or no. Called by
`serving.server.saved_model_servable`: a model that keeps nothing may be loaded twice, and each call run on either.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

# Operations that TensorFlow calls stateful for what others might do to their resource, or for what they call.
_READING = frozenset({
    "VarHandleOp", "ReadVariableOp", "VarIsInitializedOp", "ResourceGather", "ResourceGatherNd",
    "HashTableV2", "LookupTableFindV2", "LookupTableSizeV2",
    "StatefulPartitionedCall", "If", "While", "Case", "Assert",
})  # fmt: skip


def keeps_nothing(graph_def: Any, tensors: Iterable[str]) -> bool:
    """Look at every operation that fetching some tensors may run.

    Args:
        graph_def: The graph with its library of functions.
        tensors: Names of tensors as signatures give them, `node:0`.

    Returns:
        Whether all of them only read. No, too, for an operation that TensorFlow does not know, and for random ones,
        whose generator moves on.
    """
    nodes = {node.name: node for node in graph_def.node}
    functions = {function.signature.name: function for function in graph_def.library.function}
    reached, waiting = set[str](), [_node_of(tensor) for tensor in tensors]
    called: list[str] = []
    while waiting:
        name = waiting.pop()
        if name in reached:
            continue
        reached.add(name)
        if name not in nodes or not _only_reads(nodes[name], functions):
            return False
        waiting += map(_node_of, nodes[name].input)
        called += _called_by(nodes[name], functions)
    return _functions_only_read(functions, called)


def _functions_only_read(functions: Mapping[str, Any], called: list[str]) -> bool:
    # Whole functions: operations that no output needs may run all the same.
    seen = set[str]()
    while called:
        name = called.pop()
        if name in seen:
            continue
        seen.add(name)
        if name not in functions:
            return False
        for node in functions[name].node_def:
            if not _only_reads(node, functions):
                return False
            called += _called_by(node, functions)
    return True


def _only_reads(node: Any, functions: Mapping[str, Any]) -> bool:
    from tensorflow.python.framework import op_def_registry

    if node.op in _READING or node.op in functions:
        return True
    definition = op_def_registry.get(node.op)
    return definition is not None and not definition.is_stateful


def _called_by(node: Any, functions: Mapping[str, Any]) -> Iterator[str]:
    if node.op in functions:
        yield node.op
    for value in node.attr.values():
        kind = value.WhichOneof("value")
        if kind == "func":
            yield value.func.name
        elif kind == "list":
            yield from (function.name for function in value.list.func)


def _node_of(tensor: str) -> str:
    return tensor.removeprefix("^").split(":")[0]
