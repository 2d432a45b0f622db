import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from cellscribble.core.intensity import IntensityRule
from cellscribble.core.volume import ImageVolume
from cellscribble.data.samples import Sample, make_sample
from cellscribble.methods.base import MethodConfig
from cellscribble.methods.partial_cross_entropy import PartialCrossEntropy
from cellscribble.nn.build import build_network
from cellscribble.train import predictor as module
from cellscribble.train.predictor import Predictor
from cellscribble.train.seen import WINDOW_PX, choose_views, save_seen
from tests.conftest import make_balls, make_disks

COLORS = ((0, 0, 255), (255, 0, 0))


def drawn_at(name: str, shape: tuple[int, ...], *places: tuple[int, ...]) -> Sample:
    """An image of noise with strokes of 9 px, background and cell in turn, that begin at these places."""
    scribbles = np.full(shape, -1, np.int16)
    for k, place in enumerate(places):
        scribbles[(*place[:-1], slice(place[-1], place[-1] + 9))] = k % 2
    noise = np.random.default_rng(0).integers(0, 255, (1, *shape)).astype(np.uint8)
    image = ImageVolume(noise, {2: "CYX", 3: "CZYX"}[len(shape)], name=name)
    return make_sample(image, scribbles, IntensityRule())


def predictor_of(ndim: int) -> tuple[Predictor, PartialCrossEntropy]:
    torch.manual_seed(0)
    method = PartialCrossEntropy(MethodConfig(), 2)
    network = build_network("light", 1, 2, ndim)
    return Predictor(network, 1, method, torch.device("cpu")), method


def test_of_many_images_the_best_stroked_is_shown_and_the_least_and_two_between():
    samples = [drawn_at(f"image{n}", (64, 64), *((y, 5) for y in range(n))) for n in range(10)]
    assert [sample.name for sample, _ in choose_views(samples)] == ["image9", "image6", "image3", "image0"]


def test_of_one_large_image_the_parts_are_shown_in_which_is_drawn():
    places = [(100, 100), (110, 120), (120, 100), (900, 900), (910, 900), (100, 1500)]
    sample = drawn_at("slide", (1200, 1800), *places)
    views = choose_views([sample])
    assert len(views) == 3
    for (_, (y, x)), n in zip(views, (3, 2, 1), strict=True):
        assert (y.stop - y.start, x.stop - x.start) == (WINDOW_PX, WINDOW_PX)
        assert (sample.scribbles[y, x] >= 0).sum() == 9 * n


def test_of_one_volume_planes_are_shown_that_lie_apart():
    places = [(z, 20, 5) for z in (3, 4, 5, 20, 21, 38)] + [(4, 30, 5)]
    views = choose_views([drawn_at("stack", (40, 64, 64), *places)])
    assert [window[0].start for _, window in views] == [4, 20, 38]


def test_an_image_without_strokes_is_shown_once_in_its_middle():
    ((_, window),) = choose_views([drawn_at("bare", (1000, 1000))])
    assert window == (slice(308, 692), slice(308, 692))


@pytest.mark.parametrize("large", [False, True])
def test_a_part_is_predicted_as_it_is_in_the_whole(large, monkeypatch):
    if large:
        monkeypatch.setattr(module, "LARGEST_WHOLE_PX", 1000)
    for ndim, shape, window in (
        (2, (301, 290), (slice(70, 140), slice(200, 290))),
        (3, (20, 90, 75), (slice(6, 7), slice(10, 60), slice(0, 75))),
    ):
        predictor, _ = predictor_of(ndim)
        sample = drawn_at("image", shape, (5,) * ndim)
        part = predictor.window(sample, window)
        np.testing.assert_allclose(part, predictor(sample)[(slice(None), *window)], atol=1e-5)


@pytest.mark.parametrize("make", [make_disks, make_balls])
def test_the_picture_has_a_row_a_part_and_four_columns(make, tmp_path):
    example = make()
    predictor, method = predictor_of(example.image.ndim)
    image = dataclasses.replace(example.image, name="cells")
    sample = make_sample(image, example.scribbles, IntensityRule())
    save_seen(tmp_path / "seen.png", [sample], predictor, method, 0.5, COLORS)
    n_rows = 1 if image.ndim == 2 else 3
    with Image.open(tmp_path / "seen.png") as picture:
        assert picture.width == 4 * (WINDOW_PX + 10) + 10
        assert picture.height == pytest.approx(n_rows * (WINDOW_PX + 33) + 10, abs=2)
