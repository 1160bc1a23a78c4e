"""The registry of model families and the one function that builds from it.

A family is a function `build(settings, input_shape, classes) -> tf_keras.Model` under the decorator
`@register("name")`. The contract of its result: flat functional, input named `image` (float32, [0, 1],
[N, H, W, C]), output of a layer named `logits` (float32, [N, K]), only layers that TF-MOT can quantize, prune
and cluster.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from trainer.errors import TrainerError, UnknownModelError
from trainer.settings import ModelSettings

if TYPE_CHECKING:
    import tf_keras

InputShape = tuple[int, int, int]
Family = Callable[[ModelSettings, InputShape, int], "tf_keras.Model"]

SMALLEST_SIDE = 8
USER_MODULE = "slipway_user_models_"

_families: dict[str, Family] = {}
_users: dict[str, dict[str, Family]] = {}
"""The families of each user's module that was loaded, by the module's name."""


def register(name: str) -> Callable[[Family], Family]:
    """Register a model family under a name; use as decorator.

    Args:
        name: what a config's `model.name` says.

    Returns:
        The decorator, which returns the function unchanged.

    Raises:
        TrainerError: if another function already carries the name.
    """

    def keep(family: Family) -> Family:
        known = _families.get(name)
        # A user's file that was edited comes back under the name of its new content.
        edited = known is not None and known.__module__.startswith(USER_MODULE)
        if known is not None and known.__module__ != family.__module__ and not edited:
            raise TrainerError(
                f"model {name!r} is registered twice, by {known.__module__} and {family.__module__}; rename one of them"
            )
        _families[name] = family
        return family

    return keep


def names(module: str | None = None) -> list[str]:
    """Return the registered names in alphabetical order, after loading a user's module if one is given."""
    if module is not None:
        load_module(module)
    return sorted(_families)


def build(settings: ModelSettings, input_shape: InputShape, classes: int) -> tf_keras.Model:
    """Build the network that the settings name, with fresh weights.

    Args:
        settings: the `model` section.
        input_shape: height, width and channels (1 or 3) of the images.
        classes: number of classes K, at least 2.

    Returns:
        A model from `image` float32 [N, H, W, C] in [0, 1] to `logits` float32 [N, K]; not compiled.

    Raises:
        UnknownModelError: if no family has this name.
        TrainerError: if the shape is not supported, the user's module does not load, or its model breaks the
            contract.
    """
    _check_shape(input_shape, classes)
    if settings.module is not None:
        load_module(settings.module)
    family = _families.get(settings.name)
    if family is None:
        raise UnknownModelError(_unknown(settings.name))
    model = family(settings, input_shape, classes)
    _check_contract(model, settings.name, input_shape, classes)
    return model


def load_module(path: str) -> ModuleType:
    """Import a user's `.py` file once for each content, so that its families are registered.

    Raises:
        TrainerError: if the path is no readable Python file, or importing it fails.
    """
    file = Path(path).expanduser()
    if file.suffix != ".py" or not file.is_file():
        raise TrainerError(
            f"model.module is {path!r}; expected the path of an existing .py file that registers a model by "
            "`from trainer.models import register` and `@register('name')`"
        )
    source = file.read_bytes()
    name = f"{USER_MODULE}{hashlib.sha256(source).hexdigest()[:16]}"
    if name in _users:
        # Another content under the same model names may have been loaded since.
        _families.update(_users[name])
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise TrainerError(f"model.module {path!r} cannot be imported as Python; check the file")
    module = importlib.util.module_from_spec(spec)
    before = dict(_families)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        _families.clear()
        _families.update(before)
        if isinstance(error, TrainerError) or not isinstance(error, Exception):
            raise
        raise TrainerError(f"model.module {path!r} failed on import: {type(error).__name__}: {error}") from error
    _users[name] = {key: family for key, family in _families.items() if before.get(key) is not family}
    return module


def _check_shape(input_shape: InputShape, classes: int) -> None:
    height, width, channels = input_shape
    if min(height, width) < SMALLEST_SIDE or channels not in (1, 3):
        raise TrainerError(
            f"images of {height} x {width} pixels with {channels} channel(s) cannot be learned from; expected at "
            f"least {SMALLEST_SIDE} x {SMALLEST_SIDE} with 1 or 3 channels; set transform.size and "
            "transform.channels"
        )
    if classes < 2:
        raise TrainerError(
            f"got {classes} class(es); a classifier needs at least 2; look at the data's folders or labels"
        )


def _unknown(name: str) -> str:
    nearest = difflib.get_close_matches(name, _families, n=1)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    return f"model.name is {name!r}; expected one of {', '.join(names())}{hint}"


def _check_contract(model: tf_keras.Model, name: str, input_shape: InputShape, classes: int) -> None:
    import tf_keras

    if not isinstance(model, tf_keras.Model):
        raise TrainerError(f"model {name!r} built {type(model)!r}; expected a tf_keras.Model (`import tf_keras`)")
    inner = [layer.name for layer in model.layers if isinstance(layer, tf_keras.Model)]
    if not getattr(model, "_is_graph_network", False) or inner:
        raise TrainerError(
            f"model {name!r} is not flat and functional{f' (it nests {inner})' if inner else ''}; build it "
            "as tf_keras.Model(inputs, outputs) from layers"
        )
    if model.input_names != ["image"] or model.input_shape != (None, *input_shape):
        raise TrainerError(
            f"model {name!r} takes {model.input_names} of shape {model.input_shape}; expected one input named "
            f"'image' of shape {(None, *input_shape)}"
        )
    if model.output_names != ["logits"] or model.output_shape != (None, classes):
        raise TrainerError(
            f"model {name!r} gives {model.output_names} of shape {model.output_shape}; expected one output "
            f"'logits' (the name of its last layer) of shape {(None, classes)}"
        )
