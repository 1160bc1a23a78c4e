"""The course of a pruning, for any number of steps."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trainer.compress.schedule import MASK_UPDATES, STEPS_WANTED, plan


@given(epochs=st.integers(1, 200), steps_per_epoch=st.integers(1, 5_000))
def test_pruning_has_enough_steps_and_ends_early_enough(epochs: int, steps_per_epoch: int) -> None:
    found = plan(epochs, steps_per_epoch)
    assert found.steps == found.epochs * steps_per_epoch >= STEPS_WANTED
    assert 1 <= found.begin_step < found.end_step <= 0.6 * found.steps
    assert found.end_step >= 0.5 * found.steps
    # TF-MOT updates masks at multiples of the frequency only; the last must be the one of the final sparsity.
    assert (found.end_step - found.begin_step) % found.frequency == 0
    assert (found.end_step - found.begin_step) // found.frequency >= MASK_UPDATES


@given(epochs=st.integers(1, 200), steps_per_epoch=st.integers(1, 5_000))
def test_epochs_are_raised_only_as_far_as_needed(epochs: int, steps_per_epoch: int) -> None:
    found = plan(epochs, steps_per_epoch)
    if epochs * steps_per_epoch >= STEPS_WANTED:
        assert (found.epochs, found.raised_from) == (epochs, None)
    else:
        assert found.raised_from == epochs
        assert (found.epochs - 1) * steps_per_epoch < STEPS_WANTED


def test_a_usual_fine_tuning() -> None:
    found = plan(3, 390)
    assert (found.steps, found.begin_step, found.end_step, found.raised_from) == (1170, 23, 623, None)
