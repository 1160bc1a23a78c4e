from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.server.rest.base64_text import decode, decode_exact


@settings(max_examples=50)
@given(st.binary(max_size=300))
def test_what_was_encoded_is_decoded(data: bytes) -> None:
    text = base64.b64encode(data)
    assert decode_exact(text) == data
    assert decode(text) == data
    assert decode(text.rstrip(b"=")) == data
    assert decode(b" \n".join(text[i : i + 5] for i in range(0, len(text), 5))) == data


@pytest.mark.parametrize(
    "text", [b"Q", b"QQ=", b"QQ===", b"QQ=a", b"=", b"====", b"Q*==", b"a-_b", b"QUJD\xc3\xa4", b"AA==AA==", b"QUJD\0"]
)
def test_what_is_no_base64_is_refused(text: bytes) -> None:
    assert decode(text) is None
    assert decode_exact(text) is None


@given(st.text(alphabet="ABab01+/=. \n*-", max_size=12).map(str.encode))
def test_the_exact_form_never_says_more_than_the_thorough_one(text: bytes) -> None:
    quick = decode_exact(text)
    if quick is not None:
        assert quick == base64.b64decode(text, validate=True) == decode(text)
