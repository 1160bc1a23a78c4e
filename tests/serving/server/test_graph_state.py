"""Which graphs keep nothing: reading variables and tables is harmless, everything that writes or moves on is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from serving.server.graph_state import keeps_nothing


def graph_of(build: Callable[[Any], Any]) -> tuple[Any, list[str]]:
    """GraphDef of a function of one float vector, and the name of what it returns."""
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        output = build(tf.compat.v1.placeholder(tf.float32, [None], name="x"))
    return graph.as_graph_def(), [output.name]


def variable() -> Any:
    import tensorflow as tf

    return tf.Variable(1.0, use_resource=True, name="weight")


def reading(x: Any) -> Any:
    return x * variable()


def reading_beside_a_counter(x: Any) -> Any:
    """The counter is in the graph, but nothing that is fetched needs it."""
    variable().assign_add(1.0)
    return x + 1.0


def looking_up(x: Any) -> Any:
    import tensorflow as tf

    labels = tf.lookup.KeyValueTensorInitializer(tf.constant([0, 1], tf.int64), tf.constant(["a", "b"]))
    return tf.lookup.StaticHashTable(labels, "?").lookup(tf.cast(x, tf.int64))


def reading_in_functions(x: Any) -> Any:
    import tensorflow as tf

    weight = variable()
    inner = tf.function(lambda value: value * weight)
    return tf.map_fn(tf.function(inner), x)


def counting(x: Any) -> Any:
    return x + variable().assign_add(1.0)


def counting_unseen(x: Any) -> Any:
    """By a control dependency alone."""
    import tensorflow as tf

    with tf.control_dependencies([variable().assign_add(1.0)]):
        return tf.identity(x)


def counting_in_functions(x: Any) -> Any:
    import tensorflow as tf

    counter = variable()

    @tf.function
    def inner(value: Any) -> Any:
        counter.assign_add(1.0)
        return value

    return tf.map_fn(tf.function(inner), x)


def counting_in_a_branch(x: Any) -> Any:
    import tensorflow as tf

    counter = variable()
    return tf.cond(x[0] > 0, lambda: counter.assign_add(1.0) + x, lambda: x)


def drawing(x: Any) -> Any:
    import tensorflow as tf

    return x + tf.random.uniform([], seed=1)


def calling_python(x: Any) -> Any:
    import tensorflow as tf

    return tf.numpy_function(lambda value: value, [x], tf.float32)


@pytest.mark.parametrize("build", [reading, reading_beside_a_counter, looking_up, reading_in_functions])
def test_what_only_reads_keeps_nothing(build: Callable[[Any], Any]) -> None:
    assert keeps_nothing(*graph_of(build))


@pytest.mark.parametrize(
    "build", [counting, counting_unseen, counting_in_functions, counting_in_a_branch, drawing, calling_python]
)
def test_what_writes_or_moves_on_is_found_wherever_it_stands(build: Callable[[Any], Any]) -> None:
    assert not keeps_nothing(*graph_of(build))


def test_every_fetched_tensor_counts() -> None:
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        x = tf.compat.v1.placeholder(tf.float32, [None], name="x")
        good, bad = x + 1.0, x + variable().assign_add(1.0)
    assert keeps_nothing(graph.as_graph_def(), [good.name])
    assert not keeps_nothing(graph.as_graph_def(), [good.name, bad.name])


@pytest.mark.parametrize("op", ["NobodyKnowsThis", "", "StatefulPartitionedCall"])
def test_what_is_not_known_is_not_trusted(op: str) -> None:
    graph, outputs = graph_of(lambda x: x + 1.0)
    node = next(node for node in graph.node if node.name == outputs[0].split(":")[0])
    node.op = op
    if op == "StatefulPartitionedCall":
        node.attr["f"].func.name = "missing"
    assert not keeps_nothing(graph, outputs)


def test_a_tensor_that_is_not_there_is_not_trusted() -> None:
    graph, _ = graph_of(reading)
    assert not keeps_nothing(graph, ["nowhere:0"])
