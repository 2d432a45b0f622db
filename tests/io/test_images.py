import pickle
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from cellscribble.core.errors import FileFormatError, InputError
from cellscribble.io import tiff_read
from cellscribble.io.images import image_name, list_images, open_image

DATA = Path(__file__).parents[3] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="shared/data is not here")


def grey(rng, *shape):
    return rng.integers(0, 250, shape, dtype=np.uint8)


def test_three_plain_pages_are_a_stack_and_the_user_is_told_how_to_say_channels(tmp_path, rng):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for page in grey(rng, 3, 20, 30):
            writer.write(page, metadata=None)
    image = open_image(tmp_path / "a.tif")
    assert image.axes == "CZYX"
    assert image.data.shape == (1, 3, 20, 30)
    assert "--axes CYX" in image.origin
    assert open_image(tmp_path / "a.tif", axes="CYX").data.shape == (3, 20, 30)


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_colour_picture_is_rgb_however_its_planes_are_stored(tmp_path, rng, planar):
    data = grey(rng, 20, 30, 3)
    stored = data if planar == "contig" else np.moveaxis(data, -1, 0)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", planarconfig=planar)
    image = open_image(tmp_path / "a.tif")
    assert image.is_rgb
    np.testing.assert_array_equal(image.data, np.moveaxis(data, -1, 0))


def test_alpha_is_dropped(tmp_path, rng):
    data = grey(rng, 20, 30, 4)
    Image.fromarray(data).save(tmp_path / "a.png")
    image = open_image(tmp_path / "a.png")
    assert image.is_rgb
    np.testing.assert_array_equal(image.data, np.moveaxis(data[..., :3], -1, 0))


def test_16_bit_png_keeps_its_values(tmp_path, rng):
    data = rng.integers(0, 60000, (20, 30)).astype(np.uint16)
    Image.fromarray(data).save(tmp_path / "a.png")
    np.testing.assert_array_equal(open_image(tmp_path / "a.png").data[0], data)


@pytest.mark.parametrize("name", ["a.tif", "a.png"])
def test_a_picture_of_one_bit_is_black_and_white(name, tmp_path, rng):
    bits = rng.integers(0, 2, (20, 30)).astype(bool)
    if name == "a.tif":
        tifffile.imwrite(tmp_path / name, bits)
    else:
        Image.fromarray(bits).save(tmp_path / name)
    image = open_image(tmp_path / name)
    assert image.data.dtype == np.uint8
    np.testing.assert_array_equal(image.data[0], bits * 255)


def test_numbers_that_are_no_intensities_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.ones((8, 9), np.complex64))
    with pytest.raises(FileFormatError, match=r"holds complex64 numbers.*save it as 8 or 16 bit or float32"):
        open_image(tmp_path / "a.tif")


def test_ome_tiff_units_and_channel_names(tmp_path, rng):
    metadata = {
        "axes": "TCZYX",
        "PhysicalSizeX": 100,
        "PhysicalSizeXUnit": "nm",
        "PhysicalSizeY": 0.2,
        "PhysicalSizeZ": 0.0005,
        "PhysicalSizeZUnit": "mm",
        "Channel": {"Name": ["DAPI", "GFP"]},
    }
    data = rng.integers(0, 999, (2, 2, 4, 20, 30)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.ome.tif", data, ome=True, metadata=metadata)
    image = open_image(tmp_path / "a.ome.tif", timepoint=1)
    np.testing.assert_array_equal(image.data, data[1])
    assert image.pixel_size_um == pytest.approx((0.5, 0.2, 0.1))
    assert image.channel_names == ("DAPI", "GFP")
    assert image.name == "a"
    with pytest.raises(InputError, match="2 time points; choose one with --timepoint"):
        open_image(tmp_path / "a.ome.tif")
    with pytest.raises(InputError, match=r"must be 0 \.\. 1"):
        open_image(tmp_path / "a.ome.tif", timepoint=2)


@pytest.mark.parametrize(
    ("per_unit", "unit", "expected"),
    [(20000, "CENTIMETER", (0.5, 0.5)), (300, "INCH", None), (28.346, "CENTIMETER", None), (1, "NONE", None)],
)
def test_only_a_plausible_resolution_is_a_pixel_size(tmp_path, rng, per_unit, unit, expected):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, grey(rng, 20, 30), resolution=(per_unit, per_unit), resolutionunit=unit)
    assert open_image(path).pixel_size_um == (expected and pytest.approx(expected))


def test_unclear_axes_ask_for_axes_and_wrong_axes_tell_the_shape(tmp_path, rng):
    path = tmp_path / "a.tif"
    data = grey(rng, 2, 5, 20, 30)
    tifffile.imwrite(path, data)
    with pytest.raises(InputError, match=r"\(2, 5, 20, 30\).*--axes"):
        open_image(path)
    np.testing.assert_array_equal(open_image(path, axes="zcyx").data, data.swapaxes(0, 1))
    with pytest.raises(InputError, match=r"names 3 axes but the file has 4.*\(2, 5, 20, 30\)"):
        open_image(path, axes="ZYX")
    with pytest.raises(InputError, match="at most once"):
        open_image(path, axes="ZZYX")


@pytest.mark.parametrize("axes", ["ZCYX", "CZYX", "ZYX", "YX"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_lazy_reading_gives_the_same_pixels(tmp_path, rng, monkeypatch, axes, compression):
    shape = [{"Z": 5, "C": 2, "Y": 70, "X": 90}[a] for a in axes]
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, grey(rng, *shape), metadata={"axes": axes}, compression=compression, tile=None)
    whole = open_image(path).data
    monkeypatch.setattr(tiff_read, "LAZY_BYTES", 100)
    lazy = open_image(path).data
    assert not type(lazy) is np.ndarray  # noqa: E714
    assert lazy.shape == whole.shape
    np.testing.assert_array_equal(np.asarray(lazy), whole)
    np.testing.assert_array_equal(lazy[..., 10:20, ::3], whole[..., 10:20, ::3])
    np.testing.assert_array_equal(lazy[0, ..., -1], whole[0, ..., -1])
    np.testing.assert_array_equal(np.asarray(pickle.loads(pickle.dumps(lazy))), whole)


@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.95])
def test_truncated_tiff_is_refused(tmp_path, rng, compression, part):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, grey(rng, 64, 80), compression=compression, rowsperstrip=16)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(FileFormatError, match="copy it again"):
        open_image(path)


def test_unknown_compression_says_what_to_do(tmp_path, rng):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, grey(rng, 20, 30))
    with tifffile.TiffFile(path) as tiff:
        offset = tiff.pages[0].tags["Compression"].valueoffset
    content = bytearray(path.read_bytes())
    content[offset : offset + 2] = (34999).to_bytes(2, "little")
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=r"34999.*open it in Fiji"):
        open_image(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tif", b"", "empty"),
        ("a.tif", b"hello", "not a readable TIFF"),
        ("a.png", b"hello", "cannot be read as a picture"),
        ("a.czi", b"x", "Bio-Formats"),
        ("a.docx", b"x", "expected one of"),
    ],
)
def test_no_image_says_what_it_is(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FileFormatError, match=message):
        open_image(tmp_path / name)


def test_missing_file_suggests_a_similar_name(tmp_path, rng):
    Image.fromarray(grey(rng, 9, 9)).save(tmp_path / "cells_01.png")
    with pytest.raises(InputError, match=r"did you mean cells_01\.png"):
        open_image(tmp_path / "cell_01.png")
    with pytest.raises(InputError, match="does not exist"):
        open_image(tmp_path / "no" / "cell_01.png")


def test_folder_lists_images_in_natural_order_without_our_own_files(tmp_path):
    names = "img10.tif img2.tif .img1.tif img2_labels.tif img2_overlay.png img2_scribbles.tif notes.json"
    for name in [*names.split(), "img2_probability.tif", "img2_bg.png", "img1.ome.tif"]:
        (tmp_path / name).touch()
    assert [p.name for p in list_images(tmp_path)] == ["img1.ome.tif", "img2.tif", "img10.tif"]
    assert list_images(tmp_path / "img2.tif") == [tmp_path / "img2.tif"]
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "readme.md").touch()
    with pytest.raises(InputError, match=r"holds readme\.md"):
        list_images(tmp_path / "sub")


def test_image_name_drops_double_suffixes():
    names = ["a/b.ome.tif", "b.OME.TIFF", "b.ome.zarr", "b.zarr", "b.png", "b.c.tif"]
    assert [image_name(n) for n in names] == ["b", "b", "b", "b", "b", "b.c"]


@needs_data
@pytest.mark.parametrize(
    ("path", "shape", "size"),
    [
        ("fixtures_imagej/cells_8bit.tif", (1, 128, 160), (0.325, 0.325)),
        ("fixtures_imagej/cells_rgb_overlay.tif", (3, 128, 160), (0.325, 0.325)),
        ("fixtures_imagej/stack_4slices.tif", (1, 4, 24, 32), None),
        ("fixtures/imagej_tiff/mini-t1-head_zyx_uint16.tif", (1, 32, 32, 32), (1500, 1500, 1500)),
        ("fixtures/imagej_tiff/test_still_stack_cyx_uint16.tif", (3, 300, 300), (0.325, 0.325)),
        ("fixtures/labkit/leaf.tif", (3, 446, 507), None),
        ("wsi/CMU-1-Small-Region.svs", (3, 2967, 2220), (0.499, 0.499)),
    ],
)
def test_files_by_others_open_as_their_makers_meant(path, shape, size):
    image = open_image(DATA / path)
    assert image.data.shape == shape
    assert image.pixel_size_um == (size and pytest.approx(size, rel=1e-5))


@needs_data
def test_imagej_hyperstack_time_point_channel_and_slice():
    image = open_image(DATA / "fixtures_imagej/hyperstack_c2z3t2.tif", timepoint=1)
    # Outside the discs the value is 1000 t + 100 z + 10 c, counted from 1.
    np.testing.assert_array_equal(image.data[:, :, -1, -1], [[2110, 2210, 2310], [2120, 2220, 2320]])
    assert image.pixel_size_um == (1.5, 0.25, 0.25)
