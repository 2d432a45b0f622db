import json
from pathlib import Path

import numpy as np
import pytest
import roifile
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cellscribble.core.errors import FileFormatError, InputError, OutputError
from cellscribble.io.scribbles import (
    align_classes,
    find_scribbles,
    read_class_masks,
    read_scribbles,
    save_scribbles,
)

DATA = Path(__file__).parents[3] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="shared/data is not here")


def save(path, values, dtype=np.uint8):
    tifffile.imwrite(path, np.asarray(values, dtype), photometric="minisblack")
    return path


@settings(max_examples=30)
@given(ndim=st.sampled_from([2, 3]), highest=st.integers(1, 7), seed=st.integers(0, 99))
def test_saved_scribbles_come_back(tmp_path_factory, ndim, highest, seed):
    rng = np.random.default_rng(seed)
    data = rng.integers(-1, highest, (5, 6, 7)[-ndim:], endpoint=True).astype(np.int16)
    data.flat[:3] = (-1, highest, 0)
    path = tmp_path_factory.mktemp("s") / "a.tif"
    save_scribbles(path, data)
    found = read_scribbles(path, data.shape)
    np.testing.assert_array_equal(found.data, data)
    assert len(found.class_names) == len(found.colors) == highest + 1


def test_label_tiff_is_0_unlabelled_1_background_2_class(tmp_path):
    found = read_scribbles(save(tmp_path / "a.tif", [[0, 1, 2], [3, 0, 1]]), (2, 3))
    assert found.data.tolist() == [[-1, 0, 1], [2, -1, 0]]
    assert found.class_names == ("background", "foreground", "class 2")


def test_250_means_scribble2label(tmp_path):
    Image.fromarray(np.array([[0, 1, 250], [250, 250, 1]], np.uint8)).save(tmp_path / "a.png")
    found = read_scribbles(tmp_path / "a.png", (2, 3))
    assert found.data.tolist() == [[0, 1, -1], [-1, -1, 1]]
    assert "250 unlabelled" in found.reading


@pytest.mark.parametrize(("values", "expected"), [([1, 250, 1], [1, -1, 1]), ([250, 250, 250], [-1, -1, -1])])
def test_250_means_so_also_without_a_stroke_of_background(tmp_path, values, expected):
    """Of a picture in which only cells were drawn, or nothing yet."""
    found = read_scribbles(save(tmp_path / "a.tif", [values]), (1, 3))
    assert found.data.tolist() == [expected]


def test_a_selection_that_was_open_when_the_strokes_were_saved_does_not_hide_them(tmp_path):
    numbers = np.zeros((30, 40), np.uint8)
    numbers[5, 5:20], numbers[20, 5:20] = 1, 2
    selection = roifile.ImagejRoi.frompoints(np.array([(2, 2), (30, 2), (30, 20)], np.float32), name="0011-0016")
    metadata = {"ROI": selection.tobytes()}
    tifffile.imwrite(tmp_path / "a.tif", numbers, imagej=True, metadata=metadata)
    found = read_scribbles(tmp_path / "a.tif", (30, 40))
    np.testing.assert_array_equal(found.data, numbers.astype(int) - 1)
    # A picture that holds no strokes either: the selection is what is told of.
    picture = np.tile(np.arange(40, dtype=np.uint8), (30, 1)) * 6
    tifffile.imwrite(tmp_path / "b.tif", picture, imagej=True, metadata=metadata)
    with pytest.raises(InputError, match="ROI"):
        read_scribbles(tmp_path / "b.tif", (30, 40))


def test_palette_picture_is_read_as_its_numbers(tmp_path):
    picture = Image.fromarray(np.array([[0, 1, 2]], np.uint8))
    picture.putpalette([0, 0, 0, 0, 0, 255, 255, 0, 0])
    picture.save(tmp_path / "a.png")
    assert read_scribbles(tmp_path / "a.png", (1, 3)).data.tolist() == [[-1, 0, 1]]
    colormap = np.zeros((3, 256), np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", np.array([[0, 1, 2]], np.uint8), colormap=colormap)
    assert read_scribbles(tmp_path / "a.tif", (1, 3)).data.tolist() == [[-1, 0, 1]]


def test_label_image_of_objects_is_refused(tmp_path):
    labels = np.zeros((40, 60), np.uint16)
    for i in range(57):
        labels[5 * (i // 12) : 5 * (i // 12) + 3, 5 * (i % 12) : 5 * (i % 12) + 3] = i + 1
    path = save(tmp_path / "a.tif", labels, np.uint16)
    with pytest.raises(InputError, match=r"label image with 57 objects.*cellscribble simulate.*full_supervision"):
        read_scribbles(path, labels.shape)
    few = np.where(labels <= 10, labels, 0)
    with pytest.raises(InputError, match="10 objects"):
        read_scribbles(save(tmp_path / "b.tif", few, np.uint16), labels.shape)


def test_mask_picture_fraction_and_wrong_size_are_refused(tmp_path, rng):
    with pytest.raises(InputError, match="mask of 0 and 255"):
        read_scribbles(save(tmp_path / "a.tif", [[0, 255]]), (1, 2))
    with pytest.raises(InputError, match="looks like a picture"):
        read_scribbles(save(tmp_path / "b.tif", rng.integers(0, 250, (90, 90))), (90, 90))
    with pytest.raises(InputError, match="fractions"):
        read_scribbles(save(tmp_path / "c.tif", [[0.5, 1]], np.float32), (1, 2))
    with pytest.raises(InputError, match=r"\(1, 2\) but the image is \(3, 4\).*same image, or crop"):
        read_scribbles(save(tmp_path / "d.tif", [[0, 1]]), (3, 4))
    with pytest.raises(InputError, match="no scribble file"):
        read_scribbles(tmp_path / "none.tif", (3, 4))
    (tmp_path / "a.docx").touch()
    with pytest.raises(FileFormatError, match="expected one of"):
        read_scribbles(tmp_path / "a.docx", (3, 4))


def test_red_and_blue_paint_on_a_grey_picture_whatever_its_contrast(tmp_path, rng):
    picture = np.repeat(rng.integers(0, 255, (20, 30, 1), dtype=np.uint8), 3, axis=-1)
    picture[2:4, 3:9] = (255, 0, 0)
    picture[10:12, 3:9] = (63, 72, 204)
    picture[4, 3:9] = (190, 100, 100)  # the soft rim of a stroke
    Image.fromarray(picture).save(tmp_path / "a.png")
    found = read_scribbles(tmp_path / "a.png", (20, 30), image=rng.random((1, 20, 30)))
    expected = np.full((20, 30), -1)
    expected[2:4, 3:9] = 1
    expected[10:12, 3:9] = 0
    np.testing.assert_array_equal(found.data, expected)
    assert found.reading == "strokes painted in blue, red"


def test_paint_on_a_colour_picture_is_what_differs_from_it(tmp_path, rng):
    image = rng.integers(0, 255, (3, 40, 40), dtype=np.uint8)
    image[:, 20:30, 20:30] = np.array([230, 20, 30]).reshape(3, 1, 1)  # red tissue
    painted = np.moveaxis(image, 0, -1).copy()
    painted[5:8, 5:15] = (0, 0, 255)
    tifffile.imwrite(tmp_path / "a.tif", painted, photometric="rgb")
    found = read_scribbles(tmp_path / "a.tif", (40, 40), image=image)
    assert (found.data[5:8, 5:15] == 0).sum() >= 29, "a pixel that was blue before is no paint"
    assert (found.data != -1).sum() <= 30
    with pytest.raises(InputError, match="no 8-bit RGB image"):
        read_scribbles(tmp_path / "a.tif", (40, 40))
    with pytest.raises(InputError, match="no painted copy"):
        read_scribbles(tmp_path / "a.tif", (40, 40), image=255 - image)


def test_one_mask_a_class(tmp_path):
    Image.fromarray(np.array([[255, 0, 0, 255]], np.uint8)).save(tmp_path / "a_bg.png")
    save(tmp_path / "a_nucleus.tif", [[0, 255, 0, 255]])
    found_files = find_scribbles(tmp_path, "a")
    assert [p.name for p in found_files] == ["a_bg.png", "a_nucleus.tif"]
    found = read_scribbles(found_files, (1, 4))
    assert found.data.tolist() == [[0, 1, -1, 1]]
    assert found.class_names == ("background", "nucleus")
    assert found.overlapping_px == 1
    by_name = read_class_masks({"background": tmp_path / "a_bg.png"}, (1, 4))
    assert by_name.data.tolist() == [[0, -1, -1, 0]]
    save(tmp_path / "a_fg.tif", [[0, 9, 0, 255]])
    with pytest.raises(InputError, match="3 values"):
        read_class_masks([tmp_path / "a_fg.tif"], (1, 4))


def line(name, points, **settings):
    roi = roifile.ImagejRoi.frompoints(np.asarray(points, np.float32), name=name)
    roi.roitype = roifile.ROI_TYPE.POLYLINE
    roi.stroke_width = 3
    for key, value in settings.items():
        setattr(roi, key, value)
    return roi


def test_rois_by_name_later_wins_and_unclassed_are_listed(tmp_path):
    rois = [
        line("bg_1", [(2, 2), (2, 20)]),
        line("edge_1", [(10, 2), (10, 20)]),
        line("fg_1", [(1, 10), (5, 10)]),
        line("hm", [(20, 2), (20, 9)]),
    ]
    roifile.roiwrite(tmp_path / "a.zip", rois)
    found = read_scribbles(tmp_path / "a.zip", (30, 30))
    assert found.class_names == ("background", "foreground", "edge")
    assert found.data[10, 2] == 1
    assert found.overlapping_px == 9
    assert found.unread == ("hm",)
    assert found.data[5, 20] == -1
    roifile.roiwrite(tmp_path / "b.zip", rois[-1:])
    with pytest.raises(InputError, match=r"none of the 1 ROIs .* \(hm\); rename them fg_1"):
        read_scribbles(tmp_path / "b.zip", (30, 30))
    with pytest.raises(InputError, match=r"but the image is \(8, 8\)"):
        read_scribbles(tmp_path / "a.zip", (8, 8))


def test_roi_on_a_slice_stays_there_and_position_0_is_every_slice(tmp_path):
    rois = [line("fg_1", [(2, 2), (2, 6)], position=3), line("bg_1", [(6, 2), (6, 6)])]
    roifile.roiwrite(tmp_path / "a.zip", rois)
    found = read_scribbles(tmp_path / "a.zip", (4, 10, 10))
    assert (found.data == 1).any(axis=(1, 2)).tolist() == [False, False, True, False]
    assert (found.data == 0).any(axis=(1, 2)).tolist() == [True] * 4
    with pytest.raises(InputError, match="slice 3 but the image has 2"):
        read_scribbles(tmp_path / "a.zip", (2, 10, 10))


def test_labkit_labeling(tmp_path):
    content = {"labels": {"foreground": [[1, 0], [2, 0]], "background": [[0, 1]]}}
    (tmp_path / "a.tif.labeling").write_text(json.dumps(content))
    assert find_scribbles(tmp_path, "a") == [tmp_path / "a.tif.labeling"]
    found = read_scribbles(tmp_path / "a.tif.labeling", (2, 3))
    assert found.data.tolist() == [[-1, 1, 1], [0, -1, -1]]
    with pytest.raises(InputError, match="but the image is"):
        read_scribbles(tmp_path / "a.tif.labeling", (2, 2))


def test_aligned_classes_have_one_number_in_all_images(tmp_path):
    roifile.roiwrite(tmp_path / "a.zip", [line("edge_1", [(2, 2), (2, 6)])])
    roifile.roiwrite(tmp_path / "b.zip", [line("core_1", [(2, 2), (2, 6)])])
    a, b = align_classes([read_scribbles(tmp_path / f"{n}.zip", (9, 9)) for n in "ab"])
    assert a.class_names == b.class_names == ("background", "core", "edge")
    assert (a.data.max(), b.data.max()) == (2, 1)


@pytest.mark.parametrize(
    "name", ["a.tif", "a.zip", "a_scribbles.tif", "a_strokes.png", "a_RoiSet.zip", "a.tif.labeling"]
)
def test_scribble_file_is_found_by_the_images_name(tmp_path, name):
    for other in ("ab.tif", "ab_scribbles.tif", "a.json", ".a.tif", name):
        (tmp_path / other).touch()
    assert find_scribbles(tmp_path, "a") == [tmp_path / name]
    assert find_scribbles(tmp_path / name, "other") == [tmp_path / name]
    assert find_scribbles(tmp_path, "c") == []


def test_two_files_for_one_image_are_refused_but_the_image_itself_does_not_count(tmp_path):
    for name in ("a.tif", "a_scribbles.tif"):
        (tmp_path / name).touch()
    assert find_scribbles(tmp_path, "a") == [tmp_path / "a_scribbles.tif"]
    (tmp_path / "a_strokes.tif").touch()
    with pytest.raises(InputError, match=r"a_scribbles\.tif and a_strokes\.tif; keep one"):
        find_scribbles(tmp_path, "a")
    with pytest.raises(InputError, match="no scribbles folder"):
        find_scribbles(tmp_path / "none", "a")


def test_existing_scribbles_are_never_lost(tmp_path):
    data = np.array([[-1, 0, 1]])
    save_scribbles(tmp_path / "a.tif", data)
    with pytest.raises(OutputError, match="--overwrite"):
        save_scribbles(tmp_path / "a.tif", data)


@needs_data
def test_overlay_in_the_image_gives_the_same_strokes_as_the_zip():
    folder = DATA / "fixtures_imagej"
    from_zip = read_scribbles(folder / "scribbles.zip", (128, 160))
    assert from_zip.class_names == ("background", "foreground", "edge")
    assert from_zip.unread == ("ignore me",)
    for name in ("cells_overlay.tif", "cells_rgb_overlay.tif"):
        np.testing.assert_array_equal(read_scribbles(folder / name, (128, 160)).data, from_zip.data)
    # Anti-aliased, outlines of areas only, so fewer pixels; but none of another class.
    painted = read_scribbles(folder / "cells_flattened.png", (128, 160)).data
    both = (painted >= 0) & (from_zip.data >= 0)
    assert both.sum() > 500
    assert (painted[both] == from_zip.data[both]).mean() > 0.98


@needs_data
def test_overlay_positions_in_a_hyperstack():
    path = DATA / "fixtures_imagej" / "hyperstack_c2z3t2.tif"
    found = read_scribbles(path, (3, 40, 48))
    assert (found.data >= 0).any(axis=(1, 2)).tolist() == [False, True, True]
    first = read_scribbles(path, (3, 40, 48), timepoint=0)
    assert (first.data >= 0).any(axis=(1, 2)).tolist() == [False, True, False]


@needs_data
def test_label_images_by_imagej_are_told_apart_from_scribbles():
    for name in ("labels_8bit.tif", "labels_16bit.tif", "labels_32bit_float.tif"):
        with pytest.raises(InputError, match="label image with 30 objects"):
            read_scribbles(DATA / "fixtures_imagej" / name, (128, 160))
