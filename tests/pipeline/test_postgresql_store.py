"""Backslashes and long texts on their way to a PostgreSQL store and back."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st
from ml_metadata.proto import metadata_store_service_pb2

from pipeline.postgresql_store import BACKSLASH, PIECE, STAND_IN, from_database, to_database

texts = st.text(st.characters(blacklist_characters=[STAND_IN, "\ue05d"], blacklist_categories=["Cs"]), max_size=30)


@given(texts, texts, st.integers(1, 200), texts, texts)
@example("name", '{"a": "\\"b\\""}', 200, "nested \\", "uri")
def test_every_text_comes_back_and_none_is_sent_with_a_backslash_or_too_long(name, value, times, nested, uri):
    request = metadata_store_service_pb2.PutExecutionRequest()
    request.execution.name = name
    request.execution.custom_properties["key"].string_value = value * times
    request.execution.custom_properties["number"].int_value = times
    request.execution.custom_properties["tree"].struct_value["inner"] = [nested, {"deep": nested}]
    request.artifact_event_pairs.add().artifact.uri = uri
    request.contexts.add().name = name
    before = metadata_store_service_pb2.PutExecutionRequest()
    before.CopyFrom(request)
    to_database(request)
    properties = request.execution.custom_properties
    inner = properties["tree"].struct_value["inner"]
    names = [request.execution.name, request.contexts[0].name, request.artifact_event_pairs[0].artifact.uri]
    values = [properties[key].string_value for key in properties]
    assert not any(BACKSLASH in text for text in [*names, *values, inner[0], inner[1]["deep"]])
    assert all(len(text.encode()) <= 4 * PIECE < 2704 for text in values)
    from_database(request)
    assert request == before


def test_a_property_of_many_pieces_keeps_their_order():
    request = metadata_store_service_pb2.PutExecutionRequest()
    text = "".join(f"{number:06d}" for number in range(5000))
    request.execution.custom_properties["key"].string_value = text
    to_database(request)
    assert len(request.execution.custom_properties) == 50
    from_database(request)
    assert dict(request.execution.custom_properties.items())["key"].string_value == text


def test_repeated_texts_are_replaced_too():
    request = metadata_store_service_pb2.GetArtifactsByURIRequest(uris=["a\\b", "c"])
    to_database(request)
    assert list(request.uris) == [f"a{STAND_IN}b", "c"]
