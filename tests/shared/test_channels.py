"""Whatever arrives on a channel is an object or nothing; nobody can stop a listener by it."""

import base64
import gzip
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quarterjack import channels


def packed(content: bytes) -> str:
    return base64.b64encode(gzip.compress(content)).decode()


@settings(max_examples=200)
@given(payload=st.text() | st.binary().map(packed) | st.text().map(lambda text: "{" + text))
def test_any_text_is_read_as_an_object_or_nothing(payload: str) -> None:
    assert isinstance(channels.decode(payload), dict | None)


@pytest.mark.parametrize(
    "payload",
    [
        "[1]",
        packed(b"[1]"),
        packed(b'{"a": '),
        packed(b'{"a": 1}')[:-16],
        "Z:" + "A" * 7_000,
        '{"a":' * 100_000,
        '{"a": ' + "9" * 10_000 + "}",
        packed(b'{"a": "' + b"x" * 50_000_000 + b'"}'),
    ],
    ids=["list", "packed list", "half", "cut", "no gzip", "deep", "long number", "bomb"],
)
def test_what_is_no_object_is_nothing(payload: str) -> None:
    assert channels.decode(payload) is None


@pytest.mark.parametrize("prefix", ["", "Z:"])
def test_every_obans_packing_is_read(prefix: str) -> None:
    message = {"action": "pause", "queue": "*", "ident": "any"}

    assert channels.decode(prefix + packed(json.dumps(message).encode())) == message
    assert channels.decode(json.dumps(message)) == message
