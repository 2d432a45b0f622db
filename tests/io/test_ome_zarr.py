import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import yaozarrs
import zarr
from scipy import ndimage

from cellscribble.core.errors import FileFormatError, InputError, OutputError
from cellscribble.io import ome_zarr_read
from cellscribble.io.images import list_images, open_image
from cellscribble.io.ome_zarr import build_pyramid, create_ome_zarr, write_blocks, write_ome_zarr

VERSIONS = pytest.mark.parametrize("version", ["0.4", "0.5"])


@VERSIONS
@pytest.mark.parametrize(
    ("axes", "shape", "size"),
    [("YX", (1030, 77), (0.5, 0.25)), ("ZYX", (70, 65, 90), (2.0, 0.5, 0.25)), ("ZYX", (5, 9, 7), None)],
)
def test_labels_come_back_and_validate(tmp_path, rng, version, axes, shape, size):
    path = tmp_path / "slide_labels.zarr"
    labels = rng.integers(0, 99999, shape)
    extra = {"cellscribble": {"model": "m.onnx"}}
    write_ome_zarr(path, labels, axes, size, version=version, n_levels=2, attributes=extra)
    yaozarrs.validate_zarr_store(str(path))
    group = zarr.open_group(str(path), mode="r")
    assert group.metadata.zarr_format == (2 if version == "0.4" else 3)
    assert group.attrs["cellscribble"] == {"model": "m.onnx"}
    image = open_image(path)
    np.testing.assert_array_equal(image.data[0], labels)
    assert image.data.dtype == np.uint32
    assert image.pixel_size_um == size
    # Depth of 2 um is not halved beside 0.5 um in plane.
    steps = (1, 2, 2) if size and axes == "ZYX" else (2,) * len(axes)
    small = open_image(path, level=1)
    np.testing.assert_array_equal(small.data[0], labels[tuple(slice(None, None, s) for s in steps)])
    assert small.pixel_size_um == (size and tuple(a * b for a, b in zip(size, steps, strict=True)))


@VERSIONS
def test_image_comes_back_with_channel_names(tmp_path, rng, version):
    path = tmp_path / "p.zarr"
    data = rng.random((2, 600, 11)).astype(np.float32)
    names = ("background", "cell")
    write_ome_zarr(path, data, "CYX", (0.5, 0.5), kind="image", channel_names=names, version=version)
    yaozarrs.validate_zarr_store(str(path))
    image = open_image(path)
    np.testing.assert_array_equal(image.data, data)
    assert image.channel_names == names
    expected = data[:, :2, :2].mean(axis=(1, 2))
    np.testing.assert_allclose(open_image(path, level=1).data[:, 0, 0], expected, rtol=1e-6)


def test_store_filled_block_by_block_equals_one_written_whole(tmp_path, rng):
    labels = rng.integers(0, 500, (2100, 1030)).astype(np.uint16)
    write_ome_zarr(tmp_path / "a.zarr", labels, "YX")
    group = create_ome_zarr(tmp_path / "b.zarr", labels.shape, np.uint16, "YX")
    for block in write_blocks(labels.shape, "YX"):
        group["0"][block] = labels[block]
    build_pyramid(group)
    for level in range(3):
        one, other = (open_image(tmp_path / f"{n}.zarr", level=level).data for n in "ab")
        np.testing.assert_array_equal(one, other)
    with pytest.raises(InputError, match=r"level 9; it has 0 \.\. 3"):
        open_image(tmp_path / "a.zarr", level=9)


def test_large_image_stays_on_disk(tmp_path, rng, monkeypatch):
    data = rng.integers(0, 250, (3, 20, 30), dtype=np.uint8)
    write_ome_zarr(tmp_path / "a.zarr", data, "CYX", kind="image")
    monkeypatch.setattr(ome_zarr_read, "LAZY_BYTES", 10)
    lazy = open_image(tmp_path / "a.zarr").data
    assert not isinstance(lazy, np.ndarray)
    np.testing.assert_array_equal(lazy[1:, 3:7, ::2], data[1:, 3:7, ::2])


def test_full_tczyx_with_units_and_scale(tmp_path, rng):
    data = rng.integers(0, 250, (2, 3, 4, 5, 6), dtype=np.uint8)
    group = zarr.create_group(str(tmp_path / "a.zarr"), zarr_format=2)
    group.create_array("0", data=data, chunk_key_encoding={"name": "v2", "separator": "/"})
    units = [("t", "second"), ("c", None), ("z", "nanometer"), ("y", "micrometer"), ("x", "millimeter")]
    group.attrs["multiscales"] = [
        {
            "version": "0.4",
            "axes": [{"name": n} | ({"unit": u} if u else {}) for n, u in units],
            "datasets": [
                {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1, 1, 500, 0.5, 0.001]}]}
            ],
        }
    ]
    image = open_image(tmp_path / "a.zarr", timepoint=1)
    np.testing.assert_array_equal(image.data, data[1])
    assert image.pixel_size_um == pytest.approx((0.5, 0.5, 1.0))
    with pytest.raises(InputError, match="--timepoint"):
        open_image(tmp_path / "a.zarr")


def test_bioformats2raw_folder_opens_series_0_and_says_so(tmp_path):
    path = tmp_path / "a.zarr"
    zarr.create_group(str(path), zarr_format=2, attributes={"bioformats2raw.layout": 3})
    write_ome_zarr(path / "0", np.ones((1, 5, 6), np.uint8), "CYX", kind="image")
    image = open_image(path)
    assert image.data.shape == (1, 5, 6)
    assert "series 0 of a bioformats2raw folder" in image.origin


def test_what_is_no_image_says_what_it_holds(tmp_path):
    group = zarr.create_group(str(tmp_path / "a.zarr"), zarr_format=2)
    group.create_group("tables")
    with pytest.raises(FileFormatError, match="without a multiscale image; it holds tables"):
        open_image(tmp_path / "a.zarr")
    plate = zarr.create_group(str(tmp_path / "p.zarr"), zarr_format=2, attributes={"plate": {}})
    assert plate is not None
    with pytest.raises(InputError, match="plate or well; give one of its images"):
        open_image(tmp_path / "p.zarr")
    (tmp_path / "b.zarr").mkdir()
    (tmp_path / "b.zarr" / ".zgroup").write_text("{")
    with pytest.raises(FileFormatError, match="no readable Zarr"):
        open_image(tmp_path / "b.zarr")


def test_damaged_chunk_is_an_error_not_a_hole(tmp_path, rng):
    write_ome_zarr(tmp_path / "a.zarr", rng.integers(0, 9, (40, 50)), "YX")
    (tmp_path / "a.zarr" / "0" / "0" / "0").write_bytes(b"nonsense")
    with pytest.raises(FileFormatError, match="copy it again"):
        open_image(tmp_path / "a.zarr")


def test_wrong_settings_and_existing_store_are_refused(tmp_path):
    labels = np.ones((4, 5), np.uint16)
    write_ome_zarr(tmp_path / "a.zarr", labels, "YX")
    assert list_images(tmp_path / "a.zarr") == [tmp_path / "a.zarr"]
    with pytest.raises(OutputError, match="--overwrite"):
        write_ome_zarr(tmp_path / "a.zarr", labels, "YX")
    for bad in ({"version": "0.3"}, {"kind": "mask"}, {"channel_names": ("a",)}, {"pixel_size_um": (1.0,)}):
        with pytest.raises(InputError, match=r"expected|give one"):
            write_ome_zarr(tmp_path / "b.zarr", labels, "YX", **bad)
    assert not (tmp_path / "b.zarr").exists()
    json.dumps(zarr.open_group(str(tmp_path / "a.zarr"), mode="r").attrs.asdict())


@pytest.mark.parametrize(
    ("labels", "is_rgb"),
    [
        (("red", "green", "blue"), True),
        (("Channel 0", "Channel 1", "Channel 2"), True),
        (("", "", ""), True),
        (("DAPI", "GFP", "RFP"), False),
    ],
)
def test_a_colour_picture_stays_one(tmp_path, labels, is_rgb):
    pixels = np.random.default_rng(0).integers(0, 255, (3, 20, 30)).astype(np.uint8)
    write_ome_zarr(tmp_path / "slide.zarr", pixels, "CYX", kind="image", channel_names=("red", "green", "blue"))
    group = zarr.open_group(tmp_path / "slide.zarr", mode="r+")
    omero = group.attrs["omero"]
    for channel, label in zip(omero["channels"], labels, strict=True):
        channel["label"] = label
    group.attrs["omero"] = omero
    assert open_image(tmp_path / "slide.zarr").is_rgb is is_rgb


def test_three_stains_are_no_colour_picture(tmp_path):
    pixels = np.zeros((3, 20, 30), np.uint8)
    write_ome_zarr(tmp_path / "stains.zarr", pixels, "CYX", kind="image", channel_names=("DAPI", "GFP", "RFP"))
    assert not open_image(tmp_path / "stains.zarr").is_rgb


@VERSIONS
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m["datasets"][0].update(path="nowhere"), "lacks the array of level 0"),
        (lambda m: m["datasets"][0].pop("path"), "lacks the array of level 0"),
        (lambda m: m.update(axes=m["axes"][1:]), "declares axes YX for an array of shape"),
        (lambda m: m.update(datasets=[]), "without a multiscale image"),
    ],
)
def test_metadata_that_do_not_fit_the_arrays_are_an_error(tmp_path, version, change, words):
    path = tmp_path / "a.zarr"
    write_ome_zarr(path, np.ones((1, 40, 50), np.uint8), "CYX", kind="image", version=version)
    group = zarr.open_group(str(path), mode="r+")
    attributes = group.attrs.asdict()
    change(attributes.get("ome", attributes)["multiscales"][0])
    group.attrs.put(attributes)
    with pytest.raises(FileFormatError, match=words):
        open_image(path)


@VERSIONS
def test_an_array_that_says_it_is_larger_than_it_is_is_named(tmp_path, version):
    path = tmp_path / "a.zarr"
    write_ome_zarr(path, np.ones((1, 400, 500), np.uint8), "CYX", kind="image", version=version, n_levels=3)
    header = path / "0" / (".zarray" if version == "0.4" else "zarr.json")
    told = json.loads(header.read_text())
    told["shape"] = [1, 800, 500]
    header.write_text(json.dumps(told))
    with pytest.raises(FileFormatError, match=r"along Y level 0 has 800 px and level 1 200, .* --level 1"):
        open_image(path)
    assert open_image(path, level=1).spatial_shape == (200, 250)


def test_levels_whose_sizes_were_rounded_or_whose_scales_say_nothing_open(tmp_path):
    path = tmp_path / "a.zarr"
    write_ome_zarr(path, np.ones((1, 333, 1), np.uint8), "CYX", kind="image", n_levels=6)
    assert len(open_image(path).levels) == 6
    group = zarr.open_group(str(path), mode="r+")
    attributes = group.attrs.asdict()
    for dataset in attributes["multiscales"][0]["datasets"]:
        dataset["coordinateTransformations"] = [{"type": "scale", "scale": [1.0, 1.0, 1.0]}]
    group.attrs.put(attributes)
    assert len(open_image(path).levels) == 6


def test_a_coarser_level_that_is_missing_is_no_reason_to_refuse_the_image(tmp_path):
    path = tmp_path / "a.zarr"
    write_ome_zarr(path, np.ones((1, 40, 50), np.uint8), "CYX", kind="image", n_levels=4)
    shutil.rmtree(path / "2")
    image = open_image(path)
    assert [level.shape for level in image.levels] == [(40, 50), (20, 25)]
    with pytest.raises(FileFormatError, match="lacks the array of level 2"):
        open_image(path, level=2)


def test_levels_of_a_pyramid_begin_with_the_one_that_is_read_and_tell_where_they_lie(tmp_path):
    path = tmp_path / "a.zarr"
    write_ome_zarr(path, np.ones((1, 7, 800, 1000), np.uint8), "CZYX", (2.0, 0.5, 0.5), kind="image", n_levels=3)
    first, second = open_image(path, level=1).levels
    assert (first.shape, first.scale, first.offset) == ((7, 400, 500), (2.0, 1.0, 1.0), (0.0, 0.25, 0.25))
    assert (second.shape, second.scale, second.offset) == ((7, 200, 250), (2.0, 2.0, 2.0), (0.0, 0.75, 0.75))


@pytest.mark.parametrize("shards", [False, True])
def test_the_damaged_chunk_is_named(tmp_path, rng, monkeypatch, shards):
    monkeypatch.setattr(ome_zarr_read, "LAZY_BYTES", 0)
    path, version = tmp_path / "a.zarr", "0.5" if shards else "0.4"
    write_ome_zarr(path, rng.integers(0, 9, (2, 2100, 600), np.uint8), "CYX", kind="image", version=version)
    name = "0/c/1/1/0" if shards else "0/1/4/0"
    (path / name).write_bytes(b"nonsense")
    data = open_image(path).data
    assert data[0].any()
    with pytest.raises(FileFormatError, match=rf"a\.zarr/{name} cannot be unpacked"):
        data[:, 2000:, 3:50]


@VERSIONS
@pytest.mark.parametrize("lazy", [False, True])
def test_a_chunk_that_was_lost_is_named_and_one_that_was_never_written_is_background(tmp_path, version, lazy):
    path = tmp_path / "a.zarr"
    pixels = np.zeros((2, 2100, 2600), np.uint8)
    pixels[1, 700:800, 700:800] = 9  # all else is left out by the writer
    write_ome_zarr(path, pixels, "CYX", kind="image", version=version)
    np.testing.assert_array_equal(open_image(path, lazy=lazy).data[:, 3:2000], pixels[:, 3:2000])
    name = "0/1/1/1" if version == "0.4" else "0/c/1/0/0"
    (path / name).unlink()
    with pytest.raises(FileFormatError, match=rf"a\.zarr/{name} is missing.*copy it again"):
        open_image(path, lazy=lazy).data[:, 600:1300, 520:900]
    assert not open_image(path, lazy=True).data[:, :500, :500].any()


@pytest.mark.parametrize("how", ["smoothed", "interpolated", "mean"])
def test_an_empty_chunk_amid_bright_ones_is_not_taken_for_a_lost_one(tmp_path, how):
    path = tmp_path / "a.zarr"
    pixels = np.full((1, 1536, 1536), 255, np.uint8)
    pixels[:, 512:1024, 512:1024] = 0
    write_ome_zarr(path, pixels, "CYX", kind="image", n_levels=2)
    group = zarr.open_group(str(path), mode="r+")
    if how == "smoothed":
        group["1"][0] = ndimage.gaussian_filter(pixels[0].astype(float), 2.0)[::2, ::2]
    elif how == "interpolated":
        group["1"][0] = np.clip(ndimage.zoom(pixels[0].astype(float), 0.5, order=3), 0, 255)
    assert not (path / "0" / "0" / "1" / "1").exists()
    np.testing.assert_array_equal(open_image(path).data, pixels)


def test_a_damaged_coarser_level_is_no_reason_to_refuse_the_image(tmp_path):
    path = tmp_path / "a.zarr"
    pixels = np.zeros((1, 1100, 1100), np.uint8)
    pixels[:, 700:800, 700:800] = 9
    write_ome_zarr(path, pixels, "CYX", kind="image")
    for chunk in (path / "1" / "0").glob("*/*"):
        chunk.write_bytes(b"nonsense")
    np.testing.assert_array_equal(open_image(path).data, pixels)
    assert open_image(path, lazy=True).data[:, 5:5].shape == (1, 0, 1100)


def test_many_damaged_chunks_are_one_error_and_no_other_words(tmp_path, rng):
    path = tmp_path / "a.zarr"
    write_ome_zarr(path, rng.integers(0, 9, (1, 3000, 3000), np.uint8), "CYX", kind="image")
    for chunk in (path / "0" / "0").glob("*/*"):
        chunk.write_bytes(b"nonsense")
    script = "import sys; from cellscribble.io.images import open_image; open_image(sys.argv[1])"
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True)
        assert done.stderr.splitlines()[-1].endswith("copy it again")
        assert "Task" not in done.stderr
