from pathlib import Path

import numpy as np
import pytest
import roifile
import tifffile
from scipy import ndimage

from cellscribble.core.errors import FileFormatError
from cellscribble.io.roi_classes import class_by_name, classes_of_rois
from cellscribble.io.rois import rasterise, read_rois

FIXTURES = Path(__file__).parents[3] / "shared" / "data" / "fixtures_imagej"
needs_data = pytest.mark.skipif(not FIXTURES.is_dir(), reason="shared/data is not here")
RED, BLUE = b"\xff\xff\x00\x00", b"\xff\x00\x00\xff"


def cover(roi, shape):
    found = rasterise(roi, shape)
    mask = np.zeros(shape, bool)
    mask[found.window] = found.mask
    return mask


def roi(kind, points, **settings):
    made = roifile.ImagejRoi.frompoints(np.asarray(points, np.float32))
    made.roitype = kind
    for name, value in settings.items():
        setattr(made, name, value)
    return made


def pairs(rois, covers):
    """Each ROI with its pixels by us and by ImageJ."""
    for one, by_imagej in zip(read_rois(FIXTURES / rois), tifffile.imread(FIXTURES / covers) > 0, strict=True):
        yield one.name, cover(one, by_imagej.shape), by_imagej


@needs_data
def test_pixels_are_those_that_imagej_covers():
    """Every kind of ROI, areas and lines of known width alike."""
    for name, ours, by_imagej in pairs("scribbles.zip", "cover_by_imagej.tif"):
        assert (ours & by_imagej).sum() >= 0.95 * (ours | by_imagej).sum(), name


@needs_data
def test_strokes_drawn_with_the_mouse_differ_by_a_pixel_at_most():
    for name, ours, by_imagej in pairs("drawn_scribbles.zip", "drawn_cover_by_imagej.tif"):
        assert not (ours & ~ndimage.binary_dilation(by_imagej, np.ones((3, 3)))).any(), name
        assert not (by_imagej & ~ndimage.binary_dilation(ours, np.ones((3, 3)))).any(), name


def test_vertical_line_of_width_3_covers_3_columns_and_ends_bluntly():
    # From the centre of pixel 2 to that of pixel 6: rows 2 to 6, columns 4 to 6.
    expected = np.zeros((10, 10), bool)
    expected[2:7, 4:7] = True
    line = roi(roifile.ROI_TYPE.POLYLINE, [(5, 2), (5, 6)], stroke_width=3)
    np.testing.assert_array_equal(cover(line, (10, 10)), expected)


def test_thin_line_is_one_pixel_wide():
    line = roi(roifile.ROI_TYPE.POLYLINE, [(1, 4), (8, 4)], stroke_width=0)
    assert cover(line, (10, 10)).sum(axis=0).tolist() == [0, 1, 1, 1, 1, 1, 1, 1, 1, 0]


def test_polygon_counts_its_corners_in_pixel_edges():
    square = roi(roifile.ROI_TYPE.POLYGON, [(2, 3), (5, 3), (5, 7), (2, 7)])
    expected = np.zeros((10, 10), bool)
    expected[3:7, 2:5] = True
    np.testing.assert_array_equal(cover(square, (10, 10)), expected)


def test_roi_beyond_the_border_is_clipped():
    square = roi(roifile.ROI_TYPE.POLYGON, [(-4, -4), (3, -4), (3, 3), (-4, 3)])
    assert cover(square, (10, 10)).sum() == 9
    far = roi(roifile.ROI_TYPE.POLYGON, [(40, 40), (50, 40), (50, 50)])
    assert cover(far, (10, 10)).sum() == 0
    line = roi(roifile.ROI_TYPE.POLYLINE, [(30, 4), (40, 4)], stroke_width=3)
    assert cover(line, (10, 10)).sum() == 0


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("fg_1", "foreground"),
        ("Background 3", "background"),
        ("BG", "background"),
        ("bg_overlaybrush_2", "background"),
        ("fg_3 polygon", "foreground"),
        ("nucleus_12", "nucleus"),
        ("Nucleus12", "nucleus"),
        ("cell wall-3", "cell wall"),
        ("backbone_1", "backbone"),
        ("0123-0456", None),
        ("ebb45794-ecca-11f1-a1de-02fc00000001", None),
        ("001", None),
        ("active", None),
        ("Oval 3", None),
        ("", None),
    ],
)
def test_class_by_name(name, expected):
    assert class_by_name(name) == expected


def test_name_before_group_before_colour():
    line = roifile.ROI_TYPE.POLYLINE
    points = [(1, 1), (5, 5)]
    rois = [
        roi(line, points, name="nucleus_1", group=1, stroke_color=BLUE),
        roi(line, points, name="x", group=1),
        roi(line, points, name="y", group=7),
        roi(line, points, name="z", stroke_color=BLUE),
        roi(line, points, name="ignore me"),
    ]
    classes, evidence = classes_of_rois(rois)
    assert classes == ["nucleus", "nucleus", None, "background", None]
    assert evidence == ("name", "group", "stroke colour")
    # Without names a group is what a scribble TIFF's number is.
    unnamed = [roi(line, points, name="x", group=g, stroke_color=RED) for g in (1, 2, 3)]
    assert classes_of_rois(unnamed)[0] == ["background", "foreground", "class 2"]


def test_broken_zip_says_save_it_again(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"PK nothing")
    with pytest.raises(FileFormatError, match="ROI Manager"):
        read_rois(tmp_path / "a.zip")
    (tmp_path / "a.roi").write_bytes(b"nothing")
    with pytest.raises(FileFormatError, match="ROI Manager"):
        read_rois(tmp_path / "a.roi")
