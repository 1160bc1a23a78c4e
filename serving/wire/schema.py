"""Message classes from a short table instead of generated code.

Comes in: a table of messages. Goes out: protobuf message classes in a pool of their own, so that they live beside
TensorFlow's in one process. Works with every protobuf from 3.20 on. Called by `serving.wire.messages`.

A line of the table without indent names a message, an indented one is a field: name, number, type, and the oneof it
belongs to. `*type` is repeated, `{string: type}` a map; a type that is no scalar names a message of the table.
"""

from __future__ import annotations

import re
from typing import Any

_SCALARS = {
    "double": 1,
    "float": 2,
    "int64": 3,
    "uint64": 4,
    "int32": 5,
    "bool": 8,
    "string": 9,
    "bytes": 12,
    "uint32": 13,
}
_MESSAGE = 11
_OPTIONAL, _REPEATED = 1, 3
_FIELD = re.compile(
    r"(?P<name>\w+) (?P<number>\d+) (?P<type>\{(?P<key>\w+): (?P<value>\w+)\}|\*?\w+)( (?P<oneof>\w+))?"
)


def message_classes(package: str, table: str) -> dict[str, Any]:
    """Make the classes of a table.

    Args:
        package: Name of the protobuf package; also that of the file in the pool.
        table: The messages.

    Returns:
        Message class by name.

    Raises:
        ValueError: A line is neither a message nor a field.
    """
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    for line in filter(str.strip, table.splitlines()):
        if not line.startswith(" "):
            file.message_type.add(name=line.strip())
            continue
        match = _FIELD.fullmatch(line.strip())
        if match is None or not file.message_type:
            raise ValueError(f"received the line {line!r}; expected `Message` or `  field number type [oneof]`.")
        _add_field(package, file.message_type[-1], **match.groupdict())
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    descriptors = {
        message.name: pool.FindMessageTypeByName(f"{package}.{message.name}") for message in file.message_type
    }
    if hasattr(message_factory, "GetMessageClass"):
        return {name: message_factory.GetMessageClass(descriptor) for name, descriptor in descriptors.items()}
    factory = message_factory.MessageFactory(pool)
    return {name: factory.GetPrototype(descriptor) for name, descriptor in descriptors.items()}


def _add_field(
    package: str, message: Any, name: str, number: str, type: str, key: str | None, value: str | None, oneof: str | None
) -> None:
    kind = type.lstrip("*")
    repeated = type.startswith("*")
    if key is not None and value is not None:
        kind = f"{message.name}.{''.join(part.capitalize() for part in name.split('_'))}Entry"
        repeated = True
        entry = message.nested_type.add(name=kind.rpartition(".")[2])
        entry.options.map_entry = True
        _add_field(package, entry, "key", "1", key, None, None, None)
        _add_field(package, entry, "value", "2", value, None, None, None)
    field = message.field.add(name=name, number=int(number), label=_REPEATED if repeated else _OPTIONAL)
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        field.type, field.type_name = _MESSAGE, f".{package}.{kind}"
    if oneof is not None:
        names = [declared.name for declared in message.oneof_decl]
        if oneof not in names:
            message.oneof_decl.add(name=oneof)
            names.append(oneof)
        field.oneof_index = names.index(oneof)
