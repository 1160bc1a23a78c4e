"""Surgery on frozen GraphDefs: what a tensor needs and no more, floats in for pixels, any batch size.

Comes in: a GraphDef without variables. Goes out: the same function with less in it. Called by
`serving.convert.source`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

_PASS = frozenset({"Identity", "StopGradient", "PreventGradient", "EnsureShape"})
_CONTROL_FLOW = frozenset({"While", "If", "Case", "StatefulPartitionedCall"})
_SCALE_TOLERANCE = 1e-6
_CALLS = re.compile(r"^((Stateful)?PartitionedCall(_\d+)?/)+(?=.)")


def needed_for(graph_def: Any, tensor: str) -> Any:
    """Keep the nodes and functions that a tensor depends on by data.

    Control dependencies are dropped with the assertions that hang on them: they guard an export, and no other
    runtime knows them.

    Args:
        graph_def: The graph; not changed.
        tensor: Name of the tensor, such as `Identity:0`.

    Returns:
        A new GraphDef.
    """
    from tensorflow.core.framework import graph_pb2

    nodes = {node.name: node for node in graph_def.node}
    wanted: set[str] = set()
    open_ends = [_node_of(tensor)]
    while open_ends:
        name = open_ends.pop()
        if name not in wanted:
            wanted.add(name)
            open_ends += [_node_of(source) for source in nodes[name].input if not source.startswith("^")]
    kept = graph_pb2.GraphDef(versions=graph_def.versions)
    for node in graph_def.node:
        if node.name in wanted:
            copy = kept.node.add()
            copy.CopyFrom(node)
            del copy.input[:]
            copy.input.extend(source for source in node.input if not source.startswith("^"))
    _keep_functions(graph_def, kept)
    return kept


def _keep_functions(graph_def: Any, kept: Any) -> None:
    functions = {function.signature.name: function for function in graph_def.library.function}
    wanted: set[str] = set()
    open_ends = [name for node in kept.node for name in _called(node) if name in functions]
    while open_ends:
        name = open_ends.pop()
        if name not in wanted:
            wanted.add(name)
            open_ends += [other for node in functions[name].node_def for other in _called(node) if other in functions]
    kept.library.function.extend(functions[name] for name in sorted(wanted))


def _called(node: Any) -> Iterator[str]:
    yield node.op
    for value in node.attr.values():
        if value.WhichOneof("value") == "func":
            yield value.func.name
        for function in value.list.func:
            yield function.name


def state_of(graph_def: Any, feed: str) -> list[str]:
    """Name what a graph depends on besides its input and its constants: other inputs, tables, random numbers."""
    from tensorflow.python.framework import op_def_registry

    nodes = [node for node in graph_def.node if node.name != feed and node.op not in _CONTROL_FLOW]
    inputs = {f"input {node.name!r}" for node in nodes if node.op.startswith("Placeholder")}
    definitions = {node.op: op_def_registry.get(node.op) for node in nodes}
    return sorted(inputs | {op for op, definition in definitions.items() if definition and definition.is_stateful})


def open_batch(graph_def: Any, feed: str, shape: tuple[int, int, int]) -> None:
    """Let a placeholder take any number of images float32 [H, W, C]; changes the graph."""
    from tensorflow.core.framework import types_pb2

    node = _nodes(graph_def)[feed]
    node.attr["dtype"].type = types_pb2.DT_FLOAT
    dimensions = node.attr["shape"].shape
    dimensions.Clear()
    for size in (-1, *shape):
        dimensions.dim.add(size=size)
    # Shapes that were inferred for the old batch size would contradict the new one.
    for other in graph_def.node:
        other.attr.pop("_output_shapes", None)


def shorten(graph_def: Any) -> dict[str, str]:
    """Drop the names of the calls that were inlined from the names of the nodes; changes the graph.

    Converters keep the names, and in a small model they are a good part of the file.

    Returns:
        The new name of every node by its old one; a name that would not be unique stays as it was.
    """
    short = {node.name: _CALLS.sub("", node.name) for node in graph_def.node}
    counts = Counter([*short.values(), *short])
    # A node that had no call in its name counts twice by itself.
    names = {old: new if counts[new] == 1 else old for old, new in short.items()}
    for node in graph_def.node:
        node.name = names[node.name]
        inputs = [_renamed(source, names) for source in node.input]
        del node.input[:]
        node.input.extend(inputs)
        # Constraints that two nodes share a device name nodes as well, and mean nothing in a frozen graph.
        node.attr.pop("_class", None)
    return names


def _renamed(tensor: str, names: dict[str, str]) -> str:
    name, colon, place = tensor.partition(":")
    return f"{names[name]}{colon}{place}"


def take_unit_floats(graph_def: Any, feed: str) -> None:
    """Make a graph that takes uint8 pixels take floats in [0, 1]; changes the graph.

    A cast of the pixels becomes a multiplication by 255, and where the next step divides by 255, both go: a
    quantized form then takes raw pixels without any arithmetic. Other uses of the pixels get them rounded. What
    turns out unused stays in the graph; `needed_for` removes it.

    Args:
        graph_def: The graph.
        feed: Name of the placeholder of the pixels.
    """
    from tensorflow.core.framework import types_pb2

    pixels, rounded = _add_pixels(graph_def, feed)
    aliases = {feed}
    finished = {pixels}
    for node in _in_order(graph_def):
        if node.name in finished or not any(_node_of(source) in aliases for source in node.input):
            continue
        if node.op in _PASS:
            aliases.add(node.name)
            node.attr["T"].type = types_pb2.DT_FLOAT
        elif node.op == "Cast" and node.attr["DstT"].type == types_pb2.DT_FLOAT:
            _become_identity(node, pixels)
            finished |= _drop_divisions(graph_def, node.name, feed)
        else:
            sources = [rounded if _node_of(source) in aliases else source for source in node.input]
            del node.input[:]
            node.input.extend(sources)


def _drop_divisions(graph_def: Any, cast: str, feed: str) -> set[str]:
    """Turn each cast / 255 into the float that is fed; returns the names of the nodes that were divisions."""
    nodes = _nodes(graph_def)
    dropped = set()
    for node in graph_def.node:
        if cast not in map(_node_of, node.input):
            continue
        if node.op in ("RealDiv", "Div"):
            divides = _node_of(node.input[0]) == cast and _is_constant(nodes, node.input[1], 255)
        else:
            divides = node.op == "Mul" and any(_is_constant(nodes, source, 1 / 255) for source in node.input)
        if divides:
            _become_identity(node, feed)
            dropped.add(node.name)
    return dropped


def _become_identity(node: Any, source: str) -> None:
    from tensorflow.core.framework import types_pb2

    node.op = "Identity"
    node.attr.clear()
    node.attr["T"].type = types_pb2.DT_FLOAT
    del node.input[:]
    node.input.append(source)


def _is_constant(nodes: dict[str, Any], source: str, value: float) -> bool:
    from tensorflow.python.framework import tensor_util

    node = nodes[_node_of(source)]
    while node.op in _PASS:
        node = nodes[_node_of(node.input[0])]
    if node.op != "Const":
        return False
    array = tensor_util.MakeNdarray(node.attr["value"].tensor)
    return bool(array.size == 1 and np.allclose(array, value, rtol=_SCALE_TOLERANCE, atol=0))


def _add_pixels(graph_def: Any, feed: str) -> tuple[str, str]:
    """Add what turns floats in [0, 1] into pixels; returns the names of the float and of the uint8 pixels."""
    from tensorflow.core.framework import types_pb2
    from tensorflow.python.framework import tensor_util

    real = types_pb2.DT_FLOAT
    pixels, rounded = f"{feed}/pixels", f"{feed}/uint8_pixels"
    factor = graph_def.node.add(name=f"{pixels}/factor", op="Const")
    factor.attr["dtype"].type = real
    factor.attr["value"].tensor.CopyFrom(tensor_util.make_tensor_proto(np.float32(255)))
    graph_def.node.add(name=pixels, op="Mul", input=[feed, factor.name]).attr["T"].type = real
    graph_def.node.add(name=f"{rounded}/float", op="Round", input=[pixels]).attr["T"].type = real
    cast = graph_def.node.add(name=rounded, op="Cast", input=[f"{rounded}/float"])
    cast.attr["SrcT"].type, cast.attr["DstT"].type = real, types_pb2.DT_UINT8
    return pixels, rounded


def _in_order(graph_def: Any) -> list[Any]:
    """Nodes such that each comes after its inputs; loops of old control flow keep the order they have."""
    nodes = _nodes(graph_def)
    done: dict[str, Any] = {}
    for root in graph_def.node:
        stack = [(root.name, iter(root.input))]
        seen = {root.name}
        while stack:
            name, sources = stack[-1]
            source = next((s for s in map(_node_of, sources) if s not in done and s not in seen), None)
            if source is None:
                done[name] = nodes[name]
                stack.pop()
            else:
                seen.add(source)
                stack.append((source, iter(nodes[source].input)))
    return list(done.values())


def _nodes(graph_def: Any) -> dict[str, Any]:
    return {node.name: node for node in graph_def.node}


def _node_of(tensor: str) -> str:
    return tensor.removeprefix("^").partition(":")[0]
