from __future__ import annotations

import re
import shutil
import subprocess
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import parser

from serving.server.metrics import OTHER, Metric, ServerMetrics
from serving.server.status import Code


def families(metrics: ServerMetrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Samples by name and labels; prometheus_client's own parser appends `_total` to the names of counters."""
    samples = {}
    for line in metrics.exposition().decode().splitlines():
        if not line.startswith("#"):
            found = re.fullmatch(r"([\w:]+)\{(.*)\} (\S+)", line)
            assert found is not None, line
            samples[found[1], tuple(sorted(re.findall(r'(\w+)="(.*?)"', found[2])))] = float(found[3])
    return samples


def value(metrics: ServerMetrics, name: str, **labels: str) -> float:
    return families(metrics)[name, tuple(sorted(labels.items()))]


def everything() -> ServerMetrics:
    metrics = ServerMetrics()
    metrics.request("pets", "predict", "REST", Code.OK, 850.0)
    metrics.request("pets", "Predict", "GRPC", Code.UNAVAILABLE, 10.0)
    metrics.runtime("pets", "Predict", 700.0)
    metrics.examples("pets", 3)
    metrics.batch("pets", 5, 3, [100.0, 2000.0], 650.0)
    metrics.load("/models/pets/1", True, 1e6)
    metrics.load("/models/pets/2", False, 1e5)
    metrics.warmup("/models/pets/1", Code.OK, 2e5)
    metrics.logged("pets", Code.OK)
    metrics.refused("body_too_large")
    gauge = Metric("slipway_queue_rows", "gauge", "Rows that wait.", ("model_name",))
    metrics.collect_from(lambda: [(gauge, {("pets",): 7})])
    return metrics


def test_a_server_that_did_nothing_exports_nothing() -> None:
    assert ServerMetrics().exposition() == b""


def test_requests_carry_the_names_and_labels_of_tensorflow_serving() -> None:
    metrics = everything()
    count = ":tensorflow:serving:request_count"
    assert value(metrics, count, model_name="pets", status="OK") == 1
    assert value(metrics, count, model_name="pets", status="UNAVAILABLE") == 1
    latency = ":tensorflow:serving:request_latency"
    labels = {"model_name": "pets", "API": "predict", "entrypoint": "REST"}
    assert value(metrics, f"{latency}_count", **labels) == 1
    assert value(metrics, f"{latency}_sum", **labels) == 850
    # Only answered requests have a latency.
    assert (f"{latency}_count", (("API", "Predict"), ("entrypoint", "GRPC"), ("model_name", "pets"))) not in families(
        metrics
    )


@given(st.lists(st.tuples(st.sampled_from(["pets", "dogs"]), st.sampled_from([Code.OK, Code.NOT_FOUND]))))
def test_every_request_is_counted_under_its_status(requests: list[tuple[str, Code]]) -> None:
    metrics = ServerMetrics()
    for number, (name, code) in enumerate(requests):
        metrics.request(name, "predict", "REST", code, number)
    counted = families(metrics)
    for name, code in set(requests):
        key = (":tensorflow:serving:request_count", (("model_name", name), ("status", code.name)))
        assert counted[key] == requests.count((name, code))
        if code is Code.OK:
            labels = {"model_name": name, "API": "predict", "entrypoint": "REST"}
            latency = ":tensorflow:serving:request_latency"
            numbers = [number for number, request in enumerate(requests) if request == (name, code)]
            assert value(metrics, f"{latency}_count", **labels) == len(numbers)
            assert value(metrics, f"{latency}_sum", **labels) == sum(numbers)


def test_a_batch_counts_the_wait_of_each_request() -> None:
    metrics = ServerMetrics()
    metrics.batch("pets", 3, 1, [10.0, 20.0, 400.0], 50.0)
    name = ":tensorflow:serving:batching_session:queuing_latency"
    assert value(metrics, f"{name}_count", thread_pool_name="batch_threads") == 3
    assert value(metrics, f"{name}_sum", thread_pool_name="batch_threads") == 430


def test_latency_buckets_are_those_of_tensorflow_serving() -> None:
    text = everything().exposition().decode()
    bounds = re.findall(r':tensorflow:serving:request_latency_bucket\{.*?le="(.*?)"\} (\d+)', text)
    assert len(bounds) == 34
    assert [bound for bound, _ in bounds[:6]] == ["10", "18", "32.4", "58.32", "104.976", "188.957"]
    assert bounds[-1] == ("+Inf", "1")
    assert [count for bound, count in bounds if bound != "+Inf" and float(bound) < 850] == ["0"] * 8


def test_a_value_on_a_bound_belongs_to_the_bucket_below() -> None:
    metrics = ServerMetrics()
    metrics.examples("pets", 2)
    name = ":tensorflow:serving:request_example_counts_bucket"
    assert value(metrics, name, model="pets", le="1") == 0
    assert value(metrics, name, model="pets", le="2") == 1


@pytest.mark.parametrize(
    ("name", "labels", "expected"),
    [
        (":tensorflow:serving:runtime_latency_count", {"model_name": "pets", "API": "Predict", "runtime": "TF1"}, 1),
        (":tensorflow:serving:request_example_count_total", {"model": "pets"}, 3),
        (":tensorflow:serving:model_warmup_latency_sum", {"model_path": "/models/pets/1", "status": "OK"}, 2e5),
        (":tensorflow:cc:saved_model:load_attempt_count", {"model_path": "/models/pets/2", "status": "fail"}, 1),
        (":tensorflow:cc:saved_model:load_latency", {"model_path": "/models/pets/1"}, 1e6),
        (":tensorflow:serving:request_log_count", {"model_name": "pets", "status": "OK"}, 1),
        (":tensorflow:serving:batching_session:queuing_latency_count", {"thread_pool_name": "batch_threads"}, 2),
        (":tensorflow:serving:batching_session:wrapped_run_count", {}, 1),
        (":tensorflow:core:graph_runs", {}, 1),
        (":tensorflow:core:graph_run_time_usecs", {}, 650),
        ("slipway_batch_rows_sum", {"model_name": "pets"}, 5),
        ("slipway_batch_padding_rows_total", {"model_name": "pets"}, 3),
        ("slipway_http_refused_total", {"reason": "body_too_large"}, 1),
        ("slipway_queue_rows", {"model_name": "pets"}, 7),
    ],
)
def test_what_is_counted_is_exported(name: str, labels: dict[str, str], expected: float) -> None:
    assert value(everything(), name, **labels) == expected


def test_promtool_can_read_the_exposition() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian package prometheus)")
    result = subprocess.run([promtool, "check", "metrics"], input=everything().exposition(), capture_output=True)
    # 3 stands for lint only: TensorFlow Serving's names have colons and no unit.
    assert result.returncode in (0, 3), result.stderr
    complaints = [line for line in result.stderr.decode().splitlines() if not line.startswith(":tensorflow:")]
    assert complaints == []


def test_prometheus_own_parser_can_read_the_exposition() -> None:
    names = {family.name for family in parser.text_string_to_metric_families(everything().exposition().decode())}
    assert len(names) == 17


def test_every_metric_has_a_help_and_a_type_line_once() -> None:
    lines = everything().exposition().decode().splitlines()
    for kind in ("HELP", "TYPE"):
        names = [line.split()[2] for line in lines if line.startswith(f"# {kind} ")]
        assert len(names) == len(set(names)) == 17


@given(st.text(min_size=1, max_size=20))
def test_any_model_name_survives_as_a_label(name: str) -> None:
    metrics = ServerMetrics()
    metrics.request(name, "predict", "REST", Code.NOT_FOUND, 1)
    text = metrics.exposition().decode()
    escaped = re.search(r'model_name="((?:[^"\\\n]|\\.)*)",status="NOT_FOUND"\} 1\n$', text)
    assert escaped is not None
    found = re.sub(r"\\(.)", lambda match: {"n": "\n"}.get(match[1], match[1]), escaped[1])
    assert found == name


def test_a_name_that_is_no_utf8_does_not_break_the_page() -> None:
    metrics = ServerMetrics()
    metrics.request("\udcff", "predict", "REST", Code.NOT_FOUND, 1)
    assert b'model_name="?"' in metrics.exposition()


def test_ever_new_names_do_not_fill_the_memory() -> None:
    metrics = ServerMetrics()
    for number in range(10_000):
        metrics.request(f"model{number}", "predict", "REST", Code.NOT_FOUND, 1)
    samples = [line for line in metrics.exposition().splitlines() if not line.startswith(b"#")]
    assert len(samples) < 2100
    assert value(metrics, ":tensorflow:serving:request_count", model_name=OTHER, status="NOT_FOUND") >= 7900


def test_no_count_is_lost_between_threads_and_scrapes() -> None:
    metrics = ServerMetrics()

    def count() -> None:
        for _ in range(5_000):
            metrics.request("pets", "predict", "REST", Code.OK, 5.0)

    threads = [threading.Thread(target=count) for _ in range(6)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        metrics.exposition()
    for thread in threads:
        thread.join()
    assert value(metrics, ":tensorflow:serving:request_count", model_name="pets", status="OK") == 30_000
    labels = {"model_name": "pets", "API": "predict", "entrypoint": "REST"}
    assert value(metrics, ":tensorflow:serving:request_latency_count", **labels) == 30_000
