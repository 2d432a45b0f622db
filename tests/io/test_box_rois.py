import numpy as np
import pytest

from cellscribble.core.errors import OutputError
from cellscribble.io.box_rois import MarkedBox, save_box_rois
from cellscribble.io.roi_classes import classes_of_rois
from cellscribble.io.rois import rasterise, read_rois


def test_boxes_are_rectangles_on_the_very_pixels(tmp_path):
    boxes = [
        MarkedBox("suggest_01", (3, 5), (10, 20), None, 0.25),
        MarkedBox("suggest_02", (0, 0), (1, 1), 6, 0.1),
    ]
    (path,) = save_box_rois(tmp_path / "a.zip", boxes, (40, 50))
    first, second = read_rois(path)
    mask = np.zeros((40, 50), bool)
    cover = rasterise(first, (40, 50))
    mask[cover.window] = cover.mask
    expected = np.zeros((40, 50), bool)
    expected[3:13, 5:25] = True
    np.testing.assert_array_equal(mask, expected)
    assert (first.z_position, second.z_position) == (0, 7)
    assert first.properties == {"score": 0.25}


def test_boxes_are_no_strokes(tmp_path):
    (path,) = save_box_rois(tmp_path / "a.zip", [MarkedBox("suggest_01", (3, 5), (9, 9), None, 0.2)], (40, 50))
    assert classes_of_rois(read_rois(path)) == ([None], ())


def test_beyond_imagej_s_coordinates_they_come_as_tiles(tmp_path):
    boxes = [
        MarkedBox("suggest_1", (100, 65_000), (96, 96), None, 0.5),
        MarkedBox("suggest_2", (16_380, 10), (96, 96), None, 0.4),
    ]
    written = save_box_rois(tmp_path / "a.zip", boxes, (20_000, 70_000))
    assert sorted(p.name for p in written) == ["a_y0_x0.zip", "a_y0_x49152.zip"]
    (far,) = read_rois(tmp_path / "a_y0_x49152.zip")
    assert (far.top, far.left, far.right) == (100, 65_000 - 49_152, 65_096 - 49_152)


def test_what_is_there_is_not_overwritten(tmp_path):
    boxes = [MarkedBox("suggest_01", (3, 5), (9, 9), None, 0.2)]
    (path,) = save_box_rois(tmp_path / "a.zip", boxes, (40, 50))
    with pytest.raises(OutputError, match="exists already"):
        save_box_rois(path, boxes, (40, 50))
    assert save_box_rois(path, boxes, (40, 50), overwrite=True) == [path]
