"""ML Metadata's store on PostgreSQL, which by itself can keep neither a backslash nor a long text.

The client library (1.16) takes the first and the last character off what libpq's PQescapeLiteral returns, expecting two
quotes. For a text with a backslash libpq returns ` E'...'`, so that the statement becomes nonsense: no JSON within JSON
and no stack trace can be stored. And it puts whole property values into an index, whose entries PostgreSQL limits to
2,704 bytes (https://github.com/google/ml-metadata/issues/194). Here a backslash goes to the database as a character
that Unicode leaves to private use, a long property as several ones, and both come back as they were. Called by
`pipeline.metadata_connection`.
"""

from __future__ import annotations

from collections.abc import Iterator

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from ml_metadata.metadata_store import metadata_store

BACKSLASH, STAND_IN = "\\", "\ue05c"
PIECE = 600
"""Characters of a piece: in UTF-8 at most 2,400 bytes, which leaves room for the property's name."""

_MARK = "\ue05d"
"""Between the name of a property and the number of a piece."""

_PROPERTIES = "custom_properties"


class PostgresqlStore(metadata_store.MetadataStore):
    """MLMD's store; every request and every answer is translated."""

    def _call_method(self, method_name: str, request: Message, response: Message) -> None:
        sent = type(request)()
        sent.CopyFrom(request)
        to_database(sent)
        super()._call_method(method_name, sent, response)
        from_database(response)


def to_database(message: Message) -> None:
    """Turn a request into what the database can keep, in place."""
    for part in _parts(message):
        _replace(part, BACKSLASH, STAND_IN)
    for part in list(_parts(message)):
        properties = getattr(part, _PROPERTIES, {})
        for name in [name for name in properties if len(properties[name].string_value) > PIECE]:
            text = properties[name].string_value
            for start in range(0, len(text), PIECE):
                key = f"{name}{_MARK}{start // PIECE}" if start else name
                properties[key].string_value = text[start : start + PIECE]


def from_database(message: Message) -> None:
    """Undo `to_database` in an answer, in place."""
    for part in list(_parts(message)):
        properties = getattr(part, _PROPERTIES, {})
        for key in sorted((key for key in properties if _MARK in key), key=lambda key: int(key.partition(_MARK)[2])):
            properties[key.partition(_MARK)[0]].string_value += properties[key].string_value
            del properties[key]
    for part in _parts(message):
        _replace(part, STAND_IN, BACKSLASH)


def _parts(message: Message) -> Iterator[Message]:
    """Yield a message and all messages in it."""
    yield message
    for field, value in message.ListFields():
        if field.type != FieldDescriptor.TYPE_MESSAGE:
            continue
        if field.message_type.GetOptions().map_entry:
            if field.message_type.fields_by_name["value"].type == FieldDescriptor.TYPE_MESSAGE:
                for key in value:
                    yield from _parts(value[key])
        else:
            for part in value if field.label == FieldDescriptor.LABEL_REPEATED else [value]:
                yield from _parts(part)


def _replace(message: Message, old: str, new: str) -> None:
    """Replace a text in the strings that a message itself holds."""
    for field, value in message.ListFields():
        if field.type != FieldDescriptor.TYPE_STRING:
            continue
        if field.label == FieldDescriptor.LABEL_REPEATED:
            value[:] = [text.replace(old, new) for text in value]
        else:
            setattr(message, field.name, value.replace(old, new))
