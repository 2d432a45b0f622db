import numpy as np
import pytest

from cellscribble.core.errors import InputError
from cellscribble.core.intensity import IntensityRule
from cellscribble.core.volume import ImageVolume
from cellscribble.data.samples import find_strokes, make_sample


def test_strokes_are_the_connected_pieces_of_each_class():
    # 0 background, 1 cell, . unlabelled: two cell strokes (one runs diagonally), one of background.
    rows = ["1..00", ".1...", "1...1", ".1..1"]
    scribbles = np.array([[-1 if c == "." else int(c) for c in row] for row in rows], np.int16)
    strokes = find_strokes(scribbles, 2)
    assert [(s.label, s.pixels.tolist()) for s in strokes] == [
        (0, [3, 4]),
        (1, [0, 6, 10, 16]),
        (1, [14, 19]),
    ]


def test_touching_strokes_of_two_classes_stay_two():
    scribbles = np.array([[0, 0, 1, 1, 2]], np.int16)
    assert [(s.label, s.pixels.tolist()) for s in find_strokes(scribbles, 3)] == [(0, [0, 1]), (1, [2, 3]), (2, [4])]


def test_in_a_volume_strokes_connect_across_sections():
    scribbles = np.full((3, 4, 4), -1, np.int16)
    scribbles[0, 0, 0] = scribbles[1, 1, 1] = 1
    scribbles[1, 3, 3] = 1
    assert [len(s.pixels) for s in find_strokes(scribbles, 2)] == [2, 1]


def test_no_stroke_is_no_error():
    assert find_strokes(np.full((4, 4), -1, np.int16), 3) == []


def test_strokes_of_another_size_are_refused(disks_2d):
    with pytest.raises(InputError, match=r"\(60, 64\) px but the image is \(64, 64\) px; draw on the same image"):
        make_sample(disks_2d.image, disks_2d.scribbles[:60], IntensityRule())


def test_a_sample_sees_the_image_between_its_percentiles():
    data = np.linspace(1000, 3000, 64 * 64).reshape(1, 64, 64).astype(np.float32)
    sample = make_sample(ImageVolume(data, "CYX"), np.full((64, 64), -1, np.int16), IntensityRule("percentile", 0, 50))
    # 1000 -> 0, the median 2000 -> 1, 3000 -> 2
    np.testing.assert_allclose(sample.normalised().reshape(-1)[[0, -1]], [0, 2], atol=1e-5)
    assert (sample.held_out == -1).all()


@pytest.mark.parametrize(("value", "message"), [(np.nan, "NaN"), (7.0, r"constant \(every pixel is 7.0\)")])
def test_an_image_that_says_nothing_is_refused(value, message):
    with pytest.raises(InputError, match=message):
        make_sample(ImageVolume(np.full((1, 8, 8), value), "CYX"), np.full((8, 8), -1, np.int16), IntensityRule())
