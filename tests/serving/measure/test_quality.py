from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.errors import ServingError
from serving.measure.images import ImageBatches
from serving.measure.quality import Quality, labels_of, paired_interval, predict_all, quality, wilson_interval

counts = st.tuples(*[st.integers(0, 300)] * 4).filter(any)


class Fake:
    """Answers the mean pixel as the class, one hot; batches are noted."""

    def __init__(self, dtype: type = np.uint8, classes: int = 3) -> None:
        self.input_dtype = np.dtype(dtype)
        self.classes = classes
        self.seen: list[np.ndarray] = []

    def predict(self, images: np.ndarray) -> np.ndarray:
        self.seen.append(images)
        scale = 1 if images.dtype == np.uint8 else 255
        return np.eye(self.classes, dtype=np.float32)[np.rint(images[:, 0, 0, 0] * scale).astype(int)]

    def close(self) -> None: ...


def images_of(values: list[int], batch: int = 2) -> ImageBatches:
    pixels = np.array(values, np.uint8).reshape(-1, 1, 1, 1)
    return ImageBatches.of_arrays(pixels, np.arange(len(values)) % 3, batch=batch)


def one_hot(classes: list[int], count: int = 3) -> np.ndarray:
    return np.eye(count, dtype=np.float32)[classes]


def test_predictions_keep_the_order_and_report_progress() -> None:
    seen = []
    for dtype in (np.uint8, np.float32):
        model = Fake(dtype)
        answer = predict_all(model, images_of([2, 0, 1, 1, 0]), lambda done, total: seen.append((done, total)))
        assert answer.argmax(axis=1).tolist() == [2, 0, 1, 1, 0]
        assert answer.dtype == np.float32
        assert all(batch.dtype == dtype for batch in model.seen)
    assert seen == [(2, 5), (4, 5), (5, 5)] * 2
    assert labels_of(images_of([2, 0, 1])).tolist() == [0, 1, 2]


def test_a_buffer_that_the_runtime_reuses_does_no_harm() -> None:
    class Reusing(Fake):
        def predict(self, images: np.ndarray) -> np.ndarray:
            self.buffer = getattr(self, "buffer", np.zeros((2, 3), np.float32))
            self.buffer[:] = super().predict(images)
            return self.buffer

    assert predict_all(Reusing(), images_of([2, 0, 1, 1])).argmax(axis=1).tolist() == [2, 0, 1, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda answer: answer * np.nan, r"Image 0: the model answers \[nan, nan, nan\]"),
        (lambda answer: np.where(answer > 0, np.inf, answer), "expected finite"),
        (lambda answer: answer[:1], r"shape \[1, 3\], expected \[2, K\]"),
        (lambda answer: answer[0], r"shape \[3\], expected"),
    ],
)
def test_answers_that_are_none_are_refused(change, message: str) -> None:
    class Broken(Fake):
        def predict(self, images: np.ndarray) -> np.ndarray:
            return change(super().predict(images))

    with pytest.raises(ServingError, match=message):
        predict_all(Broken(), images_of([0, 1, 2]))


def test_a_number_of_classes_that_changes_is_refused() -> None:
    class Growing(Fake):
        def predict(self, images: np.ndarray) -> np.ndarray:
            self.classes += 1
            return super().predict(images)

    with pytest.raises(ServingError, match=r"shape \[1, 5\], expected \[1, 4\]"):
        predict_all(Growing(), images_of([0, 1, 2]))
    with pytest.raises(ServingError, match="empty"):
        predict_all(Fake(), ImageBatches((1, 1, 1), 0, lambda: iter(())))


def test_quality_by_hand() -> None:
    labels = np.array([0, 0, 1, 1, 1, 2, 2, 2, 2, 2])
    reference = one_hot([0, 0, 1, 1, 0, 2, 2, 2, 2, 0])
    candidate = one_hot([0, 0, 1, 2, 1, 2, 2, 0, 0, 1])
    found = quality(labels, candidate, reference)
    assert found.accuracy == pytest.approx(0.6)
    assert found.reference_accuracy == pytest.approx(0.8)
    assert found.delta == pytest.approx(-0.2)
    assert (found.worst_class, found.worst_class_images) == (2, 5)
    assert found.worst_class_drop == pytest.approx(0.4)
    assert found.top1_agreement == pytest.approx(0.5)
    assert found.max_abs_difference == 1.0
    assert found.log_loss == pytest.approx(-np.log(1e-7) * 0.4, rel=1e-6)
    assert found.ci95_low < -0.2 < found.ci95_high


def test_the_reference_beside_itself_has_no_difference() -> None:
    labels = np.array([0, 1, 2, 0])
    answers = np.full((4, 3), 1 / 3, np.float32)
    found = quality(labels, answers, answers)
    assert (found.delta, found.ci95_low, found.ci95_high, found.max_abs_difference) == (0, 0, 0, 0)
    assert (found.top1_agreement, found.worst_class_drop) == (1, 0)
    assert found.log_loss == pytest.approx(np.log(3), rel=1e-6)


def test_a_label_without_images_is_never_the_worst() -> None:
    found = quality(np.array([3, 3]), one_hot([3, 3], 5), one_hot([0, 0], 5))
    assert (found.worst_class, found.worst_class_drop) == (3, -1.0)


@pytest.mark.parametrize(
    ("labels", "candidate", "reference", "message"),
    [
        (np.zeros(0, int), one_hot([]), one_hot([]), "N of 1 or more"),
        (np.zeros(2), one_hot([0, 0]), one_hot([0, 0]), "Labels are float64"),
        (np.array([0, 1]), one_hot([0, 1], 2), one_hot([0, 1]), "candidate has 2 classes, the reference 3"),
        (np.array([0, 1]), one_hot([0]), one_hot([0, 1]), r"expected \[2, K\]"),
        (np.array([0, 3]), one_hot([0, 0]), one_hot([0, 0]), "Labels run from 0 to 3, but the model has 3"),
        (np.array([-1, 0]), one_hot([0, 0]), one_hot([0, 0]), "Labels run from -1"),
        (np.array([0]), np.full((1, 3), np.nan), one_hot([0]), "candidate gives probabilities that are not finite"),
        (np.array([0]), one_hot([0]), np.full((1, 3), np.inf), "reference gives probabilities that are not finite"),
    ],
)
def test_what_cannot_be_compared_is_refused(labels, candidate, reference, message: str) -> None:
    with pytest.raises(ServingError, match=message):
        quality(labels, candidate, reference)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(counts)
def test_the_interval_holds_the_difference_and_mirrors(four: tuple[int, int, int, int]) -> None:
    both, first, second, neither = four
    low, high = paired_interval(*four)
    difference = (first - second) / sum(four)
    assert -1 <= low <= difference + 1e-12 and difference - 1e-12 <= high <= 1
    mirrored = paired_interval(both, second, first, neither)
    assert mirrored == pytest.approx((-high, -low), abs=1e-12)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(counts)
def test_more_images_narrow_the_interval(four: tuple[int, int, int, int]) -> None:
    low, high = paired_interval(*four)
    low_many, high_many = paired_interval(*(16 * count for count in four))
    assert high_many - low_many < high - low


def test_the_interval_is_that_of_independent_wilson_intervals_where_nothing_pairs() -> None:
    # Without correlation, squared and added: 0.5 of 10 has the Wilson interval 0.2366 to 0.7634.
    low, high = paired_interval(25, 25, 25, 25)
    half = 0.5 - 0.40383  # Wilson's lower end of 50 of 100
    assert (low, high) == pytest.approx((-half * 2**0.5, half * 2**0.5), abs=1e-4)


def test_the_interval_covers_the_truth_in_95_of_100_samples() -> None:
    generator = np.random.default_rng(11)
    shares = np.array([0.66, 0.03, 0.05, 0.26])
    truth = shares[1] - shares[2]
    ends = np.array([paired_interval(*sample) for sample in generator.multinomial(400, shares, 3000)])
    covered = ((ends[:, 0] <= truth) & (truth <= ends[:, 1])).mean()
    assert 0.935 < covered < 0.985


@pytest.mark.parametrize("four", [(0, 0, 0, 0), (5, -1, 0, 0)])
def test_impossible_counts_are_refused(four: tuple[int, int, int, int]) -> None:
    with pytest.raises(ServingError, match="at least one image"):
        paired_interval(*four)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.integers(1, 60).flatmap(
        lambda size: st.tuples(*[st.lists(st.integers(0, 3), min_size=size, max_size=size)] * 3),
    )
)
def test_shares_are_shares_and_figures_fit_together(three: tuple[list[int], list[int], list[int]]) -> None:
    labels, chosen, expected = map(np.array, three)
    found = quality(labels, one_hot(chosen, 4), one_hot(expected, 4))
    assert found.delta == pytest.approx(found.accuracy - found.reference_accuracy)
    assert found.worst_class_drop >= -found.delta - 1e-12
    assert 0 <= found.top1_agreement <= 1
    assert isinstance(found, Quality)
    assert all(isinstance(value, (int, float)) for value in dataclasses.asdict(found).values())


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 1000), st.integers(0, 1000).filter(bool))
def test_wilsons_interval_holds_the_share_and_stays_within_bounds(right: int, wrong: int) -> None:
    low, high = wilson_interval(right, right + wrong)
    assert 0 <= low <= right / (right + wrong) <= high <= 1


def test_wilsons_interval_of_nothing_but_right_answers() -> None:
    assert wilson_interval(18, 18) == pytest.approx((0.8241, 1.0), abs=1e-4)
