from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.server.rest.serving import HttpLimits
from tests.serving.server.rest.served import Client, Served, served
from tests.serving.server.waiting import eventually

QUICK = HttpLimits(check_seconds=0.02)


def post(body: bytes, *headers: bytes, version: bytes = b"1.1", path: bytes = b"/v1/models/pets:predict") -> bytes:
    lines = [b"POST %b HTTP/%b" % (path, version), b"Host: x", b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def instances(*numbers: float) -> bytes:
    return json.dumps({"instances": numbers}).encode()


def chunked(body: bytes, size: int, *headers: bytes) -> bytes:
    lines = [b"POST /v1/models/pets:predict HTTP/1.1", b"Host: x", b"Transfer-Encoding: chunked", *headers]
    pieces = [body[i : i + size] for i in range(0, len(body), size)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"


ONE = post(instances(1))
STATUS = b"GET /v1/models/pets HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def running() -> Iterator[Served]:
    with served(QUICK, max_body_bytes=100_000) as server:
        yield server


@pytest.fixture()
def client(running: Served) -> Iterator[Client]:
    with running.connect() as connection:
        yield connection


def works(running: Served) -> None:
    """The server still answers others."""
    with running.connect() as other:
        assert other.ask(ONE)[0] == 200


# --- requests and connections ---


def test_a_connection_is_kept(client: Client) -> None:
    for number in (1, 2, 3):
        status, headers, body = client.ask(post(instances(number)))
        assert (status, json.loads(body)) == (200, {"predictions": [2.0 * number]})
        assert headers["content-type"] == "application/json"
        assert headers["date"].endswith("GMT")
        assert "connection" not in headers


def test_connection_close(client: Client) -> None:
    status, headers, _ = client.ask(post(instances(1), b"Connection: close"))
    assert (status, headers["connection"]) == (200, "close")
    assert client.ended()


@pytest.mark.parametrize("version", [b"1.0"])
def test_an_old_client_is_hung_up_on(client: Client, version: bytes) -> None:
    status, headers, _ = client.ask(post(instances(1), version=version))
    assert (status, headers["connection"]) == (200, "close")
    assert client.ended()


def test_an_old_client_may_ask_to_be_kept(client: Client) -> None:
    for _ in range(2):
        status, headers, _ = client.ask(post(instances(1), b"Connection: keep-alive", version=b"1.0"))
        assert (status, headers["connection"]) == (200, "keep-alive")


def test_an_error_keeps_the_connection(client: Client) -> None:
    assert client.ask(post(b"{"))[0] == 400
    assert client.ask(b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n")[0] == 404
    assert client.ask(ONE)[0] == 200


def test_an_answer_to_head_has_no_body(client: Client) -> None:
    client.send(b"HEAD /v1/models/pets HTTP/1.1\r\nHost: x\r\n\r\n")
    status, headers, _ = client.response(head_only=True)
    assert status == 400
    assert int(headers["content-length"]) > 0
    assert client.ask(ONE)[0] == 200


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_chunked_bodies(client: Client, size: int) -> None:
    body = instances(*range(500))
    status, _, answer = client.ask(chunked(body, size))
    assert status == 200
    assert len(json.loads(answer)["predictions"]) == 500
    assert client.ask(ONE)[0] == 200


def test_a_request_may_arrive_byte_by_byte(client: Client) -> None:
    client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for index in range(len(ONE)):
        client.send(ONE[index : index + 1])
    assert client.response()[0] == 200


def test_header_names_have_any_case_and_gzip_is_understood(client: Client) -> None:
    import gzip

    body = gzip.compress(instances(4))
    assert json.loads(client.ask(post(body, b"CONTENT-encoding: GZip"))[2]) == {"predictions": [8.0]}


@pytest.mark.parametrize("target", [b"http://host:80/v1/models/pets", b"/v1/models/p%65ts", b"/V1/models/pets?x=1"])
def test_forms_of_the_request_line(client: Client, target: bytes) -> None:
    assert client.ask(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % target)[0] == 200


def test_an_offer_to_upgrade_is_answered_plainly(client: Client) -> None:
    status, headers, _ = client.ask(
        b"GET /v1/models/pets HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\njunk"
    )
    assert (status, headers["connection"]) == (200, "close")
    assert client.ended()


# --- pipelining ---


def test_pipelined_requests_are_answered_in_order(client: Client) -> None:
    client.send(b"".join(post(instances(number)) for number in range(200)))
    for number in range(200):
        assert json.loads(client.response()[2]) == {"predictions": [2.0 * number]}


def test_a_slow_first_request_holds_the_others_back_and_the_reading_too() -> None:
    with served(QUICK) as running, running.connect() as client:
        running.call(running.core.plane.gate.clear)
        body = instances(*[0.5] * 20_000)
        client.socket.setblocking(False)
        sent = 0
        request = post(body)
        try:
            for _ in range(2_000):
                sent += client.socket.send(request)
        except BlockingIOError:
            pass
        client.socket.setblocking(True)
        client.socket.settimeout(60)
        eventually(lambda: running.core.plane.calls)
        # The server stops reading: what it holds is bounded however much the client would like to send.
        assert running.server.buffered_bytes < 20 * len(request)
        running.call(running.core.plane.gate.set)
        whole, partial = divmod(sent, len(request))
        client.send(request[partial:] if partial else b"")
        for _ in range(whole + bool(partial)):
            assert client.response()[0] == 200


def test_a_refusal_waits_for_the_answers_before_it(running: Served, client: Client) -> None:
    running.call(running.core.plane.gate.clear)
    client.send(ONE + STATUS + b"garbage\r\n\r\n")
    running.call(running.core.plane.gate.set)
    assert [client.response()[0] for _ in range(3)] == [200, 200, 400]
    assert client.ended()


def test_nothing_is_answered_after_connection_close(client: Client) -> None:
    client.send(post(instances(1), b"Connection: close") + ONE)
    assert client.response()[0] == 200
    assert client.ended()


# --- Expect ---


def test_expect_continue(client: Client) -> None:
    body = instances(3)
    head = post(body, b"Expect: 100-continue")[: -len(body)]
    assert client.ask(head)[0] == 100
    assert json.loads(client.ask(body)[2]) == {"predictions": [6.0]}


def test_expect_continue_with_a_body_that_is_too_large(client: Client) -> None:
    status, headers, _ = client.ask(
        b"POST /v1/models/pets:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100001\r\nExpect: 100-continue\r\n\r\n"
    )
    assert (status, headers["connection"]) == (413, "close")
    assert client.ended()


def test_other_expectations(client: Client) -> None:
    assert client.ask(post(b"{}", b"Expect: miracles"))[0] == 417
    assert client.ended()


# --- limits ---


def test_a_large_body_is_refused_before_it_is_read(running: Served, client: Client) -> None:
    head = b"POST /v1/models/pets:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n"
    status, _, body = client.ask(head)
    assert status == 413
    assert "limit of 100000 bytes" in json.loads(body)["error"]
    works(running)


def test_a_client_that_sends_on_after_a_refusal_still_gets_it(client: Client) -> None:
    client.send(post(b" " * 5_000_000))
    assert client.response()[0] == 413
    assert client.ended()


def test_a_chunked_body_is_refused_when_it_grows_too_large(client: Client) -> None:
    client.send(chunked(b" " * 200_000, 1000))
    assert client.response()[0] == 413
    assert client.ended()


def test_a_body_of_exactly_the_limit(client: Client) -> None:
    body = instances(1)
    assert client.ask(post(body + b" " * (100_000 - len(body))))[0] == 200
    assert client.ask(post(body + b" " * (100_001 - len(body))))[0] == 413


@pytest.mark.parametrize("pieces", [1, 50])
def test_headers_without_end(client: Client, pieces: int) -> None:
    client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    data = b"GET /v1/models/pets HTTP/1.1\r\n" + b"".join(b"x-%d: %b\r\n" % (i, b"y" * 90) for i in range(6_000))
    step = len(data) // pieces + 1
    for start in range(0, len(data), step):
        client.send(data[start : start + step])
    client.send(b"\r\n")
    assert client.response()[0] == 431
    assert client.ended()


def test_a_long_address(client: Client) -> None:
    assert client.ask(b"GET /v1/models/" + b"p" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")[0] == 431


@pytest.mark.parametrize("filler", [b"5;" + b"x" * 2_000_000, b"0\r\n" + b"x-y: z\r\n" * 400_000])
def test_chunk_extensions_and_trailers_without_end(running: Served, client: Client, filler: bytes) -> None:
    client.send(b"POST /v1/models/pets:predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + filler)
    assert client.response()[0] == 400
    assert client.ended()
    works(running)


def test_bodies_of_all_connections_together_are_limited() -> None:
    limits = HttpLimits(check_seconds=0.05, max_buffered_bytes=10_000)
    with served(limits) as running, running.connect() as first, running.connect() as second:
        half = post(b" " * 8_000)[:-10]
        first.send(half)
        eventually(lambda: running.server.buffered_bytes == 7_990)
        status, _, body = second.ask(post(b" " * 8_000))
        assert status == 503
        assert "memory" in json.loads(body)["error"]
        first.close()
        eventually(lambda: running.server.buffered_bytes == 0)
        with running.connect() as third:
            assert third.ask(post(instances(1) + b" " * 8_000))[0] == 200


def test_connections_are_limited() -> None:
    with served(HttpLimits(check_seconds=0.05, max_connections=2)) as running:
        with running.connect() as first, running.connect() as second:
            assert first.ask(ONE)[0] == second.ask(ONE)[0] == 200
            with running.connect() as third:
                assert third.response()[0] == 503
                assert third.ended()
        eventually(lambda: not running.server.connections)
        works(running)


# --- hostile bytes ---


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET\r\n\r\n",
        b"FETCH /v1/models/pets HTTP/1.1\r\n\r\n",
        b"GET /v1/models/pets HTTP/9.9\r\n\r\n",
        b"GET /v1/models/pets HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /v1/models/pets HTTP/1.1\r\na: b\0c\r\n\r\n",
        b"POST /v1/models/pets:predict HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/models/pets:predict HTTP/1.1\r\nContent-Length: 1e3\r\n\r\n",
        b"POST /v1/models/pets:predict HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        b"POST /v1/models/pets:predict HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/models/pets:predict HTTP/1.1\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"POST /v1/models/pets:predict HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /v1/models/pets:predict HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        b"\0" * 1000,
    ],
)
def test_what_is_no_http_is_refused(running: Served, client: Client, data: bytes) -> None:
    status, headers, body = client.ask(data)
    assert (status, headers["connection"]) == (400, "close")
    assert json.loads(body)["error"]
    assert client.ended()
    works(running)


def test_more_bytes_than_the_length_says_are_another_request(client: Client) -> None:
    client.send(ONE + b"garbage that follows\r\n\r\n")
    assert client.response()[0] == 200
    assert client.response()[0] == 400
    assert client.ended()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.sampled_from([ONE, STATUS, post(b"{"), chunked(instances(7), 3)]), min_size=1, max_size=6), st.data()
)
def test_cuts_between_packets_change_nothing(running: Served, requests: list[bytes], data: st.DataObject) -> None:
    expected = {ONE: 200, STATUS: 200, post(b"{"): 400, chunked(instances(7), 3): 200}
    stream = b"".join(requests)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=5)))
    with running.connect() as client:
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
            client.send(stream[start:end])
        assert [client.response()[0] for _ in requests] == [expected[request] for request in requests]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_requests_do_not_harm_others(running: Served, data: st.DataObject) -> None:
    stream = bytearray(data.draw(st.sampled_from([ONE, STATUS, chunked(instances(7), 3)])) * 2)
    for _ in range(data.draw(st.integers(1, 4))):
        stream[data.draw(st.integers(0, len(stream) - 1))] = data.draw(st.integers(0, 255))
    with running.connect() as client:
        client.send(bytes(stream[: data.draw(st.integers(1, len(stream)))]))
    works(running)


# --- time and disconnects ---


def slow(**limits: float) -> HttpLimits:
    return HttpLimits(check_seconds=0.02, **limits)  # type: ignore[arg-type]


@pytest.mark.parametrize("data", [b"GET /v1/mod", b"POST /v1/models/pets:predict HTTP/1.1\r\nHost: x\r\n"])
def test_headers_must_arrive_in_time(data: bytes) -> None:
    with served(slow(header_seconds=0.1)) as running, running.connect() as client:
        assert client.ask(data)[0] == 408
        assert client.ended()
        assert running.core.count('slipway_http_refused_total{reason="slow_writer"}') == 1


def test_a_body_must_arrive_in_time() -> None:
    with served(slow(body_seconds=0.1)) as running, running.connect() as client:
        assert client.ask(post(b" " * 1000)[:-1])[0] == 408
        assert client.ended()


def test_a_body_that_arrives_steadily_gets_its_time() -> None:
    with served(slow(body_seconds=0.05, min_bytes_per_second=10)) as running, running.connect() as client:
        client.send(ONE[:-1])
        # What has arrived allows two seconds more, so that this is no race.
        assert running.run(_after(10)) is None
        client.send(ONE[-1:])
        assert client.response()[0] == 200


async def _after(turns: int) -> None:
    """Let some checks of the time limits pass."""
    import asyncio

    for _ in range(turns):
        await asyncio.sleep(0.02)


def test_an_idle_connection_is_closed_without_a_word() -> None:
    with served(slow(idle_seconds=0.1)) as running, running.connect() as client:
        assert client.ask(ONE)[0] == 200
        assert client.ended()
        with running.connect() as silent:
            assert silent.ended()


def test_a_request_under_way_is_not_idle() -> None:
    with served(slow(idle_seconds=0.05, header_seconds=0.05)) as running, running.connect() as client:
        running.call(running.core.plane.gate.clear)
        client.send(ONE)
        eventually(lambda: running.core.plane.calls)
        running.run(_after(10))
        running.call(running.core.plane.gate.set)
        assert client.response()[0] == 200


def test_a_client_that_reads_nothing_is_cut_off() -> None:
    with served(slow(write_seconds=0.2)) as running, running.connect() as client:
        running.core.plane.outputs = {"y": np.arange(4_000_000, dtype=np.int64)}
        client.send(ONE * 3)
        eventually(lambda: not running.server.connections, what="the connection is aborted")
        assert running.core.count('slipway_http_refused_total{reason="slow_reader"}') == 1
        # The second request was not started while the answer to the first was stuck.
        assert len(running.core.plane.calls) == 1


def test_a_client_that_reads_late_gets_everything() -> None:
    with served(QUICK) as running, running.connect() as client:
        running.core.plane.outputs = {"y": np.arange(1_000_000, dtype=np.int64)}
        client.send(ONE * 2)
        running.run(_after(10))
        for _ in range(2):
            status, _, body = client.response()
            assert (status, json.loads(body)["predictions"][-1]) == (200, 999_999)


def test_hanging_up_cancels_the_request_and_those_behind_it() -> None:
    with served(QUICK) as running:
        running.call(running.core.plane.gate.clear)
        with running.connect() as client:
            client.send(ONE * 5)
            eventually(lambda: running.core.plane.calls)
        eventually(lambda: running.core.plane.cancelled)
        eventually(lambda: not running.server.connections)
        running.call(running.core.plane.gate.set)
        works(running)
        assert len(running.core.plane.calls) == 2
        assert running.core.count(':tensorflow:serving:request_count{model_name="pets",status="CANCELLED"}') == 1


@pytest.mark.parametrize("data", [b"", b"POST /v1", ONE[:-3], ONE, ONE + ONE[:-3], post(b" " * 90_000)[:-1]])
def test_hanging_up_at_any_time_leaves_nothing_behind(running: Served, data: bytes) -> None:
    for reset in (False, True):
        with running.connect() as client:
            client.send(data)
            if reset:
                client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    works(running)
    eventually(lambda: running.server.buffered_bytes == 0)
    eventually(lambda: not running.server.connections)
