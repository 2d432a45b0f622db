import json
from dataclasses import replace

import numpy as np
import pytest

from cellscribble.core.errors import InputError
from cellscribble.metrics.contingency import count_overlaps
from cellscribble.metrics.instances import match_objects
from cellscribble.segment.instances import foreground, object_classes, segment_instances, segment_mask
from cellscribble.segment.parameters import InstanceParameters, halo_px


def _discs(shape: tuple[int, ...], centres: list[tuple[int, ...]], radius: float) -> np.ndarray:
    grid = np.indices(shape)
    return np.any(
        [sum((axis - c) ** 2 for axis, c in zip(grid, centre, strict=True)) <= radius**2 for centre in centres], axis=0
    )


def _probability(mask: np.ndarray) -> np.ndarray:
    p = np.where(mask, 0.9, 0.1).astype(np.float32)
    return np.stack([1 - p, p])


def _segment(mask: np.ndarray, **parameters: object) -> np.ndarray:
    return segment_instances(_probability(mask), parameters)


def test_touching_cells_are_separated() -> None:
    mask = _discs((40, 60), [(20, 20), (20, 37)], 10)
    labels = _segment(mask)
    assert labels.dtype == np.uint16
    assert labels.max() == 2
    assert labels[20, 20] == 1
    assert labels[20, 37] == 2
    np.testing.assert_array_equal(labels > 0, mask)


def test_touching_balls_are_separated_in_a_volume() -> None:
    labels = _segment(_discs((20, 24, 40), [(10, 12, 11), (10, 12, 26)], 8))
    assert labels.max() == 2
    assert labels[10, 12, 11] != labels[10, 12, 26]


def test_flat_voxels_do_not_cut_a_round_cell() -> None:
    # Spacing 4: a ball of 12 px radius is 7 sections high.
    grid = np.indices((11, 40, 60))
    mask = ((grid[0] - 5) * 4.0) ** 2 + (grid[1] - 20) ** 2 + (grid[2] - 20) ** 2 <= 144
    mask |= ((grid[0] - 5) * 4.0) ** 2 + (grid[1] - 20) ** 2 + (grid[2] - 41) ** 2 <= 144
    assert _segment(mask, spacing=[4.0, 1.0, 1.0], seed_distance_px=8.0).max() == 2


def test_a_long_cell_stays_whole() -> None:
    mask = np.zeros((20, 80), bool)
    mask[6:14, 5:75] = True
    assert _segment(mask).max() == 1


def test_neck_ratio_decides_between_one_waisted_cell_and_two() -> None:
    mask = _discs((40, 60), [(20, 20), (20, 37)], 10)
    # the neck's half width is 7 px on the grid, the radius 10 px
    assert _segment(mask, neck_ratio=0.6).max() == 1
    assert _segment(mask, neck_ratio=0.8).max() == 2


def test_debris_is_dropped_and_small_holes_are_filled() -> None:
    mask = _discs((40, 40), [(20, 20)], 10)
    mask[20, 20] = False
    mask[2, 2] = True
    labels = _segment(mask, smallest_object_px=2, largest_hole_px=1)
    assert labels.max() == 1
    assert labels[20, 20] == 1
    assert labels[2, 2] == 0


def test_a_hole_through_all_planes_is_one_of_each_plane() -> None:
    """A mitochondrion is open above and below, and all of it together is larger than in any plane."""
    mask = np.repeat(_discs((40, 40), [(20, 20)], 14)[np.newaxis], 4, axis=0)
    mask[:, 18:22, 18:22] = False
    settings = InstanceParameters(largest_hole_px=16, spacing=(5.0, 1.0, 1.0))
    assert not segment_mask(mask, settings)[:, 20, 20].any()
    assert (segment_mask(mask, replace(settings, plane_holes=True))[:, 20, 20] == 1).all()
    assert segment_mask(mask[0], replace(settings, spacing=None, plane_holes=True))[20, 20] == 1


def test_an_empty_and_a_full_image_are_segmented() -> None:
    assert _segment(np.zeros((8, 8), bool)).max() == 0
    assert _segment(np.ones((8, 8), bool)).tolist() == np.ones((8, 8)).tolist()


def test_numerical_noise_does_not_change_the_labels(rng: np.random.Generator) -> None:
    mask = _discs((64, 64), [(20, 20), (20, 37), (45, 30)], 10)
    probability = _probability(mask)
    # a network that knows nothing says exactly 0.5 in places
    probability[:, :8, :8] = 0.5
    first = segment_instances(probability, {})
    noisy = probability + rng.normal(0, 1e-6, probability.shape).astype(np.float32)
    np.testing.assert_array_equal(segment_instances(noisy, {}), first)


def test_objects_turn_with_the_image() -> None:
    mask = _discs((48, 60), [(20, 20), (20, 37), (36, 46)], 10)
    labels, turned = _segment(mask), _segment(mask[::-1])[::-1]
    assert labels.max() == turned.max() == 3
    # a pixel as far from one summit as from another may go to either
    assert match_objects(count_overlaps(turned, labels), 0.9).n_true_positive == 3


def test_foreground_is_everything_but_background() -> None:
    probability = np.array([[[0.4]], [[0.35]], [[0.25]]], np.float32)
    assert foreground(probability, InstanceParameters(largest_hole_px=0)).all()
    with pytest.raises(InputError, match="at least one class"):
        foreground(probability[:1], InstanceParameters())


def test_an_object_takes_the_class_of_most_of_its_pixels() -> None:
    labels = np.array([[1, 1, 1, 0, 2]])
    probability = np.array([[[0.1] * 3 + [0.9, 0.1]], [[0.6, 0.6, 0.2, 0.1, 0.1]], [[0.3, 0.3, 0.7, 0, 0.8]]])
    assert object_classes(labels, probability, {}).tolist() == [1, 2]
    assert object_classes(np.zeros((1, 5), int), probability, {}).tolist() == []


def test_a_filled_hole_says_nothing_of_the_class() -> None:
    labels = np.ones((1, 5), int)
    probability = np.array([[[0.1, 0.1, 0.9, 0.9, 0.9]], [[0.8, 0.8, 0, 0, 0]], [[0.1, 0.1, 0.1, 0.1, 0.1]]])
    assert object_classes(labels, probability, {}).tolist() == [1]


def test_parameters_survive_json() -> None:
    parameters = InstanceParameters(seed_distance_px=4.5, spacing=(5.0, 1.0, 1.0))
    assert InstanceParameters.from_dict(json.loads(json.dumps(parameters.to_dict()))) == parameters


def test_parameters_of_models_without_a_largest_radius_are_read() -> None:
    old = {"threshold": 0.5, "seed_distance_px": 3.7, "smoothing_px": 0.86, "neck_ratio": 0.85, "spacing": None}
    assert InstanceParameters.from_dict(old).largest_radius_px == 64


def test_the_halo_is_what_a_pixel_may_depend_on() -> None:
    parameters = InstanceParameters(smoothing_px=2.0, largest_hole_px=9, largest_radius_px=30.0, spacing=(5.0, 1.0))
    # hole 6 + 1, basins 8; 30 px are 6 sections of 5 and 30 pixels, the Gaussian 1 and 6
    assert halo_px(parameters, 2) == (6 + 1 + 8 + 6 + 1, 6 + 1 + 8 + 30 + 6)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"threshold": 1.5}, "threshold is 1.5"),
        ({"smoothing_px": -1}, "smoothing_px is -1"),
        ({"neck_ratio": float("nan")}, "neck_ratio is nan"),
        ({"smallest_object_px": "9"}, "smallest_object_px is '9'"),
        ({"largest_radius_px": 0}, "largest_radius_px is 0; expected a number from 1 to 4096"),
        ({"seeds": 3}, "unknown segmenter parameters .*expected threshold, seed_distance_px"),
        ({"spacing": [0, 1]}, "positive numbers"),
        ({"spacing": [1, 1, 1]}, "has 2 spatial axes"),
    ],
)
def test_wrong_parameters_are_refused(parameters: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        _segment(np.ones((4, 4), bool), **parameters)
