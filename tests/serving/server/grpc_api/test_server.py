"""Listening, TLS, Unix sockets, health, and the end of the server."""

from __future__ import annotations

import datetime
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serving.errors import ServingError
from serving.wire.messages import PredictRequest
from serving.wire.tensors import write_tensor
from tests.serving.server.grpc_api.running import FakePlane, RunningGrpc
from tests.serving.server.grpc_api.test_predict import PREDICT, Gate
from tests.serving.server.waiting import eventually


def predict(channel: grpc.Channel, timeout: float = 60) -> bytes:
    return bytes(channel.unary_unary(PREDICT)(message(), timeout=timeout))


def message() -> bytes:
    request = PredictRequest()
    request.model_spec.name = "echo"
    write_tensor(np.float32([1]), request.inputs["x"], content=True)
    return bytes(request.SerializeToString())


@dataclass
class Keys:
    key: bytes
    certificate: bytes
    ca: bytes | None = None
    client_verify: bool = False


class Authority:
    """Signs certificates for `localhost`."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        self.certificate = self._sign(self._name, self._key.public_key(), True)

    def issue(self, name: str) -> tuple[bytes, bytes]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return pem, self._sign(subject, key.public_key(), False)

    def _sign(self, subject: x509.Name, key: Any, authority: bool) -> bytes:
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        )
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def secure_channel(server: RunningGrpc, *credentials: bytes | None) -> grpc.Channel:
    return grpc.secure_channel(f"localhost:{server.server.port}", grpc.ssl_channel_credentials(*credentials))


def test_tls(authority: Authority) -> None:
    with RunningGrpc(tls=Keys(*authority.issue("localhost"))) as server:
        with secure_channel(server, authority.certificate) as channel:
            assert predict(channel)
        with grpc.insecure_channel(server.target) as plain, pytest.raises(grpc.RpcError) as caught:
            predict(plain, timeout=5)
        assert caught.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
        with secure_channel(server, Authority().certificate) as stranger, pytest.raises(grpc.RpcError) as caught:
            predict(stranger, timeout=5)
        assert caught.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


def test_tls_with_certificates_of_clients(authority: Authority) -> None:
    keys = Keys(*authority.issue("localhost"), authority.certificate, True)
    with RunningGrpc(tls=keys) as server:
        with secure_channel(server, authority.certificate, *authority.issue("client")) as channel:
            assert predict(channel)
        with secure_channel(server, authority.certificate) as unknown, pytest.raises(grpc.RpcError) as caught:
            predict(unknown, timeout=5)
        assert caught.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


def test_keys_that_make_no_sense_are_refused(authority: Authority) -> None:
    key, certificate = authority.issue("localhost")
    with pytest.raises(ServingError, match="custom_ca"):
        RunningGrpc(tls=Keys(key, certificate, None, True))
    with pytest.raises(ServingError, match="cannot listen"):
        RunningGrpc(tls=Keys(b"no key", b"no certificate"))


def test_a_unix_socket_and_a_port_at_once(tmp_path: Path) -> None:
    path = f"unix:{tmp_path / 'grpc.sock'}"
    with RunningGrpc(addresses=(path, "127.0.0.1:0")) as server:
        for target in (path, server.target):
            with grpc.insecure_channel(target) as channel:
                assert predict(channel)


def test_a_socket_file_that_a_crash_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "grpc.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with RunningGrpc(addresses=(f"unix:{path}",)) as server, grpc.insecure_channel(f"unix:{path}") as channel:
        assert predict(channel)
        assert server.server.port == 0


def test_a_port_that_is_taken_is_named() -> None:
    with RunningGrpc() as server, pytest.raises(ServingError, match=server.target):
        RunningGrpc(addresses=(server.target,))


def test_channel_arguments_reach_grpc() -> None:
    limit = (("grpc.max_receive_message_length", 16),)
    with RunningGrpc(channel_arguments=limit) as server, grpc.insecure_channel(server.target) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            predict(channel)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def check(channel: grpc.Channel, service: str) -> Any:
    return health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service), timeout=60)


@pytest.mark.parametrize("service", ["", "ModelService", "PredictionService"])
def test_health(service: str) -> None:
    with RunningGrpc(health=True) as server, grpc.insecure_channel(server.target) as channel:
        assert check(channel, service).status == health_pb2.HealthCheckResponse.SERVING


def test_health_of_an_unknown_service() -> None:
    with RunningGrpc(health=True) as server, grpc.insecure_channel(server.target) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            check(channel, "tensorflow.serving.PredictionService")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        stub = health_pb2_grpc.HealthStub(channel)
        stream = stub.Watch(health_pb2.HealthCheckRequest(service="what"), timeout=60)
        assert next(stream).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        stream.cancel()


def test_watchers_learn_that_the_server_stops() -> None:
    with RunningGrpc(health=True) as server, grpc.insecure_channel(server.target) as channel:
        stream = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=60)
        assert next(stream).status == health_pb2.HealthCheckResponse.SERVING
        server.stop()
        assert next(stream).status == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(grpc.RpcError) as caught:
            next(stream)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_stopping_finishes_what_was_accepted_and_refuses_the_rest() -> None:
    gate = Gate()
    with RunningGrpc(FakePlane(gate)) as server, grpc.insecure_channel(server.target) as channel:
        accepted = channel.unary_unary(PREDICT).future(message(), timeout=120)
        assert gate.entered.acquire(timeout=60)
        stopping = threading.Thread(target=server.stop, args=(60,))
        stopping.start()

        def refused() -> bool:
            with grpc.insecure_channel(server.target) as late:
                try:
                    predict(late, timeout=5)
                except grpc.RpcError as error:
                    return error.code() is grpc.StatusCode.UNAVAILABLE
            return False

        eventually(refused)
        assert stopping.is_alive()
        gate.open.set()
        assert accepted.result()
        stopping.join(60)
        assert not stopping.is_alive()


def test_clients_at_work_are_told_to_go_elsewhere() -> None:
    """UNAVAILABLE is what they try again after; gRPC alone ends calls that come at the wrong moment with CANCELLED."""
    ends: list[grpc.StatusCode] = []

    def work(target: str) -> None:
        with grpc.insecure_channel(target) as channel:
            while True:
                try:
                    predict(channel, timeout=60)
                except grpc.RpcError as error:
                    ends.append(error.code())
                    return

    for _ in range(5):
        with RunningGrpc(FakePlane()) as server:
            clients = [threading.Thread(target=work, args=(server.target,)) for _ in range(8)]
            for client in clients:
                client.start()
            time.sleep(0.1)
            server.stop(60)
            for client in clients:
                client.join(60)
    assert ends == [grpc.StatusCode.UNAVAILABLE] * 40


def test_what_takes_longer_than_the_grace_is_cut_off() -> None:
    gate = Gate()
    with RunningGrpc(FakePlane(gate)) as server, grpc.insecure_channel(server.target) as channel:
        future = channel.unary_unary(PREDICT).future(message(), timeout=120)
        assert gate.entered.acquire(timeout=60)
        server.stop(grace_seconds=0.1)
        assert future.exception(60).code() in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE)
        # The model answers into the void.
        gate.open.set()
        eventually(lambda: server.models.held == 0)


def test_half_sent_requests_keep_nobody_waiting() -> None:
    """Clients that send the head of a call and then nothing; more than any pool of threads would hold."""
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    settings = b"\0\0\0\4\0\0\0\0\0"
    headers = bytes([0x83, 0x86])  # :method POST, :scheme http
    for name, value in (
        (":path", PREDICT),
        (":authority", "a"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ):
        headers += b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
    streams = b"".join(
        len(headers).to_bytes(3, "big") + b"\1\4" + (2 * number + 1).to_bytes(4, "big") + headers
        for number in range(90)
    )
    with RunningGrpc() as server, grpc.insecure_channel(server.target) as channel:
        host, _, port = server.target.partition(":")
        halves = [socket.create_connection((host, int(port))) for _ in range(3)]
        try:
            for half in halves:
                half.sendall(preface + settings + streams)
            eventually(lambda: len(server.server._calls._calls) >= 200)
            for _ in range(20):
                assert predict(channel)
        finally:
            for half in halves:
                half.close()
        eventually(lambda: not server.server._calls._calls)


def test_bytes_that_are_no_http2_harm_nobody() -> None:
    with RunningGrpc() as server, grpc.insecure_channel(server.target) as channel:
        host, _, port = server.target.partition(":")
        for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\0" * 100, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 50):
            with socket.create_connection((host, int(port))) as rude:
                rude.sendall(garbage)
        assert predict(channel)
