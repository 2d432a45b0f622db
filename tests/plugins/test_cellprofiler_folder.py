"""What `predict --cellprofiler` writes, and what `measure` measures, against the real CellProfiler."""

import math
import re
from collections import Counter

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy import ndimage

from cellscribble.cli.main import run as cellscribble
from cellscribble.engine.cellprofiler import with_background
from cellscribble.io.cppipe import cellprofiler_name
from cellscribble.io.images import open_image
from cellscribble.io.ome_zarr import write_ome_zarr
from cellscribble.measure import by_cp_measure
from tests.infer.analytic import disks, metadata, write_model
from tests.plugins.drive import needs_cellprofiler, rows, run

LOOSE = ("Location_MaxIntensity",)
"""Of several equal maxima CellProfiler reports any."""


def write_stacks(folder, ndim, rng):
    """Two channels, names that sort differently as words and as numbers, and a stack without objects."""
    folder.mkdir()
    shape = (12, 48, 64)[-ndim:]
    for k, name in enumerate(("a", "a_c", "a 10", "empty")):
        data = np.roll(disks(shape)[0].astype(np.uint16) * 100, 3 * k, axis=-1) + rng.integers(0, 3000, shape)
        data = data.astype(np.uint16)
        if name == "empty":
            data[:] = rng.integers(0, 5, shape)
            data[(0,) * ndim] = 60000
        channels = np.stack([data, data[..., ::-1] // 2], axis=ndim - 2)
        tifffile.imwrite(folder / f"{name}.tif", channels, imagej=True, metadata={"axes": "ZCYX"[-ndim - 1 :]})


@pytest.mark.cellprofiler
@pytest.mark.slow
@needs_cellprofiler
@pytest.mark.parametrize("ndim", [2, 3])
def test_the_folder_is_measured_as_it_stands_and_measure_gives_the_same_numbers(tmp_path, ndim, rng, monkeypatch):
    images, ours = tmp_path / "images", tmp_path / "ours"
    write_stacks(images, ndim, rng)
    model = write_model(tmp_path / "model.onnx", metadata(ndim, 2))
    assert cellscribble(["predict", str(images), "-m", str(model), "-o", str(ours), "--cellprofiler"]) == 0
    folder = ours / "cellprofiler"
    done = run(folder / "measure.cppipe", tmp_path / "theirs", *(["-i", folder] if ndim == 3 else []))
    assert done.returncode == 0, done.stderr
    block = "17,40" if ndim == 2 else "5,20,33"
    args = ["--channels", "DAPI,GFP", "--block", block]
    # By cp_measure, and block by block as images are that do not fit in memory.
    for out, largest in (("measured", by_cp_measure.MAX_PIXELS), ("streamed", 0)):
        monkeypatch.setattr(by_cp_measure, "MAX_PIXELS", largest)
        assert cellscribble(["measure", str(ours), str(images), *args, "-o", str(tmp_path / out)]) == 0

    theirs = by_name(tmp_path / "theirs")
    for measured in (by_name(tmp_path / "measured"), by_name(tmp_path / "streamed")):
        assert {name: len(found) for name, found in measured.items()} == {k: len(v) for k, v in theirs.items()}
        for name, objects in theirs.items():
            assert [row["ObjectNumber"] for row in objects] == [row["ObjectNumber"] for row in measured[name]]
            for row, own in zip(objects, measured[name], strict=True):
                wanted = {key for key in row if key.startswith(("AreaShape", "Intensity", "Location", "Number"))}
                assert wanted <= set(own)
                for key in wanted:
                    if not key.startswith(LOOSE):
                        assert_same(key, float(own[key]), float(row[key]))
            assert_maxima_are_maxima(images / f"{name}.tif", measured[name])


APPEARANCE = """MeasureTexture:[module_num:5|svn_version:'Unknown'|variable_revision_number:7|show_window:False|\
notes:[]|batch_state:array([], dtype=uint8)|enabled:True|wants_pause:False]
    Select images to measure:DAPI, GFP
    Select objects to measure:Cells
    Enter how many gray levels to measure the texture at:256
    Hidden:1
    Measure whole images or objects?:Objects
    Texture scale to measure:3

MeasureObjectIntensityDistribution:[module_num:6|svn_version:'Unknown'|variable_revision_number:6|show_window:False|\
notes:[]|batch_state:array([], dtype=uint8)|enabled:True|wants_pause:False]
    Select images to measure:DAPI, GFP
    Hidden:1
    Hidden:1
    Hidden:0
    Calculate intensity Zernikes?:Magnitudes and phase
    Maximum zernike moment:9
    Select objects to measure:Cells
    Object to use as center?:These objects
    Select objects to use as centers:None
    Scale the bins?:Yes
    Number of bins:4
    Maximum radius:100

"""
"""As CellProfiler 4.2.8.1 writes the two modules with what it suggests, and with Zernike features."""


@pytest.mark.cellprofiler
@pytest.mark.slow
@needs_cellprofiler
def test_texture_and_distribution_are_those_of_cellprofiler(tmp_path, rng):
    images, ours = tmp_path / "images", tmp_path / "ours"
    write_stacks(images, 2, rng)
    model = write_model(tmp_path / "model.onnx", metadata(2, 2))
    assert cellscribble(["predict", str(images), "-m", str(model), "-o", str(ours), "--cellprofiler"]) == 0
    pipeline = ours / "cellprofiler" / "measure.cppipe"
    before, export, after = pipeline.read_text("utf-8").partition("ExportToSpreadsheet:[module_num:")
    export_at, rest = after.split("|", 1)
    n = int(export_at)
    before = before.replace(f"ModuleCount:{n}", f"ModuleCount:{n + 2}")
    more = APPEARANCE.replace("module_num:5", f"module_num:{n}").replace("module_num:6", f"module_num:{n + 1}")
    pipeline.write_text(f"{before}{more}{export}{n + 2}|{rest}", encoding="utf-8")
    done = run(pipeline, tmp_path / "theirs")
    assert done.returncode == 0, done.stderr
    args = ["--channels", "DAPI,GFP", "--also", "texture,distribution", "-o", str(tmp_path / "measured")]
    assert cellscribble(["measure", str(ours), str(images), *args]) == 0
    theirs, measured = by_name(tmp_path / "theirs"), by_name(tmp_path / "measured")
    n_compared = 0
    for name, objects in theirs.items():
        numbers = tifffile.imread(ours / f"{name}_labels.tif")
        for k, (row, own) in enumerate(zip(objects, measured[name], strict=True), start=1):
            depth = ndimage.distance_transform_edt(np.pad(numbers == k, 1))
            one_centre = np.count_nonzero(depth == depth.max()) == 1
            wanted = {key for key in row if key.startswith(("Texture", "RadialDistribution"))}
            assert wanted <= set(own)
            for key in wanted:
                # Of several pixels that are equally far from the rim CellProfiler takes any for the centre.
                if one_centre or key.startswith(("Texture", "RadialDistribution_Zernike")):
                    assert float(own[key]) == pytest.approx(float(row[key]), rel=1e-5, abs=1e-5, nan_ok=True), key
                    n_compared += 1
    assert n_compared > 1000


def by_name(folder):
    """The lines of each image that has objects, by its name; CellProfiler numbers images in its own order."""
    numbers = {row["ImageNumber"]: row["Metadata_Name"] for row in rows(folder / "MyExpt_Image.csv")}
    found: dict[str, list[dict[str, str]]] = {}
    for row in rows(folder / "MyExpt_Cells.csv"):
        found.setdefault(numbers[row["ImageNumber"]], []).append(row)
    return found


def assert_same(key, own, theirs):
    if key == "AreaShape_Orientation" and any(math.isclose(abs(theirs), angle, abs_tol=1e-6) for angle in (45, 90)):
        # -90 and 90 are one direction; of exactly diagonal objects scikit-image 0.20 has the sign the wrong way round.
        theirs = math.copysign(theirs, own)
    assert own == pytest.approx(theirs, rel=1e-6, abs=1e-6, nan_ok=True), key


def assert_maxima_are_maxima(path, objects):
    image = open_image(path).data
    for row in objects:
        for channel, name in enumerate(("DAPI", "GFP")):
            at = [int(float(row[f"Location_MaxIntensity_{axis}_{name}"])) for axis in "ZYX"]
            value = image[(channel, *at[-image.ndim + 1 :])] / 65535
            assert value == pytest.approx(float(row[f"Intensity_MaxIntensity_{name}"]))


def test_a_grey_plane_is_read_where_it_lies_and_a_colour_picture_is_split(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", disks()[0])
    model = write_model(tmp_path / "grey.onnx")
    assert (
        cellscribble(
            ["predict", str(tmp_path / "a.tif"), "-m", str(model), "-o", str(tmp_path / "o"), "--cellprofiler"]
        )
        == 0
    )
    folder = tmp_path / "o" / "cellprofiler"
    assert sorted(p.name for p in folder.iterdir()) == ["a_cellscribble.tif", "load_data.csv", "measure.cppipe"]
    assert rows(folder / "load_data.csv") == [
        {
            "Metadata_Name": "a",
            "Image_FileName_DAPI": "a.tif",
            "Image_PathName_DAPI": str(tmp_path),
            "Image_ObjectsFileName_Cells": "a_cellscribble.tif",
            "Image_ObjectsPathName_Cells": ".",
        }
    ]
    tifffile.imwrite(tmp_path / "c.tif", np.stack([disks()[0]] * 3, axis=-1), photometric="rgb")
    model = write_model(tmp_path / "rgb.onnx", metadata(2, 3))
    assert (
        cellscribble(
            ["predict", str(tmp_path / "c.tif"), "-m", str(model), "-o", str(tmp_path / "p"), "--cellprofiler"]
        )
        == 0
    )
    names = {p.name for p in (tmp_path / "p" / "cellprofiler").glob("c_*.tif")}
    assert names == {"c_DAPI.tif", "c_GFP.tif", "c_RFP.tif", "c_cellscribble.tif"}


def test_a_channel_is_copied_with_the_brightness_that_its_file_says(tmp_path):
    data = np.stack([disks()[0]] * 2).astype(np.uint16) * 20
    twelve = {"extratags": [(281, "H", 1, 4095, True)], "photometric": "minisblack"}
    tifffile.imwrite(tmp_path / "a.ome.tif", data, metadata={"axes": "CYX"}, **twelve)
    model = write_model(tmp_path / "model.onnx", metadata(2, 2))
    args = ["predict", str(tmp_path / "a.ome.tif"), "-m", str(model), "--cellprofiler"]
    assert cellscribble([*args, "-o", str(tmp_path / "o")]) == 0
    copied = tifffile.imread(tmp_path / "o" / "cellprofiler" / "a_GFP.tif")
    np.testing.assert_allclose(copied * 4095, data[1], rtol=1e-6)
    measured = [
        "measure",
        str(tmp_path / "o" / "a_labels.tif"),
        str(tmp_path / "a.ome.tif"),
        "-o",
        str(tmp_path / "m"),
    ]
    assert cellscribble([*measured, "--channels", "DAPI,GFP"]) == 0
    brightest = [float(row["Intensity_MaxIntensity_GFP"]) for row in rows(tmp_path / "m" / "MyExpt_Cells.csv")]
    assert brightest == pytest.approx([4000 / 4095] * 2)


def test_channels_of_any_type_are_copied_as_cellprofiler_would_see_them(tmp_path):
    data = np.stack([disks()[0]] * 2).astype(np.int32) * 40
    tifffile.imwrite(tmp_path / "a.ome.tif", data, metadata={"axes": "CYX"}, photometric="minisblack")
    model = write_model(tmp_path / "model.onnx", metadata(2, 2))
    args = ["predict", str(tmp_path / "a.ome.tif"), "-m", str(model), "-o", str(tmp_path / "o"), "--cellprofiler"]
    assert cellscribble(args) == 0
    copied = tifffile.imread(tmp_path / "o" / "cellprofiler" / "a_GFP.tif")
    np.testing.assert_allclose(copied * (2**32 - 1), data[1], rtol=1e-6)


def test_grey_with_alpha_is_copied_without_it(tmp_path):
    Image.fromarray(np.dstack([disks()[0], np.full((48, 64), 9, np.uint8)]), "LA").save(tmp_path / "a.png")
    args = ["predict", str(tmp_path / "a.png"), "-m", str(write_model(tmp_path / "model.onnx"))]
    assert cellscribble([*args, "-o", str(tmp_path / "o"), "--cellprofiler"]) == 0
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "o" / "cellprofiler" / "a_DAPI.tif"), disks()[0])


def test_what_is_there_is_not_written_over(tmp_path, capsys):
    tifffile.imwrite(tmp_path / "a.tif", disks()[0])
    model = write_model(tmp_path / "grey.onnx")
    args = ["predict", str(tmp_path / "a.tif"), "-m", str(model), "-o", str(tmp_path / "o"), "--cellprofiler"]
    assert cellscribble(args) == 0
    (tmp_path / "o" / "a_labels.tif").unlink()
    (tmp_path / "o" / "a_labels.json").unlink()
    assert cellscribble(args) == 1
    assert "--overwrite" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "o" / "a_labels.tif").exists()
    assert cellscribble([*args, "--overwrite"]) == 0
    assert cellscribble([*args, "--overwrite", "--classes"]) == 1
    assert "leave one out" in capsys.readouterr().err


def test_a_stack_among_planes_is_left_out_with_a_word(tmp_path, capsys):
    """LoadData would read its first plane, and measure that without a word."""
    (tmp_path / "images").mkdir()
    tifffile.imwrite(tmp_path / "images" / "a.tif", disks()[0])
    tifffile.imwrite(
        tmp_path / "images" / "b.tif", disks((6, 48, 64))[0], imagej=True, metadata={"axes": "ZYX", "spacing": 1}
    )
    model = write_model(tmp_path / "model.onnx")
    args = ["predict", str(tmp_path / "images"), "-m", str(model), "-o", str(tmp_path / "o"), "--planes"]
    assert cellscribble([*args, "--cellprofiler"]) == 1
    assert "b is a stack, the images before it are planes" in capsys.readouterr().err
    assert [row["Metadata_Name"] for row in rows(tmp_path / "o" / "cellprofiler" / "load_data.csv")] == ["a"]
    assert not (tmp_path / "o" / "cellprofiler" / "b_cellscribble.tif").exists()
    assert tifffile.imread(tmp_path / "o" / "b_labels.tif").ndim == 3


def test_labels_keep_a_pixel_of_background():
    """CellProfiler takes the smallest number for background."""
    full = np.array([[1, 2, 2], [1, 2, 2]], np.uint16)
    assert with_background(full).tolist() == [[1, 0, 2], [1, 2, 2]]
    assert with_background(full - 1).tolist() == [[0, 1, 1], [0, 1, 1]]


@pytest.mark.parametrize(
    ("text", "name"),
    [("DAPI", "DAPI"), ("channel 1", "channel_1"), ("405 nm", "Channel_405_nm"), ("Image", "Channel_Image")],
)
def test_names_are_those_that_cellprofiler_allows(text, name):
    assert cellprofiler_name(text) == name


def segment_slide(tmp_path, monkeypatch):
    """A store (Y, X) and the labels (Y, X) of all of it, in tiles of about 40 x 50 pixels for CellProfiler."""
    monkeypatch.setattr("cellscribble.engine.tiles.BLOCK_PX", {2: (40, 50)})
    data = np.tile(disks()[0], (2, 3))
    write_ome_zarr(tmp_path / "s.zarr", data[np.newaxis], "CYX", (0.5, 0.5), kind="image")
    model = write_model(tmp_path / "m.onnx")
    args = ["predict", str(tmp_path / "s.zarr"), "-m", str(model), "-o", str(tmp_path / "o"), "--cellprofiler"]
    assert cellscribble(args) == 0
    return data, np.asarray(open_image(tmp_path / "o" / "s_labels.zarr").data[0])


def test_a_store_comes_in_tiles_that_hold_each_object_once_and_whole(tmp_path, monkeypatch):
    data, whole = segment_slide(tmp_path, monkeypatch)
    folder = tmp_path / "o" / "cellprofiler"
    labels_of = {
        (row["Metadata_Name"], int(row["ObjectNumber"])): int(row["Number_Label"])
        for row in rows(folder / "objects.csv")
    }
    again = np.zeros_like(whole)
    tiles = rows(folder / "load_data.csv")
    assert len(tiles) > 4
    for tile in tiles:
        name = tile["Metadata_Name"]
        found = tifffile.imread(folder / tile["Image_ObjectsFileName_Cells"])
        y, x = int(tile["Metadata_Start_Y"]), int(tile["Metadata_Start_X"])
        part = (slice(y, y + found.shape[0]), slice(x, x + found.shape[1]))
        assert found.min() == 0
        assert np.unique(found).tolist() == list(range(found.max() + 1))
        for number in range(1, int(found.max()) + 1):
            assert not again[part][found == number].any()
            again[part][found == number] = labels_of[name, number]
        np.testing.assert_array_equal(tifffile.imread(folder / tile["Image_FileName_DAPI"]), data[part])
    np.testing.assert_array_equal(again, whole)


@pytest.mark.cellprofiler
@pytest.mark.slow
@needs_cellprofiler
def test_cellprofiler_measures_the_tiles_of_a_slide_as_one_image(tmp_path, monkeypatch):
    """Each object is counted once, in the tile that has it, and is as large as in the whole slide."""
    data, whole = segment_slide(tmp_path, monkeypatch)
    folder = tmp_path / "o" / "cellprofiler"
    done = run(folder / "measure.cppipe", tmp_path / "theirs")
    assert done.returncode == 0, done.stderr
    tables = tmp_path / "theirs"
    names = {row["ImageNumber"]: row["Metadata_Name"] for row in rows(tables / "MyExpt_Image.csv")}
    own = rows(folder / "objects.csv")
    labels_of = {(row["Metadata_Name"], row["ObjectNumber"]): int(row["Number_Label"]) for row in own}
    counts = {row["Metadata_Name"]: int(float(row["Count_Cells"])) for row in rows(tables / "MyExpt_Image.csv")}
    assert counts == Counter(row["Metadata_Name"] for row in own)
    corners = {
        row["Metadata_Name"]: (int(row["Metadata_Start_Y"]), int(row["Metadata_Start_X"]))
        for row in rows(folder / "load_data.csv")
    }
    seen = set()
    for row in rows(tables / "MyExpt_Cells.csv"):
        name = names[row["ImageNumber"]]
        label = labels_of[name, row["ObjectNumber"]]
        seen.add(label)
        y, x = np.nonzero(whole == label)
        assert float(row["AreaShape_Area"]) == len(y)
        assert float(row["Intensity_MeanIntensity_DAPI"]) == pytest.approx(data[y, x].mean() / 255, rel=1e-6)
        centre = (float(row["AreaShape_Center_Y"]), float(row["AreaShape_Center_X"]))
        assert np.add(centre, corners[name]) == pytest.approx((y.mean(), x.mean()), abs=1e-6)
    assert seen == set(range(1, int(whole.max()) + 1))
    assert sum(counts.values()) == whole.max()


@pytest.mark.cellprofiler
@pytest.mark.slow
@needs_cellprofiler
def test_every_kind_of_grey_file_is_measured_alike(tmp_path):
    """Grey with alpha is colour to CellProfiler, and ended its run for all others."""
    images, data = tmp_path / "images", disks()[0]
    images.mkdir()
    for dtype in (np.int16, np.int32, np.uint32, np.float64, bool):
        tifffile.imwrite(images / f"{np.dtype(dtype).name}.tif", (data * 50.0).astype(dtype), photometric="minisblack")
    # Twelve bits in sixteen, and the file says so: its brightest value is 1.
    twelve = {"extratags": [(281, "H", 1, 4095, True)], "photometric": "minisblack"}
    tifffile.imwrite(images / "twelve.tif", (data * 12.0).astype(np.uint16), **twelve)
    Image.fromarray(np.dstack([data, data // 2 + 99]), "LA").save(images / "alpha.png")
    Image.fromarray(data).convert("P").save(images / "clear.png", transparency=0)
    Image.fromarray(data).save(images / 'Zellkern \u00e4, "x".png')
    model, ours = write_model(tmp_path / "model.onnx"), tmp_path / "ours"
    assert cellscribble(["predict", str(images), "-m", str(model), "-o", str(ours), "--cellprofiler"]) == 0
    done = run(ours / "cellprofiler" / "measure.cppipe", tmp_path / "theirs")
    assert done.returncode == 0, done.stderr
    assert cellscribble(["measure", str(ours), str(images), "--channels", "DAPI", "-o", str(tmp_path / "m")]) == 0
    theirs, measured = by_name(tmp_path / "theirs"), by_name(tmp_path / "m")
    assert set(theirs) == set(measured) == {path.stem for path in images.iterdir()}
    for name, objects in theirs.items():
        assert len(objects) == 2
        for row, own in zip(objects, measured[name], strict=True):
            for key in ("AreaShape_Area", "Intensity_MeanIntensity_DAPI", "Intensity_MaxIntensity_DAPI"):
                assert float(own[key]) == pytest.approx(float(row[key]), rel=1e-6), (name, key)


@pytest.mark.cellprofiler
@pytest.mark.slow
@needs_cellprofiler
def test_more_objects_than_16_bits_hold_are_loaded_with_their_numbers(tmp_path):
    side = 265
    dot = np.zeros((8, 8), np.uint8)
    dot[2:6, 2:6] = 200
    tifffile.imwrite(tmp_path / "a.tif", np.kron(np.ones((side, side), np.uint8), dot))
    model = write_model(tmp_path / "model.onnx")
    args = ["predict", str(tmp_path / "a.tif"), "-m", str(model), "-o", str(tmp_path / "o"), "--cellprofiler"]
    assert cellscribble(args) == 0
    labels = tifffile.imread(tmp_path / "o" / "cellprofiler" / "a_cellscribble.tif")
    assert (labels.dtype, labels.max()) == (np.uint32, side**2)
    # Zernike features of so many take CellProfiler two minutes.
    pipeline = tmp_path / "o" / "cellprofiler" / "measure.cppipe"
    text, n = re.subn("(?m)(^ *Calculate the Zernike features[?]:)Yes", r"\1No", pipeline.read_text("utf-8"))
    assert n == 1
    pipeline.write_text(text, encoding="utf-8")
    done = run(pipeline, tmp_path / "theirs")
    assert done.returncode == 0, done.stderr
    objects = rows(tmp_path / "theirs" / "MyExpt_Cells.csv")
    areas, (y, x) = np.bincount(labels.ravel())[1:], np.nonzero(labels)
    assert [float(row["AreaShape_Area"]) for row in objects] == areas.tolist()
    sums = [float(row["Intensity_IntegratedIntensity_DAPI"]) for row in objects]
    np.testing.assert_allclose(sums, areas * 200 / 255, rtol=1e-6)
    centres = [float(row["Location_CenterMassIntensity_X_DAPI"]) for row in objects]
    np.testing.assert_allclose(centres, np.bincount(labels[y, x], weights=x)[1:] / areas)
