"""ML Metadata's store on PostgreSQL, which can't keep a backslash by itself.

The client library (1.16) takes the first and the last character off what libpq's PQescapeLiteral returns, expecting two
quotes. For a text with a backslash libpq returns ` E'...'`, so that the statement becomes nonsense: no JSON within JSON
and no stack trace can be stored. Here a backslash goes to the database as a character that Unicode leaves to private
use, and comes back as itself. Called by `pipeline.metadata_connection`.
"""

from __future__ import annotations

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from ml_metadata.metadata_store import metadata_store

BACKSLASH, STAND_IN = "\\", "\ue05c"


class PostgresqlStore(metadata_store.MetadataStore):
    """MLMD's store; every request and every answer passes through `replace_text`."""

    def _call_method(self, method_name: str, request: Message, response: Message) -> None:
        sent = type(request)()
        sent.CopyFrom(request)
        replace_text(sent, BACKSLASH, STAND_IN)
        super()._call_method(method_name, sent, response)
        replace_text(response, STAND_IN, BACKSLASH)


def replace_text(message: Message, old: str, new: str) -> None:
    """Replace a text in all strings of a message, in place; keys of maps and bytes are left alone."""
    for field, value in message.ListFields():
        repeated = field.label == FieldDescriptor.LABEL_REPEATED
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            _replace_in_map(field.message_type.fields_by_name["value"], value, old, new)
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            for part in value if repeated else [value]:
                replace_text(part, old, new)
        elif field.type == FieldDescriptor.TYPE_STRING and repeated:
            value[:] = [text.replace(old, new) for text in value]
        elif field.type == FieldDescriptor.TYPE_STRING:
            setattr(message, field.name, value.replace(old, new))


def _replace_in_map(kind: FieldDescriptor, values: dict, old: str, new: str) -> None:
    for key in values:
        if kind.type == FieldDescriptor.TYPE_MESSAGE:
            replace_text(values[key], old, new)
        elif kind.type == FieldDescriptor.TYPE_STRING:
            values[key] = values[key].replace(old, new)
