import hashlib

import numpy as np
import pytest
import roifile
import tifffile

from cellscribble.core.errors import InputError
from cellscribble.core.volume import pixel_size_text
from cellscribble.io import tiff_read
from cellscribble.train.inputs import open_training_set, samples_of
from cellscribble.train.understood import describe
from tests.conftest import make_balls, make_disks
from tests.train.folders import save_disks, save_kind, save_pair


def opened(folder, **options):
    return open_training_set(folder / "imgs", folder / "strokes", **options)


def test_pairs_by_name_and_describes_what_it_understood(tmp_path):
    data = opened(save_disks(tmp_path))
    assert [p.name for p in data.pairs] == ["a", "b"]
    assert len(data.classes) == 2
    assert not data.warnings
    assert not data.failures
    row = describe(data.pairs[0], data.classes)
    assert (row["shape"], row["axes"], row["pixel_size_um"]) == ("1x64x64", "CYX", None)
    assert list(row["strokes"].values()) == [12, 9]
    # 21 strokes of 5 px
    assert row["labelled_share"] == pytest.approx(105 / 4096)


def test_hashes_are_of_image_and_stroke_pixels(tmp_path):
    data = opened(save_disks(tmp_path, "a"))
    disks = make_disks(0)
    assert data.hashes == {
        "a": hashlib.sha256(disks.image.data.tobytes()).hexdigest(),
        "a (strokes)": hashlib.sha256(disks.scribbles.tobytes()).hexdigest(),
    }


def test_an_image_without_strokes_serves_for_pseudo_labels_and_that_is_said(tmp_path):
    save_disks(tmp_path, "a", "b", "c")
    (tmp_path / "strokes" / "b.tif").unlink()
    save_pair(tmp_path, "c", make_disks(2).image.data[0], np.full((64, 64), -1))
    data = opened(tmp_path)
    assert "2 images have no strokes (b, c); they serve for pseudo-labels only" in data.warnings
    assert [(s.scribbles >= 0).any() for s in samples_of(data)] == [True, False, False]


def test_stroke_files_that_were_of_no_use_are_named(tmp_path):
    save_disks(tmp_path, "a", "b")
    strokes = tmp_path / "strokes"
    (strokes / "a.tif").rename(strokes / "wrong_name.tif")
    data = opened(tmp_path)
    assert "1 stroke files fit no image by their names (wrong_name.tif) and were not used" in data.warnings
    # A painted copy of the image in colours that are none of ours.
    picture = np.full((64, 64, 3), 90, np.uint8)
    picture[20, 5:30] = (150, 120, 40)
    (strokes / "wrong_name.tif").unlink()
    tifffile.imwrite(strokes / "a.tif", picture, photometric="rgb")
    (told,) = (text for text in opened(tmp_path).warnings if "hold no strokes" in text)
    assert "(a.tif); in a painted copy of the image only pure colours count" in told


def test_a_large_tiff_that_is_damaged_within_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(tiff_read, "LAZY_BYTES", 0)
    save_disks(tmp_path, "a", "b")
    path = tmp_path / "imgs" / "b.tif"
    tifffile.imwrite(path, tifffile.imread(path), compression="zlib", tile=(32, 32))
    with tifffile.TiffFile(path) as tiff:
        start, size = tiff.pages.first.dataoffsets[1], tiff.pages.first.databytecounts[1]
    data = bytearray(path.read_bytes())
    data[start : start + size] = b"\xff" * size
    path.write_bytes(data)
    found = opened(tmp_path)
    assert [p.name for p in found.pairs] == ["a"]
    assert "cannot be read" in found.failures["b.tif"]


def test_beside_its_strokes_an_image_without_any_is_not_taken_for_its_own(tmp_path):
    """As Fiji's Annotate leaves a folder in which one image is not drawn on yet."""
    save_disks(tmp_path, "a", "b")
    (tmp_path / "strokes" / "a.tif").rename(tmp_path / "imgs" / "a_scribbles.tif")
    data = open_training_set(tmp_path / "imgs", tmp_path / "imgs")
    assert not data.failures
    assert [p.scribbles is not None for p in data.pairs] == [True, False]
    # ImageJ keeps strokes inside the image too, where they are drawn as an overlay and it is saved.
    line = roifile.ImagejRoi.frompoints(np.array([(20, 20), (40, 20)]))
    line.roitype, line.name = roifile.ROI_TYPE.FREELINE, "bg_1"
    overlay = {"imagej": True, "metadata": {"Overlays": [line.tobytes()]}}
    tifffile.imwrite(tmp_path / "imgs" / "b.tif", tifffile.imread(tmp_path / "imgs" / "b.tif"), **overlay)
    data = open_training_set(tmp_path / "imgs", tmp_path / "imgs")
    assert [p.scribbles is not None for p in data.pairs] == [True, True]


def test_a_class_in_one_image_only_is_warned_of(tmp_path):
    save_disks(tmp_path)
    scribbles = make_disks().scribbles
    scribbles[scribbles == 1] = -1
    save_pair(tmp_path, "b", make_disks(1).image.data[0], scribbles)
    assert any("is stroked in one image only (a)" in w for w in opened(tmp_path).warnings)


def test_rgb_pictures_keep_their_colours_and_grey_ones_are_normalised(tmp_path):
    for kind, rule in (("rgb", "range"), ("grey", "percentile"), ("channels", "percentile")):
        (tmp_path / kind).mkdir()
        assert opened(save_kind(tmp_path / kind, kind)).rule.kind == rule


@pytest.mark.parametrize("known", [True, False])
def test_a_volume_that_does_not_say_how_far_apart_its_planes_are_is_warned_of(known, tmp_path):
    example = make_balls()
    size = {"imagej": True, "resolution": (4, 4), "metadata": {"axes": "ZYX", "spacing": 1.0, "unit": "um"}}
    save_pair(tmp_path, "a", example.image.data[0], example.scribbles, **(size if known else {}))
    warned = any("how far apart their planes are" in w for w in opened(tmp_path).warnings)
    assert warned is not known


def test_the_pixel_size_of_most_images_is_taken_and_others_are_warned_of(tmp_path):
    for name, size in (("a", 2), ("b", 2), ("c", 5)):
        disks = make_disks()
        tiff = {"imagej": True, "resolution": (size, size), "metadata": {"unit": "um"}}
        save_pair(tmp_path, name, disks.image.data[0], disks.scribbles, **tiff)
    data = opened(tmp_path)
    assert data.pixel_size_um == pytest.approx((0.5, 0.5))
    assert (
        "pixel sizes differ between images: 0.5 µm in 2, 0.2 µm in 1; the model takes the most frequent one"
        in data.warnings
    )
    assert [pixel_size_text(s) for s in (None, (0.5, 0.5), (1, 0.25, 0.25))] == [
        "unknown",
        "0.5 µm",
        "1 x 0.25 x 0.25 µm",
    ]


def bad_size(folder):
    save_pair(folder, "a", make_disks().image.data[0], make_disks().scribbles[:60])


def no_pair(folder):
    save_disks(folder)
    for name in "ab":
        (folder / "strokes" / f"{name}.tif").rename(folder / "strokes" / f"drawn_{name}.tif")


def one_class(folder, label=1):
    scribbles = make_disks().scribbles
    scribbles[scribbles != label] = -1
    save_pair(folder, "a", make_disks().image.data[0], scribbles)


def background_only(folder):
    one_class(folder, 0)


def framed(folder):
    scribbles = np.full((64, 64), -1)
    scribbles[:, 0], scribbles[0, 10:30] = 0, 1
    save_pair(folder, "a", make_disks().image.data[0], scribbles)


def empty(folder):
    save_pair(folder, "a", make_disks().image.data[0], np.full((64, 64), -1))


def gap(folder):
    scribbles = make_disks().scribbles
    scribbles[scribbles == 1] = 2
    save_pair(folder, "a", make_disks().image.data[0], scribbles)


def nan(folder):
    image = make_disks().image.data[0].astype(np.float32)
    image[5, 6] = np.nan
    save_pair(folder, "a", image, make_disks().scribbles)


def constant(folder):
    save_pair(folder, "a", np.full((64, 64), 7, np.uint8), make_disks().scribbles)


def series(folder):
    image = np.repeat(make_disks().image.data[None], 3, axis=0)[:, None]
    tiff = {"imagej": True, "metadata": {"axes": "TZCYX"}}
    save_pair(folder, "a", np.repeat(image, 2, axis=1), np.stack([make_disks().scribbles] * 2), **tiff)


def mixed(folder):
    save_kind(folder, "channels")
    save_pair(folder, "c", make_disks().image.data[0], make_disks().scribbles)


def mixed_rgb(folder):
    save_kind(folder, "rgb")
    disks = make_disks(0, 3)
    tiff = {"imagej": True, "metadata": {"axes": "CYX"}}
    save_pair(folder, "c", disks.image.data, disks.scribbles, **tiff)


BAD = [
    (bad_size, r"\(60, 64\) but the image is \(64, 64\) \[YX\]; draw them on this same image"),
    (no_pair, r"images are called a\.tif, b\.tif .*drawn_a\.tif, drawn_b\.tif .*under its image's name"),
    (one_class, r"only class 1 is stroked \(45 pixels in 1 images\); draw at least one stroke on background"),
    (background_only, r"only background is stroked \(60 pixels"),
    (framed, r"all strokes lie within 2 px of an image border.*export the strokes again"),
    (empty, "no image has strokes.*draw at least one stroke"),
    (gap, "class 1 has no stroke though class 2 has; number the classes without gaps"),
    (nan, r"a\.tif: image 'a' holds 1 NaN or infinite pixels; replace them"),
    (constant, r"image 'a' is constant \(every pixel is 7\)"),
    (series, "--timepoint"),
    (mixed, r"images differ: 'a' is CYX with 2 channels, 'c' is CYX with 1 channels; train on images of one kind"),
    (mixed_rgb, "images differ: 'a' is CYX with RGB colours, 'c' is CYX with 3 channels"),
]


@pytest.mark.parametrize(("make", "message"), BAD, ids=lambda v: getattr(v, "__name__", ""))
def test_bad_input_says_what_was_found_and_what_to_do(make, message, tmp_path):
    make(tmp_path)
    with pytest.raises(InputError, match=message):
        opened(tmp_path)


def test_a_time_point_can_be_chosen(tmp_path):
    series(tmp_path)
    data = opened(tmp_path, timepoint=1)
    assert data.pairs[0].image.axes == "CZYX"


@pytest.mark.parametrize("kind", [nan, constant])
def test_one_bad_image_is_left_out_and_the_others_go_on(kind, tmp_path):
    save_disks(tmp_path, "b", "c")
    kind(tmp_path)
    data = opened(tmp_path)
    assert [p.name for p in data.pairs] == ["b", "c"]
    assert list(data.failures) == ["a.tif"]


def test_a_truncated_file_among_good_ones_is_left_out(tmp_path):
    save_disks(tmp_path, "a", "b", "c")
    path = tmp_path / "imgs" / "b.tif"
    path.write_bytes(path.read_bytes()[:3000])
    data = opened(tmp_path)
    assert [p.name for p in data.pairs] == ["a", "c"]
    assert list(data.failures) == ["b.tif"]
    assert "b.tif" in data.failures["b.tif"]


def test_one_stroke_file_does_not_serve_for_several_images(tmp_path):
    save_disks(tmp_path)
    with pytest.raises(InputError, match=r"a\.tif is one stroke file, but .*imgs holds 2 images; give the folder"):
        open_training_set(tmp_path / "imgs", tmp_path / "strokes" / "a.tif")
    one = open_training_set(tmp_path / "imgs" / "b.tif", tmp_path / "strokes" / "a.tif")
    assert [p.name for p in one.pairs] == ["b"]


def test_three_classes_keep_their_numbers(tmp_path):
    disks = make_disks()
    disks.scribbles[disks.mask > 5] = np.where(disks.scribbles[disks.mask > 5] == 1, 2, -1)
    tifffile.imwrite(tmp_path / "x.tif", disks.image.data[0])
    tifffile.imwrite(tmp_path / "x_scribbles.tif", (disks.scribbles + 1).astype(np.uint8))
    data = open_training_set(tmp_path / "x.tif", tmp_path / "x_scribbles.tif")
    assert len(data.classes) == len(set(data.classes)) == len(set(data.colors)) == 3
    assert list(describe(data.pairs[0], data.classes)["strokes"].values()) == [12, 5, 4]
