"""Statistics are TFDV's, in memory and through Beam alike."""

from __future__ import annotations

import pytest
import tensorflow_data_validation as tfdv
from tfx.types import standard_artifacts

from pipeline.components import statistics_gen
from tests.pipeline.components.artifacts import executor, made
from transform import features
from transform.ingest import ingest_local
from transform.settings import DataSettings
from transform.sources import build_source


@pytest.fixture(scope="module")
def examples(tmp_path_factory, shapes):
    root = tmp_path_factory.mktemp("examples")
    settings = DataSettings(source=str(shapes))
    ingest_local(build_source(settings), settings, str(root / "uri"))
    artifact = made(standard_artifacts.Examples, root / "uri")
    artifact.split_names = '["train", "eval", "test"]'
    return artifact


def statistics_of(examples, folder, sample=10_000):
    """Run the executor and return the train split's statistics by feature."""
    statistics = made(standard_artifacts.ExampleStatistics, folder / "statistics")
    executor(statistics_gen.Executor, folder / "tmp").Do(
        {"examples": [examples]}, {"statistics": [statistics]}, {"sample": sample}
    )
    loaded = tfdv.load_stats_binary(f"{statistics.uri}/Split-train/FeatureStats.pb")
    (dataset,) = loaded.datasets
    return dataset.num_examples, {feature.path.step[0]: feature for feature in dataset.features}


def test_statistics_count_every_feature(tmp_path, examples):
    count, by_feature = statistics_of(examples, tmp_path)
    assert count == 144
    assert {features.IMAGE, features.LABEL, features.LABEL_NAME, features.HEIGHT} <= by_feature.keys()
    assert by_feature[features.LABEL_NAME].string_stats.unique == 3
    assert 40 <= by_feature[features.HEIGHT].num_stats.min <= by_feature[features.HEIGHT].num_stats.max < 90


def test_a_sample_bounds_the_work(tmp_path, examples):
    count, _ = statistics_of(examples, tmp_path, sample=100)
    assert count == 100


@pytest.mark.slow
def test_a_large_sample_goes_through_beam_with_the_same_result(tmp_path, examples, monkeypatch):
    _, in_memory = statistics_of(examples, tmp_path / "memory")
    monkeypatch.setattr(statistics_gen, "IN_MEMORY_EXAMPLES", 10)
    count, by_beam = statistics_of(examples, tmp_path / "beam")
    assert count == 144
    assert by_beam.keys() == in_memory.keys()
    for name, feature in in_memory.items():
        if feature.HasField("num_stats"):
            assert by_beam[name].num_stats.mean == pytest.approx(feature.num_stats.mean)
        else:
            assert by_beam[name].string_stats.unique == feature.string_stats.unique
