import dataclasses
import math

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cellscribble.config import TrainConfig
from cellscribble.train.plan import (
    Schedule,
    Speed,
    budget_schedule,
    crops_in,
    epochs_schedule,
    fit_to_time_left,
    seconds_left,
    with_epochs,
)

speeds = st.builds(Speed, st.floats(0.01, 2), st.floats(0.01, 20), st.floats(0.01, 5))


def planned(epochs: int, *, two_stages: bool = True, n_crops: int = 16, **changes) -> Schedule:
    config = TrainConfig(minutes=None, epochs=epochs, batch_size=4, **changes)
    return epochs_schedule(config, n_crops, two_stages)


def seconds(schedule: Schedule, speed: Speed) -> float:
    epochs = range(schedule.n_epochs)
    return (
        schedule.n_epochs * schedule.steps_per_epoch * speed.step_s
        + sum(map(schedule.refresh_after, epochs)) * speed.refresh_s * schedule.passes
        + sum(map(schedule.score_after, epochs)) * speed.score_s
    )


def check_stages(schedule: Schedule, two_stages: bool) -> None:
    epochs = range(schedule.n_epochs)
    refreshed = [e for e in epochs if schedule.refresh_after(e)]
    assert schedule.steps_per_epoch >= 1
    assert schedule.score_after(schedule.n_epochs - 1)
    if not two_stages:
        assert schedule.warmup_epochs == schedule.n_epochs
        assert refreshed == []
        return
    assert 1 <= schedule.warmup_epochs <= schedule.n_epochs
    assert [schedule.warming_up(e) for e in epochs] == [e < schedule.warmup_epochs for e in epochs]
    # What a refresh after the last epoch finds would serve nothing.
    assert schedule.n_epochs - 1 not in refreshed
    # The second stage must not begin with stale or without pseudo-labels.
    if schedule.warmup_epochs < schedule.n_epochs:
        assert schedule.warmup_epochs - 1 in refreshed


@settings(max_examples=80)
@given(epochs=st.integers(1, 300), every=st.integers(1, 20), n_crops=st.integers(1, 500), two=st.booleans())
def test_a_plan_in_epochs_covers_its_stages(epochs, every, n_crops, two):
    schedule = planned(epochs, two_stages=two, n_crops=n_crops, refresh_every_epochs=every)
    assert schedule.n_epochs == epochs
    assert schedule.steps_per_epoch == math.ceil(n_crops / 4)
    check_stages(schedule, two)


def test_the_papers_warm_up_is_100_epochs_and_at_most_half():
    assert planned(300).warmup_epochs == 100
    assert planned(60).warmup_epochs == 30
    assert planned(60, warmup_epochs=10).warmup_epochs == 10


def test_ensembling_comes_every_gamma_epochs_from_the_first_on():
    schedule = planned(20, warmup_epochs=8, refresh_every_epochs=5)
    # 0, 5, 10, 15 by gamma, and 7 at the end of the warm-up.
    assert [e for e in range(20) if schedule.refresh_after(e)] == [0, 5, 7, 10, 15]


@settings(max_examples=200)
@given(budget=st.floats(20, 7200), speed=speeds, two=st.booleans())
def test_a_budget_is_filled(budget, speed, two):
    # What takes so long that one of it breaks the budget cannot be planned for.
    assume(50 * (speed.step_s + speed.score_s) + 10 * speed.refresh_s < budget)
    schedule = budget_schedule(budget, speed, two)
    check_stages(schedule, two)
    # The loop plans anew as it goes; the first plan must be of the right size.
    assert 0.6 * budget <= seconds(schedule, speed) <= 1.6 * budget


@settings(max_examples=60)
@given(budget=st.floats(0.5, 5), speed=speeds, two=st.booleans())
def test_the_smallest_budget_still_has_both_stages(budget, speed, two):
    check_stages(budget_schedule(budget, speed, two), two)


@settings(max_examples=100)
@given(budget=st.floats(30, 600), speed=speeds, now=speeds, done=st.floats(0, 0.99), left=st.floats(0.1, 600))
def test_a_new_plan_fills_the_time_that_is_left(budget, speed, now, done, left):
    schedule = budget_schedule(budget, speed, two_stages=True)
    epoch = max(1, int(done * schedule.n_epochs))
    assume(epoch < schedule.n_epochs)
    new = fit_to_time_left(schedule, epoch, left, now)
    check_stages(new, two_stages=True)
    assert new.n_epochs > epoch
    # Out of time in the warm-up, one more epoch of it and one of the second stage are still due.
    least = with_epochs(schedule, epoch, epoch + 1)
    assert new == least or seconds_left(new, epoch, now) <= left
    assert seconds_left(with_epochs(schedule, epoch, new.n_epochs + 1), epoch, now) > left
    if not schedule.warming_up(epoch):
        assert new.warmup_epochs == schedule.warmup_epochs


@pytest.mark.parametrize("n", [0, 1, 3, 5])
def test_a_method_may_ask_for_a_number_of_ensembling_steps(n):
    config = TrainConfig(minutes=None, epochs=60)
    in_epochs = epochs_schedule(config, 16, True, n, 50)
    in_time = budget_schedule(600, Speed(0.1, 1.0, 0.1), True, n, 50)
    for schedule in (in_epochs, in_time, with_epochs(in_time, 5, 2 * in_time.n_epochs)):
        steps = [e for e in range(schedule.n_epochs) if schedule.refresh_after(e)]
        assert len(steps) == pytest.approx(n, abs=n // 3)
        assert not n or steps[0] == schedule.warmup_epochs - 1


# 15 % of the budget are 90 s; a pass over all images takes 1, 4 or 20 s; 3 ensembling steps.
@pytest.mark.parametrize(
    ("pass_s", "passes", "part"), [(0.1, 50, 1.0), (1.0, 30, 1.0), (4.0, 10, 0.75), (20.0, 10, 0.15)]
)
def test_passes_are_bounded_by_time_and_at_least_ten(pass_s, passes, part):
    schedule = budget_schedule(600, Speed(0.1, pass_s, 0.1), True, 3, 50)
    assert schedule.passes == passes
    assert schedule.refresh_part == pytest.approx(part)
    # One prediction is all that other methods ask for.
    assert budget_schedule(600, Speed(0.1, pass_s, 0.1), True).passes == 1


def test_a_longer_plan_keeps_the_number_of_ensembling_steps():
    schedule = budget_schedule(100, Speed(0.05, 2.0, 0.1), two_stages=True)
    longer = with_epochs(schedule, 5, 2 * schedule.n_epochs)
    count = [sum(map(s.refresh_after, range(s.n_epochs))) for s in (schedule, longer)]
    assert abs(count[0] - count[1]) <= 1


def test_a_method_of_one_stage_stays_one_when_planned_anew():
    schedule = planned(20, two_stages=False, n_crops=4)
    new = fit_to_time_left(schedule, 5, 100.5, Speed(1.0, 1.0, 0.0))
    assert new.warmup_epochs == new.n_epochs == 105


def test_one_slow_epoch_does_not_turn_the_plan_over():
    speed = Speed(1.0, 10.0, 2.0).updated(2.0, None, 3.0)
    assert 1.0 < speed.step_s < 1.5
    assert (speed.refresh_s, speed.score_s) == (10.0, 3.0)


@pytest.mark.parametrize("two", [True, False])
def test_cosine_annealing_restarts_with_each_stage(two):
    schedule = planned(20, two_stages=two, warmup_epochs=10, n_crops=400)
    steps = schedule.steps_per_epoch
    rates = [schedule.learning_rate(1.0, e, s) for e in range(20) for s in range(steps)]
    assert all(0 <= r <= 1 for r in rates)
    assert max(rates) > 0.98
    assert rates[-1] < 1e-3
    if two:
        half = 10 * steps
        assert rates[half - 1] < 1e-3
        # Half way through a stage: (1 + cos(pi / 2)) / 2.
        assert rates[half // 2] == pytest.approx(0.5, abs=0.01)
        assert rates[:half] == pytest.approx(rates[half:])
        assert max(rates[half : half + half // 5]) > 0.95


def test_an_epoch_shows_as_many_crops_as_the_images_hold():
    # 512 x 512 holds four of 256 x 256; a smaller image counts one.
    assert crops_in([(512, 512), (100, 100)], (256, 256)) == 5
    assert crops_in([(16, 64, 64)], (8, 32, 32)) == 8


@settings(max_examples=60)
@given(
    images=st.lists(st.tuples(st.integers(1, 500), st.frozensets(st.integers(0, 2))), min_size=1, max_size=200),
    part=st.floats(0.01, 1),
)
def test_ensembling_keeps_to_its_share_of_the_pixels_but_for_one_image_of_each_class(images, part):
    n_pixels, classes = [n for n, _ in images], [c for _, c in images]
    schedule = dataclasses.replace(planned(20), refresh_part=part)
    chosen = schedule.ensembled(n_pixels, classes)
    assert len(set(chosen)) == len(chosen) >= 1
    assert len(chosen) <= 3 or sum(n_pixels[i] for i in chosen) <= part * sum(n_pixels) + 3 * 500
    if len(set().union(*classes)) <= 1:
        assert len(chosen) == 1 or sum(n_pixels[i] for i in chosen) <= part * sum(n_pixels)
    # What is stroked anywhere is learnt from strokes to the end.
    assert set().union(*(classes[i] for i in chosen)) == set().union(*classes)
    # An image is left out because it does not fit.
    left = [i for i in range(len(images)) if i not in chosen]
    assert all(sum(n_pixels[k] for k in chosen) + n_pixels[i] > part * sum(n_pixels) for i in left)
    assert dataclasses.replace(schedule, refresh_part=1.0).ensembled(n_pixels, classes) == list(range(len(images)))


def test_the_images_ensembled_are_spread_over_the_list():
    schedule = dataclasses.replace(planned(20), refresh_part=0.1)
    chosen = schedule.ensembled([1] * 100, [{0, 1}] * 100)
    assert len(chosen) == 10
    assert max(b - a for a, b in zip([0, *chosen], [*chosen, 100], strict=True)) <= 20
