import dataclasses
import json

import numpy as np
import pytest
import torch
from scipy import ndimage

from cellscribble.core.errors import InputError
from cellscribble.core.intensity import IntensityRule
from cellscribble.core.labels import UNLABELLED
from cellscribble.data.batch import Batch
from cellscribble.data.samples import make_sample
from cellscribble.export.onnx import export
from cellscribble.losses.cross_entropy import partial_cross_entropy, stroke_cross_entropy
from cellscribble.methods.base import Progress
from cellscribble.methods.random_walker_em import LABELS, RandomWalkerEM, RandomWalkerEMConfig, search_crf
from cellscribble.nn.build import build_network
from cellscribble.nn.mean_field import CrfWeights
from cellscribble.train.predictor import Predictor
from cellscribble.train.run import train
from tests.train.runs import Quiet, make_fit, training_set

LATER = Progress(5, False, passes=6)
PLAIN = {"uncertainty": False}
PUBLISHED = {"edge_calibration": False}


def constant(*classes: float):
    """A predictor that gives these probabilities at every pixel."""
    return lambda sample: np.stack([np.full(sample.scribbles.shape, p, np.float32) for p in classes])


@pytest.fixture
def sample(disks_2d):
    return make_sample(disks_2d.image, disks_2d.scribbles, IntensityRule())


def prepared(sample, **settings) -> RandomWalkerEM:
    method = RandomWalkerEM(RandomWalkerEMConfig(**settings), 2)
    method.prepare([sample])
    return method


def test_defaults_of_the_uncertainty_are_the_papers():
    config = RandomWalkerEMConfig()
    assert (config.uncertainty, config.dropout, config.n_passes) == (True, 0.5, 50)


def test_recursion_zero_learns_from_the_seed_areas(sample):
    method = prepared(sample)
    seeds = method.learnt_labels(sample)
    stroked = sample.scribbles >= 0
    np.testing.assert_array_equal(seeds[stroked], sample.scribbles[stroked])
    assert 0.02 < (seeds == 1).mean() < 0.3
    assert (seeds == UNLABELLED).any()
    assert method.maps_from_the_start


def test_strokes_and_labels_have_a_term_each():
    network = torch.nn.Conv2d(1, 2, 1)
    maps = torch.tensor([[1.0, 0, 1, 0], [0, 1, 0, 0]]).reshape(1, 2, 1, 4)
    strokes = torch.tensor([[[-1, -1, 1, -1]]])
    batch = Batch(torch.rand(1, 1, 1, 4), strokes, None, {LABELS: maps})
    method = RandomWalkerEM(RandomWalkerEMConfig(label_weight=0.5), 2)
    terms = method.loss(network, batch, Progress(0, True))
    logits = network(batch.image)
    torch.testing.assert_close(terms["strokes"], stroke_cross_entropy(logits, strokes))
    off = torch.tensor([[[0, 1, -1, -1]]])
    torch.testing.assert_close(terms["labels"], 0.5 * partial_cross_entropy(logits, off))


def test_relabelling_takes_the_best_class_and_keeps_the_seeds(sample):
    method = prepared(sample, **PLAIN)
    seeds = method.learnt_labels(sample)
    figures = method.refresh([sample], constant(0.4, 0.6), LATER)
    labels = method.learnt_labels(sample)
    np.testing.assert_array_equal(labels, np.where(seeds == UNLABELLED, 1, seeds))
    assert figures == {"labelled": 1.0, "relabelled": float((seeds == UNLABELLED).mean()), "edge_level": 0.5}
    # The next recursion starts from the seeds, not from the labels before.
    method.refresh([sample], constant(0.6, 0.4), LATER)
    np.testing.assert_array_equal(method.learnt_labels(sample), np.where(seeds == UNLABELLED, 0, seeds))


@pytest.mark.parametrize(("uncertainty", "passes"), [(False, 1), (True, 4)])
def test_fat_predictions_are_relabelled_at_the_edge(sample, disks_2d, uncertainty, passes):
    truth = disks_2d.mask > 0
    away = ndimage.distance_transform_edt(~truth) - ndimage.distance_transform_edt(truth)
    p = 1 / (1 + np.exp((away - 3) / 1.5))  # 0.5 lies three pixels outside

    def predict(s):
        return np.stack([1 - p, p]).astype(np.float32)

    wrong = {}
    for name, settings in {"published": PUBLISHED, "level": {}, "snapped": {"edge_snapping": True}}.items():
        method = RandomWalkerEM(RandomWalkerEMConfig(uncertainty=uncertainty, **settings), 2)
        method.beside(build_network("light", 1, 2, 2))
        method.prepare([sample])
        figures = method.refresh([sample], predict, dataclasses.replace(LATER, passes=passes))
        labels = method.learnt_labels(sample)
        wrong[name] = ((labels != UNLABELLED) & ((labels == 1) != truth)).mean()
        assert (figures["edge_level"] > 0.7) == (name != "published")
    assert wrong["published"] > 0.1
    assert wrong["level"] < 0.3 * wrong["published"]
    assert wrong["snapped"] < 0.3 * wrong["published"]


def test_what_dropout_leaves_in_doubt_stays_unlabelled(sample):
    network = build_network("light", 1, 2, 2)
    method = RandomWalkerEM(RandomWalkerEMConfig(), 2)
    method.beside(network)
    method.prepare([sample])
    seeds = method.learnt_labels(sample)
    draws = iter([0.9, 0.2, 0.8, 0.3, 0.7, 0.4])

    def predict(s):
        # On the left now the one, now the other: mean .55, standard deviation .29. On the right always alike.
        p = np.full(s.scribbles.shape, 0.8, np.float32)
        p[:, :32] = next(draws)
        return np.stack([1 - p, p])

    method.refresh([sample], predict, LATER)
    labels = method.learnt_labels(sample)
    off = seeds == UNLABELLED
    assert (labels[:, :32][off[:, :32]] == UNLABELLED).all()
    assert (labels[:, 32:][off[:, 32:]] == 1).all()
    np.testing.assert_array_equal(labels[~off], seeds[~off])


def test_predictions_of_a_refresh_are_draws_with_dropout(sample):
    torch.manual_seed(0)
    network = build_network("light", 1, 2, 2)
    method = RandomWalkerEM(RandomWalkerEMConfig(), 2)
    method.beside(network)
    method.prepare([sample])
    predictor = Predictor(network, 1, method, torch.device("cpu"))
    one = method._predictions(sample, predictor, 4)
    other = method._predictions(sample, predictor, 4)
    assert one.squares.max() > 0
    assert not np.array_equal(one.mean, other.mean)
    assert method.state()["n_drawn"] == 2 * 4 * 5


def test_the_crf_relabels_along_the_edges(sample, disks_2d):
    truth = disks_2d.mask > 0
    noise = np.random.default_rng(0).normal(0, 0.35, truth.shape)
    p = np.clip(np.where(truth, 0.7, 0.3) + noise, 0.02, 0.98).astype(np.float32)
    wrong = {}
    for relabel in ("unary", "crf"):
        method = prepared(sample, relabel=relabel, sigma_alpha_px=8.0, **PLAIN, **PUBLISHED)
        method.refresh([sample], lambda s: np.stack([1 - p, p]), LATER)
        wrong[relabel] = ((method.learnt_labels(sample) == 1) != truth).mean()
    assert wrong["crf"] < 0.3 * wrong["unary"]


def test_the_search_finds_weights_that_the_held_out_strokes_prefer(sample, disks_2d):
    truth = disks_2d.mask > 0
    sample.memory[LABELS] = np.zeros((2, 64, 64), np.uint8)
    sample.held_out = np.where(np.indices(truth.shape).sum(axis=0) % 3 == 0, truth, -1).astype(np.int16)
    p = np.where(np.random.default_rng(0).random(truth.shape) < 0.7, truth, ~truth) * 0.6 + 0.2

    def predict(s):
        return np.stack([1 - p, p]).astype(np.float32)

    # Smoothing over the whole image calls all of it background.
    bad = CrfWeights(0.0, 9.0, 20.0, 0.08, 9.0)
    found = search_crf([sample], predict, bad, 2)
    assert found.sigma_gamma_px < 9 or found.w2 < 9
    # Strokes that any weights get right decide nothing.
    sample.held_out = np.where(np.indices(truth.shape).sum(axis=0) == 0, 0, -1).astype(np.int16)
    start = CrfWeights(4.0, 2.0, 20.0, 0.08, 2.0)
    assert search_crf([sample], constant(0.9, 0.1), start, 2) == start
    assert search_crf([], predict, start, 2) == start


def test_what_the_search_found_goes_on_with_a_resumed_run():
    method, other = (RandomWalkerEM(RandomWalkerEMConfig(relabel="crf"), 2) for _ in range(2))
    method.found = CrfWeights(1.0, 2.0, 3.0, 0.4, 5.0)
    other.restore(json.loads(json.dumps(method.state())))
    assert other.found == method.found


def test_an_image_with_strokes_of_one_class_is_named_and_learns_from_the_first_recursion_on(disks_2d):
    strokes = disks_2d.scribbles
    full = make_sample(disks_2d.image, strokes, IntensityRule())
    bare = make_sample(disks_2d.image, np.where(strokes == 1, -1, strokes), IntensityRule())
    method = RandomWalkerEM(RandomWalkerEMConfig(**PLAIN), 2)
    method.prepare([bare, full])
    assert method.learnt_labels(bare) is None
    assert len(method.warnings) == 1
    assert "1 of 2 images have strokes of fewer than two classes and so no seed areas (disks0)" in method.warnings[0]
    method.refresh([bare], constant(0.4, 0.6), LATER)
    assert (method.learnt_labels(bare) == 1).all()


def test_strokes_that_do_not_grow_are_a_warning_with_numbers(sample):
    method = prepared(sample, reach_px=1.0, tau=0.99)
    drawn = int((sample.scribbles == 1).sum())
    assert any(f"the {drawn} stroked pixels of class 1 have grown to" in text for text in method.warnings)
    assert prepared(sample).warnings == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tau": 1.0}, r"tau is 1.0; expected a share, 0.5 <= tau < 1"),
        ({"relabel": "graph"}, r"relabel is graph; expected one of unary, crf, crf_rnn"),
        ({"n_passes": 1}, r"n_passes is 1; expected 2 or more"),
        ({"n_recursions": -1}, r"n_recursions is -1; expected 0"),
        ({"sigma_beta": 0.0}, r"sigma_beta is 0.0; expected more than 0"),
    ],
)
def test_numbers_out_of_range_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        RandomWalkerEMConfig(**settings)


def test_gamma_of_scribble2label_is_refused(tiny_config, tmp_path):
    with pytest.raises(InputError, match=r"refresh_every_epochs is 1 .* \(n_recursions\); leave"):
        train(training_set(), dataclasses.replace(tiny_config, method="random_walker_em"), tmp_path, Quiet())


@pytest.fixture
def config(tiny_config):
    settings = {"relabel": "crf_rnn", "n_passes": 3, "n_recursions": 1}
    return dataclasses.replace(
        tiny_config, method="random_walker_em", refresh_every_epochs=None, method_settings=settings, epochs=2
    )


def test_the_learnt_crf_goes_on_where_it_was(config, tmp_path):
    whole = make_fit(config, tmp_path / "whole", Quiet())
    before = {name: value.clone() for name, value in whole.beside.state_dict().items()}
    whole.run()
    assert all(not torch.equal(value, before[name]) for name, value in whole.beside.state_dict().items())
    make_fit(config, tmp_path / "parts", Quiet(5)).run()
    second = make_fit(config, tmp_path / "parts", Quiet())
    second.resume()
    second.run()
    for one, two in ((whole.network, second.network), (whole.beside, second.beside)):
        for name, value in one.state_dict().items():
            assert torch.equal(value, two.state_dict()[name]), name
    np.testing.assert_array_equal(whole.samples[0].memory[LABELS], second.samples[0].memory[LABELS])


def test_a_run_exports_a_network_without_dropout_and_without_crf(config, tmp_path):
    train(training_set(), config, tmp_path / "run", Quiet())
    model, comparisons = export(tmp_path / "run", tmp_path / "run" / "model.onnx")
    assert all(c.largest_difference < 1e-4 for c in comparisons)
    data = model.path.read_bytes()
    assert b"Dropout" not in data
    assert b"Random" not in data
    # The same network without the method's additions is of the same size but for what metadata say.
    plain = dataclasses.replace(config, method="partial_cross_entropy", method_settings={})
    train(training_set(), plain, tmp_path / "plain", Quiet())
    other, _ = export(tmp_path / "plain", tmp_path / "plain" / "model.onnx")
    assert abs(len(data) - len(other.path.read_bytes())) < 2000
