import dataclasses

import numpy as np
import pytest

from cellscribble.core.intensity import IntensityRule
from cellscribble.core.volume import ImageVolume
from cellscribble.data.samples import make_sample
from cellscribble.segment.instances import segment_instances
from cellscribble.train.calibrate import calibrate
from tests.conftest import make_balls


def two_cells_one_above_the_other():
    """18 x 40 x 40, sections 3 px apart: two balls of radius 13 px that overlap; a stroke in each, and one beside."""
    z, y, x = np.indices((18, 40, 40))
    away = [np.sqrt((3 * (z - at)) ** 2 + (y - 20) ** 2 + (x - 20) ** 2) for at in (5, 12)]
    cells = (np.minimum(*away) <= 13).astype(np.float32)
    scribbles = np.full(cells.shape, -1, np.int16)
    for at in (5, 12):
        scribbles[at, 20, 16:25] = 1
        scribbles[at, 2, 5:35] = 0
    return cells, scribbles


def calibrated(cells, scribbles, pixel_size_um):
    image = ImageVolume((100 * cells[None]).astype(np.uint8), "CZYX", pixel_size_um)
    sample = make_sample(image, scribbles, IntensityRule())
    probability = np.stack([1 - cells, cells])
    return calibrate([sample], lambda sample: probability, np.random.default_rng(0)), probability


def test_cells_in_thick_sections_are_told_apart_by_their_true_shape():
    cells, scribbles = two_cells_one_above_the_other()
    known, probability = calibrated(cells, scribbles, (0.6, 0.2, 0.2))
    assert segment_instances(probability, known.segmenter_parameters).max() == 2
    # Taken for cubes both together are as flat as one cell.
    unknown, _ = calibrated(cells, scribbles, None)
    assert segment_instances(probability, unknown.segmenter_parameters).max() == 1


@pytest.mark.parametrize(
    ("pixel_size_um", "spacing"),
    [(None, None), ((0.2, 0.2, 0.2), None), ((0.2004, 0.2, 0.2), None), ((0.284, 0.127, 0.127), [2.24, 1.0, 1.0])],
)
def test_the_segmenter_learns_how_far_sections_lie_apart(pixel_size_um, spacing):
    example = make_balls()
    image = dataclasses.replace(example.image, pixel_size_um=pixel_size_um)
    cells = (example.mask > 0).astype(np.float32)
    probability = np.stack([1 - cells, cells])
    sample = make_sample(image, example.scribbles, IntensityRule())
    found = calibrate([sample], lambda sample: probability, np.random.default_rng(0))
    assert found.segmenter_parameters["spacing"] == spacing
