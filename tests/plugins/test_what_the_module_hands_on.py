"""What RunCellScribble gives the program, what it makes of masks and settings; in the real CellProfiler."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from cellscribble.cli.main import run as cellscribble
from cellscribble.io.images import open_image
from tests.infer.analytic import disks, metadata, write_model
from tests.plugins.drive import needs_cellprofiler, plugin_pipeline, program, rows, run, watched_program

pytestmark = [
    pytest.mark.cellprofiler,
    pytest.mark.slow,
    needs_cellprofiler,
    pytest.mark.usefixtures("temporary_folder"),
]

PROGRAM, MODEL, KEEP = "CellScribble program", "Model", "Keep the program running between images?"
INPUT, MEASURED, OBJECTS = "Select the input image", "Select images to measure", "Select object sets to measure"


def noisy(factor: int, dtype: type, shape: tuple[int, ...] = (48, 64)) -> np.ndarray:
    """(*shape) two disks on a ground that is not 0."""
    noise = np.random.default_rng(4).integers(0, 20, shape)
    return ((disks(shape)[0].astype(int) + noise + 9) * factor).astype(dtype)


def save(path, data, **options):
    tifffile.imwrite(path, data, photometric="rgb" if data.shape[-1] == 3 else "minisblack", **options)


@pytest.mark.parametrize("kind", ["grey", "rgb", "3d"])
def test_the_program_is_given_the_grey_values_of_the_file(tmp_path, kind):
    images = tmp_path / "images"
    images.mkdir()
    own, seen = watched_program(tmp_path)
    settings: dict[str, object] = {PROGRAM: own, KEEP: "No", MEASURED: "CellProbability"}
    ndim, n_channels = 2, 1
    if kind == "grey":
        pictures = [noisy(1, np.uint8), noisy(101, np.uint16), noisy(3, np.uint16), noisy(1, np.float32) / 7]
    elif kind == "rgb":
        settings["Select the image type"], n_channels = "Color image", 3
        pictures = [np.stack([p, p // 2, p // 3], axis=-1) for p in (noisy(1, np.uint8), noisy(101, np.uint16))]
    else:
        settings |= {"Process as 3D?": "Yes", "Relative pixel spacing in Z": 3.0, "Relative pixel spacing in X": 1.0}
        settings["Size of a pixel in micrometers, 0 if not known"] = 0.5
        pictures, ndim = [noisy(1, np.uint8, (6, 48, 64)), noisy(101, np.uint16, (6, 48, 64))], 3
    for k, data in enumerate(pictures):
        save(images / f"{k}.tif", data)
    if kind == "grey":
        # 12 bits in 16, and the file says so: CellProfiler divides by 4095.
        save(images / "4.tif", noisy(17, np.uint16), extratags=[(281, "H", 1, 4095, True)])
        pictures.append(noisy(17, np.uint16))
    elif kind == "rgb":
        data = np.stack([noisy(17, np.uint16)] * 3, axis=-1)
        save(images / "2.tif", data, extratags=[(281, "H", 3, (4095, 4095, 4095), True)])
        Image.fromarray(np.dstack([pictures[0], np.full((48, 64), 255, np.uint8)])).save(images / "3.png")
        pictures += [data, pictures[0]]
    settings[MODEL] = write_model(tmp_path / "model.onnx", metadata(ndim, n_channels))
    done = run(plugin_pipeline(tmp_path / "p.cppipe", settings), tmp_path / "out", "-i", images)
    assert done.returncode == 0, done.stderr
    assert len(list(seen.iterdir())) == len(pictures)
    for k, data in enumerate(pictures):
        found = open_image(seen / f"{k}.tif")
        expected = np.moveaxis(data, -1, 0) if kind == "rgb" else data[np.newaxis]
        assert found.data.dtype == expected.dtype
        np.testing.assert_array_equal(found.data, expected)
        assert found.pixel_size_um == (pytest.approx((1.5, 0.5, 0.5)) if ndim == 3 else None)


def test_a_stack_with_a_sign_is_shifted_by_cellprofiler_and_has_the_same_objects(tmp_path):
    """As the page says; CellProfiler does not tell what stood in the file."""
    (tmp_path / "images").mkdir()
    stack = noisy(10, np.int16, (6, 48, 64)) - np.int16(300)
    save(tmp_path / "images" / "a.tif", stack)
    model = write_model(tmp_path / "model.onnx", metadata(ndim=3))
    assert cellscribble(["predict", str(tmp_path / "images"), "-m", str(model), "-o", str(tmp_path / "ours")]) == 0
    settings = {PROGRAM: program(tmp_path), MODEL: model, MEASURED: "DNA", "Process as 3D?": "Yes"}
    done = run(plugin_pipeline(tmp_path / "p.cppipe", settings), tmp_path / "out", "-i", tmp_path / "images")
    assert done.returncode == 0, done.stderr
    labels = tifffile.imread(tmp_path / "ours" / "a_labels.tif")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out" / "a_nuclei.tiff"), labels)
    for k, row in enumerate(rows(tmp_path / "out" / "MyExpt_Nuclei.csv"), start=1):
        mean = stack[labels == k].mean() / 65535
        assert float(row["Intensity_MeanIntensity_DNA"]) == pytest.approx(mean + 32768 / 65535, rel=1e-6)


def crop(remove: str) -> tuple[str, int, list[object]]:
    """The left part of DNA, as an image of its size with a mask (No) or smaller (Edges)."""
    where = ["Rectangle", "Coordinates", "Individually", "4,50", "0,48", "500,500", 400, 200]
    return "Crop", 3, ["DNA", "Part", *where, remove, "None", "None", "None"]


def module(
    own: Path,
    model: Path,
    name: str,
    *,
    image: str = "DNA",
    find: str = "Single objects",
    keep: str = "",
    threshold: str = "No",
    size: object = 0.0,
    rescale: str = "No",
    revision: int = 3,
) -> tuple[str, int, list[object]]:
    """One more RunCellScribble, which finds the objects `name`."""
    how = [find, keep, threshold, 0.8, 0, "auto", size, rescale]
    return "RunCellScribble", revision, [image, name, own, model, *how, "No", "P", "No", "U", "Yes", 0]


@pytest.mark.parametrize("masked", [0, 2])
def test_what_lies_outside_of_a_mask_is_no_object(tmp_path, masked):
    """One of three channels is masked; the others show the model what lies outside."""
    (tmp_path / "images").mkdir()
    data = noisy(1, np.uint8)
    save(tmp_path / "images" / "a.tif", data)
    model = write_model(tmp_path / "model.onnx", metadata(n_channels=3))
    names = ["DNA"] * 3
    names[masked] = "Part"
    settings = {PROGRAM: program(tmp_path), MODEL: model, INPUT: names[0], MEASURED: "DNA"}
    settings["Hidden"] = "2" + "".join(f"\n    Select the next channel:{name}" for name in names[1:])
    done = run(
        plugin_pipeline(tmp_path / "p.cppipe", settings, [crop("No")]), tmp_path / "out", "-i", tmp_path / "images"
    )
    assert done.returncode == 0, done.stderr

    mask = np.zeros(data.shape, bool)
    mask[:, 4:50] = True
    channels = np.stack([data * mask if k == masked else data for k in range(3)])
    tifffile.imwrite(tmp_path / "b.tif", channels, imagej=True, metadata={"axes": "CYX"})
    assert cellscribble(["predict", str(tmp_path / "b.tif"), "-m", str(model), "-o", str(tmp_path / "ours")]) == 0
    whole = tifffile.imread(tmp_path / "ours" / "b_labels.tif")
    assert whole[~mask].any()
    found = tifffile.imread(tmp_path / "out" / "a_nuclei.tiff")
    np.testing.assert_array_equal(found > 0, (whole > 0) & mask)
    assert np.unique(found).tolist() == list(range(len(rows(tmp_path / "out" / "MyExpt_Nuclei.csv")) + 1))


@pytest.mark.parametrize("remove", ["No", "Edges"])
def test_objects_belong_to_the_image_they_were_found_in(tmp_path, remove):
    """Masked, or smaller than the image it was cropped from: later modules take its mask, not that of the whole."""
    (tmp_path / "images").mkdir()
    save(tmp_path / "images" / "a.tif", noisy(1, np.uint8))
    own, model = program(tmp_path), write_model(tmp_path / "model.onnx")
    occupied = ("MeasureImageAreaOccupied", 5, ["Objects", "", "Cells"])
    before = [crop(remove), module(own, model, "Cells", image="Part"), occupied]
    pipeline = plugin_pipeline(tmp_path / "p.cppipe", {PROGRAM: own, MODEL: model, OBJECTS: "Cells, Nuclei"}, before)
    done = run(pipeline, tmp_path / "out", "-i", tmp_path / "images")
    assert done.returncode == 0, done.stderr
    (image,) = rows(tmp_path / "out" / "MyExpt_Image.csv")
    assert float(image["AreaOccupied_TotalArea_Cells"]) == 48 * 46
    areas = [float(row["AreaShape_Area"]) for row in rows(tmp_path / "out" / "MyExpt_Cells.csv")]
    assert len(areas) == 2
    assert float(image["AreaOccupied_AreaOccupied_Cells"]) == sum(areas)


def test_each_setting_is_the_option_of_the_command(tmp_path):
    (tmp_path / "images").mkdir()
    data = noisy(1, np.uint8)
    size = {"imagej": True, "resolution": (2, 2), "metadata": {"unit": "um", "axes": "YX"}}
    tifffile.imwrite(tmp_path / "images" / "a.tif", data, **size)
    model = write_model(
        tmp_path / "model.onnx",
        metadata(classes=("background", "round", "long"), colors=((0, 0, 0),) * 3, pixel_size_um=(0.5, 0.5)),
    )
    coarse = write_model(tmp_path / "coarse.onnx", metadata(pixel_size_um=(1.0, 1.0)))
    own = program(tmp_path)

    modules = {
        "Plain": (module(own, model, "Plain"), model, []),
        "Strict": (module(own, model, "Strict", threshold="Yes"), model, ["--threshold", "0.8"]),
        "Regions": (module(own, model, "Regions", find="Classes"), model, ["--classes"]),
        "Sized": (module(own, model, "Sized", size=0.5), model, []),
        "Resampled": (module(own, coarse, "Resampled", size=0.5, rescale="Yes"), coarse, ["--rescale"]),
        # As it was read while there was a colon in the words of that setting.
        "Old": (module(own, coarse, "Old", size=" not known):0.5", rescale="Yes", revision=2), coarse, ["--rescale"]),
        "Round": (module(own, model, "Round", keep="round"), model, []),
        "Long": (module(own, model, "Long", keep="long"), model, []),
    }
    before = [found for found, _, _ in modules.values()]
    settings = {PROGRAM: own, MODEL: model, OBJECTS: ", ".join([*modules, "Nuclei"])}
    done = run(plugin_pipeline(tmp_path / "p.cppipe", settings, before), tmp_path / "out", "-i", tmp_path / "images")
    assert done.returncode == 0, done.stderr
    areas = {}
    for name, (_, network, options) in modules.items():
        out = tmp_path / name
        arguments = ["predict", str(tmp_path / "images"), "-m", str(network), "-o", str(out), *options]
        assert cellscribble(arguments) == 0
        areas[name] = np.bincount(tifffile.imread(out / "a_labels.tif").ravel())[1:].tolist()
        table = tmp_path / "out" / f"MyExpt_{name}.csv"
        found = [float(row["AreaShape_Area"]) for row in rows(table)]
        assert found == ([] if name == "Long" else areas[name]), name
    assert sum(areas["Strict"]) < sum(areas["Plain"])
    assert areas["Resampled"] != areas["Plain"]
    assert [row["CellScribble_Class"] for row in rows(tmp_path / "out" / "MyExpt_Round.csv")] == ["1", "1"]


def test_a_class_that_the_model_has_not_ends_the_run_with_those_it_has(tmp_path):
    (tmp_path / "images").mkdir()
    save(tmp_path / "images" / "a.tif", noisy(1, np.uint8))
    settings = {PROGRAM: program(tmp_path), MODEL: write_model(tmp_path / "model.onnx")}
    settings["Keep objects of these classes"] = "tumor"
    done = run(plugin_pipeline(tmp_path / "p.cppipe", settings), tmp_path / "out", "-i", tmp_path / "images")
    assert done.returncode == 1
    assert "The model has no class tumor; its classes are cell" in done.stderr
