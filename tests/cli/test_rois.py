from pathlib import Path

import numpy as np
import pytest
import roifile
import tifffile

from cellscribble.cli.main import run
from cellscribble.io.images import open_image
from cellscribble.io.ome_zarr import write_ome_zarr
from cellscribble.io.rois import read_rois
from cellscribble.io.tiff import save_image, save_labels

RED, BLUE = b"\xff\xff\x00\x00", b"\xff\x00\x00\xff"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """cells.tif of 30 x 40, 0.5 um pixels, and labels of two objects, one with a hole."""
    labels = np.zeros((30, 40), np.uint16)
    labels[2:12, 2:12] = 3
    labels[5:8, 5:8] = 0
    labels[15:25, 20:39] = 9
    save_image(tmp_path / "cells.tif", np.zeros((1, 30, 40), np.uint8), "CYX", (0.5, 0.5))
    save_labels(tmp_path / "cells_labels.tif", labels, (0.5, 0.5))
    monkeypatch.chdir(tmp_path)
    return labels


def stroke(name, *points):
    line = roifile.ImagejRoi.frompoints(np.array(points))
    line.roitype, line.name, line.stroke_width = roifile.ROI_TYPE.FREELINE, name, 3
    return line


def test_labels_to_rois_and_back(place, capsys):
    assert run(["rois", "cells_labels.tif", "rois.zip"]) == 0
    assert [roi.name for roi in read_rois(Path("rois.zip"))] == ["3", "9"]
    assert run(["rois", "rois.zip", "back.tif", "--like", "cells.tif", "--labels"]) == 0
    back = open_image("back.tif")
    np.testing.assert_array_equal(back.data[0], place)
    assert back.pixel_size_um == pytest.approx((0.5, 0.5))
    assert "2 ROIs, numbered by name -> back.tif" in capsys.readouterr().err


def test_strokes_become_the_project_s_scribbles(place, capsys):
    roifile.roiwrite(
        "strokes.zip",
        [stroke("nucleus_1", (3, 4), (9, 4)), stroke("bg_1", (3, 20), (9, 20)), stroke("x", (1, 1), (2, 2))],
    )
    assert run(["rois", "strokes.zip", "s.tif", "--like", "cells.tif", "--scribbles"]) == 0
    assert sorted(np.unique(tifffile.imread("s.tif"))) == [0, 1, 2]
    assert tifffile.imread("s.tif")[4, 5] == 2
    err = capsys.readouterr().err
    assert "without a class, and left out: x" in err
    # No number of ROIs: `train` counts the files that were read alike.
    assert "\nImageJ ROIs, class by name -> s.tif (1 background, 2 nucleus)" in err


def test_numbers_of_classes_are_the_same_for_all_images_of_a_project(place, capsys):
    """This image has no edge stroke; another may."""
    roifile.roiwrite("strokes.zip", [stroke("nucleus_1", (3, 4), (9, 4))])
    like = ["--like", "cells.tif", "--scribbles"]
    assert run(["rois", "strokes.zip", "s.tif", *like, "--classes", "edge,nucleus"]) == 0
    assert tifffile.imread("s.tif")[4, 5] == 3
    assert run(["rois", "strokes.zip", "t.tif", *like, "--classes", "edge"]) == 1
    assert "strokes of class nucleus, but the classes are background, edge" in capsys.readouterr().err


def test_rois_of_another_image_write_nothing(place, capsys, tmp_path):
    far = np.zeros((90, 90), np.uint8)
    far[80:85, 80:85] = 1
    save_labels("far.tif", far)
    assert run(["rois", "far.tif", "far.zip"]) == 0
    assert run(["rois", "far.zip", "out.tif", "--like", "cells.tif", "--labels"]) == 1
    assert "covers nothing of the image, which is (30, 40)" in capsys.readouterr().err
    assert not (tmp_path / "out.tif").exists()


def test_labels_as_imagej_opens_them(place):
    """From OME-Zarr; and what 16 bits do not hold as 32-bit float, since ImageJ has no such integers."""
    write_ome_zarr("cells_labels.zarr", place, "YX", (0.5, 0.5))
    assert run(["rois", "cells_labels.zarr", "a.tif"]) == 0
    assert tifffile.imread("a.tif").dtype == np.uint16
    save_labels("many.tif", place.astype(np.uint32) * 10_000)
    assert run(["rois", "many.tif", "b.tif"]) == 0
    with tifffile.TiffFile("b.tif") as tiff:
        assert tiff.is_imagej
        assert tiff.asarray().dtype == np.float32
        assert tiff.asarray().max() == 90_000


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["rois.zip", "a.tif", "--labels"], 2, "--like IMAGE"),
        (["cells_labels.tif", "a.png"], 1, "neither .zip"),
        (["cells_labels.tif", "cells.tif"], 1, "--overwrite"),
        (["gone.zip", "a.tif", "--like", "cells.tif", "--labels"], 1, "no ROI file"),
        (["gone.zip", "a.tif", "--like", "cells.tif", "--scribbles"], 1, "no scribble file"),
    ],
)
def test_what_cannot_be_done_is_said(place, capsys, args, code, message):
    assert run(["rois", *args]) == code
    assert message in capsys.readouterr().err
