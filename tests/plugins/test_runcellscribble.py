"""The module RunCellScribble in the real CellProfiler."""

import ast
import sys

import numpy as np
import pytest
import tifffile

from cellscribble.cli.main import run as cellscribble
from tests.infer.analytic import disks, metadata, write_model
from tests.plugins.drive import PLUGINS, needs_cellprofiler, plugin_pipeline, program, rows, run

SOURCE = (PLUGINS / "runcellscribble.py").read_text(encoding="utf-8")
BUNDLED = {"numpy", "tifffile", "cellprofiler_core"}


def picture(dtype: str, shape: tuple[int, ...] = (48, 64)) -> np.ndarray:
    """(*shape) two disks on a ground that is not 0, in a range that fills no type."""
    factor = {"uint8": 1, "uint16": 37}[dtype]
    noise = np.random.default_rng(3).integers(0, 20, shape)
    return ((disks(shape)[0].astype(int) + noise + 9) * factor).astype(dtype)


def test_the_plugin_is_python_3_8_and_imports_what_cellprofiler_has():
    imported = set()
    for node in ast.walk(ast.parse(SOURCE, feature_version=(3, 8))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported.add(node.module.split(".")[0])
    assert imported <= BUNDLED | sys.stdlib_module_names
    assert "shell=True" not in SOURCE


@pytest.mark.cellprofiler
@pytest.mark.slow
@needs_cellprofiler
@pytest.mark.parametrize("kind", ["8-bit", "16-bit", "rgb", "3d"])
def test_a_pipeline_finds_the_objects_of_the_command_line(tmp_path, kind):
    images, labels = tmp_path / "images", {}
    images.mkdir()
    settings: dict[str, object] = {"Smallest object": 0}
    ndim, n_channels, photometric = 2, 1, "minisblack"
    first = picture("uint16" if kind == "16-bit" else "uint8")
    if kind == "rgb":
        first, n_channels, photometric = np.stack([first, first // 2, 255 - first], axis=-1), 3, "rgb"
        settings["Select the image type"] = "Color image"
        # Intensities are measured in grey images only.
        settings["Select images to measure"] = "CellProbability"
    elif kind == "3d":
        first, ndim = picture("uint16", (12, 48, 64)), 3
        settings |= {"Process as 3D?": "Yes", "Relative pixel spacing in Z": 2.0}
    pictures = {"a": first, "b": first[:, ::-1]}
    for name, data in pictures.items():
        tifffile.imwrite(images / f"{name}.tif", data, photometric=photometric)
    model = write_model(tmp_path / "model.onnx", metadata(ndim, n_channels))
    assert cellscribble(["predict", str(images), "-m", str(model), "-o", str(tmp_path / "ours")]) == 0
    for name in pictures:
        labels[name] = tifffile.imread(tmp_path / "ours" / f"{name}_labels.tif")
        assert labels[name].max() == 2
    # A field without anything must not end the run of all others.
    tifffile.imwrite(images / "c.tif", np.full_like(first, 7), photometric=photometric)

    settings |= {"CellScribble program": program(tmp_path), "Model": model}
    done = run(plugin_pipeline(tmp_path / "p.cppipe", settings), tmp_path / "out", "-i", images)
    assert done.returncode == 0, done.stderr
    for name in pictures:
        saved = tifffile.imread(tmp_path / "out" / f"{name}_nuclei.tiff")
        np.testing.assert_array_equal(saved, labels[name])
    table = rows(tmp_path / "out" / "MyExpt_Nuclei.csv")
    size = "AreaShape_Volume" if kind == "3d" else "AreaShape_Area"
    expected = [int(n) for name in pictures for n in np.bincount(labels[name].ravel())[1:]]
    assert [float(row[size]) for row in table] == expected
    assert [row["CellScribble_Class"] for row in table] == ["1"] * 4
    assert all(0.5 < float(row["Intensity_MeanIntensity_CellProbability"]) <= 1 for row in table)
    assert [float(row["Count_Nuclei"]) for row in rows(tmp_path / "out" / "MyExpt_Image.csv")] == [2, 2, 0]
    assert "one constant value" in done.stderr


@pytest.mark.cellprofiler
@pytest.mark.slow
@needs_cellprofiler
def test_two_channels_and_objects_that_are_left_out_leave_no_gap(tmp_path):
    """The small one of three objects goes; CellProfiler would count its number as an object without pixels."""
    images = tmp_path / "images"
    images.mkdir()
    data = disks((48, 96))[0]
    data[20:24, 45:49] = 200
    tifffile.imwrite(images / "a.tif", data)
    model = write_model(tmp_path / "model.onnx", metadata(n_channels=2))
    settings = {"CellScribble program": program(tmp_path), "Model": model, "Smallest object": 50}
    settings |= {"Keep the uncertainty as an image?": "Yes", "Select images to measure": "CellUncertainty"}
    # The number of further channels, and the first of them: here the same image once more.
    settings["Hidden"] = "1\n    Select the next channel:DNA"
    done = run(plugin_pipeline(tmp_path / "p.cppipe", settings), tmp_path / "out", "-i", images)
    assert done.returncode == 0, done.stderr
    labels = tifffile.imread(tmp_path / "out" / "a_nuclei.tiff")
    assert np.unique(labels).tolist() == [0, 1, 2]
    assert labels[22, 47] == 0
    table = rows(tmp_path / "out" / "MyExpt_Nuclei.csv")
    assert [row["ObjectNumber"] for row in table] == ["1", "2"]
    assert all(float(row["AreaShape_Area"]) > 50 for row in table)
    assert all(0 <= float(row["Intensity_MaxIntensity_CellUncertainty"]) <= 1.000001 for row in table)


@pytest.mark.cellprofiler
@pytest.mark.slow
@needs_cellprofiler
def test_what_went_wrong_is_said_in_cellprofilers_own_error(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    tifffile.imwrite(images / "a.tif", picture("uint8"))
    model = write_model(tmp_path / "model.onnx", metadata(n_channels=2))
    settings = {"CellScribble program": program(tmp_path), "Model": model}
    done = run(plugin_pipeline(tmp_path / "a.cppipe", settings), tmp_path / "out_a", "-i", images)
    assert done.returncode == 1
    assert "CellScribble: error: the model expects 2 channels (DAPI, GFP), image 'image' has 1" in done.stderr
    settings["CellScribble program"] = tmp_path / "nowhere"
    done = run(plugin_pipeline(tmp_path / "b.cppipe", settings), tmp_path / "out_b", "-i", images)
    assert done.returncode == 1
    assert f"CellScribble cannot be started as {tmp_path / 'nowhere'}" in done.stderr
