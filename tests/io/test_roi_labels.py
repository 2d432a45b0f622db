import re

import numpy as np
import pytest
import roifile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

from cellscribble.core.errors import InputError, OutputError
from cellscribble.io import roi_tiles
from cellscribble.io.outlines import outline
from cellscribble.io.roi_labels import paint_labels, rois_of_labels, save_label_rois
from cellscribble.io.rois import read_rois

SMALL = st.tuples(st.integers(1, 9), st.integers(1, 9))


def read_by_name(rois):
    return {roi.name: roi for roi in rois}


@settings(max_examples=200)
@given(arrays.arrays(np.uint16, SMALL, elements=st.sampled_from([0, 1, 1, 2, 700, 65535])))
def test_labels_to_rois_to_labels_is_identity(tmp_path_factory, labels):
    """Random pixels: holes, corners that touch, many parts, single pixels, borders."""
    path = tmp_path_factory.mktemp("rois") / "a.zip"
    save_label_rois(path, labels)
    painted = paint_labels(path, labels.shape)
    np.testing.assert_array_equal(painted.labels, labels)
    assert painted.overlapping_px == 0
    assert painted.n_rois == len(np.unique(labels[labels > 0]))


@settings(max_examples=30)
@given(
    arrays.arrays(
        np.uint8, st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(1, 6)), elements=st.integers(0, 2)
    )
)
def test_a_stack_keeps_its_planes(tmp_path_factory, labels):
    path = tmp_path_factory.mktemp("rois") / "a.zip"
    save_label_rois(path, labels)
    np.testing.assert_array_equal(paint_labels(path, labels.shape).labels, labels)


@settings(max_examples=200)
@given(arrays.arrays(bool, SMALL))
def test_rings_go_around_pixels_one_way_and_around_holes_the_other(mask):
    """The sum of signed areas is then the number of pixels, by which any program may fill."""
    doubled = 0
    for ring in outline(mask):
        x, y = ring.T
        assert len(ring) >= 4
        # Every step is along one axis, and axes alternate: no corner too many.
        steps = np.roll(ring, -1, axis=0) - ring
        assert ((steps == 0).sum(axis=1) == 1).all()
        assert ((steps[:, 0] == 0) != np.roll(steps[:, 0] == 0, 1)).all()
        doubled += int(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))
    assert doubled == 2 * mask.sum()


def test_outline_of_one_pixel_is_its_four_corners():
    mask = np.zeros((4, 5), bool)
    mask[2, 3] = True
    (ring,) = outline(mask)
    assert ring.tolist() == [[3, 2], [4, 2], [4, 3], [3, 3]]


def test_pixels_that_touch_at_a_corner_are_two_rings():
    assert len(outline(np.eye(2, dtype=bool))) == 2
    assert len(outline(np.eye(2, dtype=bool)[::-1])) == 2


def test_a_hole_makes_a_composite_and_a_plain_object_none():
    labels = np.zeros((9, 12), np.uint8)
    labels[1:6, 1:6] = 12
    labels[3, 3] = 0
    labels[2:5, 8:11] = 3
    rois = read_by_name(rois_of_labels(labels))
    assert set(rois) == {"12", "3"}
    assert rois["12"].composite
    assert rois["3"].roitype == roifile.ROI_TYPE.TRACED
    assert (rois["3"].left, rois["3"].top, rois["3"].right, rois["3"].bottom) == (8, 2, 11, 5)


def test_an_image_without_objects_has_a_file_without_rois(tmp_path):
    save_label_rois(tmp_path / "a.zip", np.zeros((4, 5), np.uint8))
    assert paint_labels(tmp_path / "a.zip", (4, 5)).n_rois == 0


def test_an_outline_of_more_corners_than_16_bits_count(tmp_path):
    """A comb of 20,000 teeth in one piece."""
    labels = np.zeros((3, 40_001), np.uint8)
    labels[0] = 1
    labels[:, ::2] = 1
    (roi,) = rois_of_labels(labels)
    assert roi.composite
    save_label_rois(tmp_path / "a.zip", labels)
    np.testing.assert_array_equal(paint_labels(tmp_path / "a.zip", labels.shape).labels, labels)


def test_beyond_imagej_s_coordinates_there_are_tiles(tmp_path):
    labels = np.zeros((40, 61_000), np.uint16)
    labels[3:9, 10:20] = 1
    labels[5:30, roi_tiles.TILE_PX - 50 : roi_tiles.TILE_PX + 50] = 2
    labels[10:12, 60_990:] = 70
    written = save_label_rois(tmp_path / "a.zip", labels)
    assert [path.name for path in written] == [f"a_y0_x{x}.zip" for x in range(0, 61_000, roi_tiles.TILE_PX)]
    rois = [read_rois(path) for path in written]
    # Object 2 is cut, and ROIs count from the tile's own corner.
    assert [[roi.name for roi in some] for some in rois] == [["1", "2"], ["2"], [], ["70"]]
    assert rois[1][0].left == 0
    assert max(roi.right for some in rois for roi in some) <= roi_tiles.TILE_PX
    np.testing.assert_array_equal(paint_labels(tmp_path / "a.zip", labels.shape).labels, labels)


def test_the_widest_image_that_imagej_can_address_is_one_file(tmp_path):
    labels = np.zeros((2, roi_tiles.MAX_SIDE_PX), np.uint8)
    labels[1, -3:] = 5
    (path,) = save_label_rois(tmp_path / "a.zip", labels)
    (roi,) = read_rois(path)
    assert (roi.left, roi.right) == (60_532, 60_535)
    np.testing.assert_array_equal(paint_labels(path, labels.shape).labels, labels)


def test_existing_rois_are_kept_and_nothing_half_is_left(tmp_path):
    labels = np.zeros((40, 61_000), np.float32)
    labels[3:9, 60_000:] = 1.5
    with pytest.raises(InputError, match="fractions"):
        save_label_rois(tmp_path / "a.zip", labels)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "a.zip").write_bytes(b"mine")
    with pytest.raises(OutputError, match="overwrite"):
        save_label_rois(tmp_path / "a.zip", np.ones((3, 3), np.uint8))
    assert (tmp_path / "a.zip").read_bytes() == b"mine"


def square(name, left, top, size=4):
    xy = np.array([left, top]) + np.array([(0, 0), (size, 0), (size, size), (0, size)])
    roi = roifile.ImagejRoi.frompoints(xy)
    roi.name = name
    return roi


def test_rois_that_have_other_names_are_numbered_in_their_order(tmp_path):
    roifile.roiwrite(tmp_path / "a.zip", [square("0003-0004", 0, 0), square("5", 6, 6)])
    painted = paint_labels(tmp_path / "a.zip", (20, 20))
    assert (painted.labels[1, 1], painted.labels[7, 7], painted.reading) == (1, 2, "numbered by order")


def test_where_objects_overlap_the_later_stays_and_pixels_are_counted(tmp_path):
    roifile.roiwrite(tmp_path / "a.zip", [square("7", 0, 0), square("9", 2, 2)])
    painted = paint_labels(tmp_path / "a.zip", (20, 20))
    assert painted.overlapping_px == 4
    assert painted.labels[3, 3] == 9


def test_rois_of_another_image_are_refused(tmp_path):
    roifile.roiwrite(tmp_path / "a.zip", [square("1", 0, 0), square("2", 50, 60)])
    with pytest.raises(InputError, match=re.escape("ROI '2' in") + r".*\(20, 20\).*drawn on"):
        paint_labels(tmp_path / "a.zip", (20, 20))
    roi = square("3", 0, 0)
    roi.z_position = 5
    roifile.roiwrite(tmp_path / "b.zip", [roi])
    with pytest.raises(InputError, match="slice 5 but the image has 4"):
        paint_labels(tmp_path / "b.zip", (4, 20, 20))


def test_a_file_that_is_not_there_says_so(tmp_path):
    with pytest.raises(InputError, match="no ROI file"):
        paint_labels(tmp_path / "a.zip", (4, 4))


@pytest.mark.slow
def test_thirty_thousand_objects(tmp_path, rng):
    labels, n = ndimage.label(ndimage.gaussian_filter(rng.standard_normal((3000, 3000)), 2) > 0.06)
    assert n > 25_000
    save_label_rois(tmp_path / "a.zip", labels)
    np.testing.assert_array_equal(paint_labels(tmp_path / "a.zip", labels.shape).labels, labels)
