"""Conditions of tasks: the part of the Common Expression Language that TFX's compiler writes.

Comes in: a text such as `inputs.artifacts['blessing'].artifacts[0].metadata['blessed'] == 1.0`. Goes out: whether it
holds, or which inputs it asks for. Called by the check and by the rehearsal; the service evaluates conditions itself.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.errors import ConfigError

_TOKENS = re.compile(r"'(?:[^'\\]|\\.)*'|&&|\|\||!(?!=)|[^'&|!]+|!=|[&|]")
_WORDS = {"&&": " and ", "||": " or ", "!": " not "}
_COMPARE = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.Gt: operator.gt,
    ast.LtE: operator.le,
    ast.GtE: operator.ge,
}


def holds(condition: str, artifacts: Mapping[str, Sequence[Mapping[str, Any]]]) -> bool:
    """Return whether a condition holds.

    Args:
        condition: the text.
        artifacts: a task's input artifacts by key; each has `uri` and `metadata`.

    Raises:
        ConfigError: it is no condition that we know, or asks for something that isn't there.
    """
    tree = _parse(condition)
    try:
        return bool(_value(tree, {"artifacts": {key: {"artifacts": found} for key, found in artifacts.items()}}))
    except (KeyError, IndexError, TypeError) as error:
        raise ConfigError(f"the condition {condition!r} asks for something that isn't there: {error}") from error


def inputs(condition: str) -> set[str]:
    """Return the keys of the input artifacts that a condition asks for.

    Raises:
        ConfigError: it is no condition that we know.
    """
    found = set()
    for node in ast.walk(_parse(condition)):
        if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "inputs.artifacts":
            found.add(str(ast.literal_eval(node.slice)))
    return found


def _parse(condition: str) -> ast.expr:
    words = "".join(_WORDS.get(token, token) for token in _TOKENS.findall(condition))
    try:
        tree = ast.parse(words.strip(), mode="eval").body
        _check(tree)
    except (SyntaxError, ValueError) as error:
        raise ConfigError(f"the condition {condition!r} can't be read: {error}") from error
    return tree


def _check(node: ast.expr) -> None:
    """Raise ValueError unless an expression is built of what `_value` knows."""
    if isinstance(node, ast.BoolOp):
        parts = node.values
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.USub)):
        parts = [node.operand]
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        parts = [node.left, node.right]
    elif isinstance(node, ast.Compare) and all(type(op) in _COMPARE for op in node.ops):
        parts = [node.left, *node.comparators]
    elif isinstance(node, ast.Attribute) or (isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant)):
        parts = [node.value]
    elif isinstance(node, ast.Constant) or (isinstance(node, ast.Name) and node.id == "inputs"):
        parts = []
    else:
        raise ValueError(f"{ast.unparse(node)!r} is nothing that TFX writes")
    for part in parts:
        _check(part)


def _value(node: ast.expr, inputs: Mapping[str, Any]) -> Any:
    """Return the value of an expression that `_check` let pass."""
    if isinstance(node, ast.BoolOp):
        values = (bool(_value(part, inputs)) for part in node.values)
        return all(values) if isinstance(node.op, ast.And) else any(values)
    if isinstance(node, ast.UnaryOp):
        inner = _value(node.operand, inputs)
        return not inner if isinstance(node.op, ast.Not) else -inner
    if isinstance(node, ast.BinOp):
        return _value(node.left, inputs) + _value(node.right, inputs)
    if isinstance(node, ast.Compare):
        sides = [_value(side, inputs) for side in (node.left, *node.comparators)]
        return all(_COMPARE[type(op)](a, b) for op, a, b in zip(node.ops, sides, sides[1:], strict=False))
    if isinstance(node, ast.Subscript):
        return _value(node.value, inputs)[ast.literal_eval(node.slice)]
    if isinstance(node, ast.Attribute):
        return _value(node.value, inputs)[node.attr]
    return node.value if isinstance(node, ast.Constant) else inputs
