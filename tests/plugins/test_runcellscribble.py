"""The module RunCellScribble in the real CellProfiler."""

import ast
import re
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tifffile
from PIL import Image

from cellscribble.cli.main import run as cellscribble
from tests.infer.analytic import disks, metadata, write_model
from tests.plugins.drive import (
    CELLPROFILER_5,
    PLUGINS,
    exclusive_program,
    killed_program,
    needs_cellprofiler,
    plugin_pipeline,
    program,
    rows,
    run,
    servers,
)

pytestmark = pytest.mark.usefixtures("temporary_folder")

KEEP = "Keep the program running between images?"
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
def test_a_pipeline_finds_the_objects_of_the_command_line(tmp_path, temporary_folder, kind):
    images, labels = tmp_path / "images", {}
    images.mkdir()
    settings: dict[str, object] = {"Smallest object": 0, KEEP: "No" if kind == "8-bit" else "Yes"}
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
    assert len(servers(temporary_folder)) == (0 if kind == "8-bit" else 1)


@pytest.mark.cellprofiler
@pytest.mark.slow
@needs_cellprofiler
def test_four_at_once_share_one_server_and_its_device_and_find_what_the_plain_command_finds(
    tmp_path, temporary_folder
):
    images = tmp_path / "images"
    images.mkdir()
    for k in range(8):
        tifffile.imwrite(images / f"{k}.tif", np.roll(picture("uint16"), 3 * k, axis=0))
    model = write_model(tmp_path / "model.onnx")
    assert cellscribble(["predict", str(images), "-m", str(model), "-o", str(tmp_path / "ours")]) == 0
    own, _ = exclusive_program(tmp_path)  # else they would not share it, but each have their own
    pipeline = plugin_pipeline(
        tmp_path / "p.cppipe", {"CellScribble program": own, "Model": model, "Smallest object": 0}
    )

    def part(k: int) -> int:
        return run(pipeline, tmp_path / f"out{k}", "-i", images, "-f", str(2 * k + 1), "-l", str(2 * k + 2)).returncode

    with ThreadPoolExecutor(4) as at_once:
        assert list(at_once.map(part, range(4))) == [0] * 4
    assert len(servers(temporary_folder)) == 1
    for k in range(8):
        expected = tifffile.imread(tmp_path / "ours" / f"{k}_labels.tif")
        assert expected.max() >= 2
        np.testing.assert_array_equal(tifffile.imread(tmp_path / f"out{k // 2}" / f"{k}_nuclei.tiff"), expected)


@pytest.mark.cellprofiler
@pytest.mark.slow
@needs_cellprofiler
def test_a_server_that_is_killed_is_started_again_once_then_the_error_is_clear(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for name in "ab":
        tifffile.imwrite(images / f"{name}.tif", picture("uint8"))
    own, left = killed_program(tmp_path, 1)
    pipeline = plugin_pipeline(
        tmp_path / "p.cppipe", {"CellScribble program": own, "Model": write_model(tmp_path / "model.onnx")}
    )
    done = run(pipeline, tmp_path / "once", "-i", images)
    assert done.returncode == 0, done.stderr
    assert "the program ended in the middle of an image" in done.stderr
    assert [row["ImageNumber"] for row in rows(tmp_path / "once" / "MyExpt_Nuclei.csv")] == ["1", "1", "2", "2"]
    left.write_text("9")
    done = run(pipeline, tmp_path / "always", "-i", images)
    assert done.returncode == 1
    assert "CellScribble ended twice in the middle of an image" in done.stderr
    assert left.read_text() == "7"


@pytest.mark.cellprofiler
@pytest.mark.slow
@pytest.mark.skipif(
    not CELLPROFILER_5,
    reason="no CellProfiler 5 here; it takes 700 MB and two minutes: "
    "export CELLSCRIBBLE_CELLPROFILER5=$(.ci/cellprofiler5); pytest -m cellprofiler -k cellprofiler_5",
)
def test_the_same_file_runs_in_cellprofiler_5(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    # Without a connection to Maven it reads PNG, and no TIFF.
    for name in "ab":
        Image.fromarray(picture("uint16")).save(images / f"{name}.png")
    model = write_model(tmp_path / "model.onnx")
    assert cellscribble(["predict", str(images), "-m", str(model), "-o", str(tmp_path / "ours")]) == 0
    pipeline = plugin_pipeline(
        tmp_path / "p.cppipe", {"CellScribble program": program(tmp_path), "Model": model, "Smallest object": 0}
    )
    done = run(pipeline, tmp_path / "out", "-i", images, cellprofiler=CELLPROFILER_5)
    assert done.returncode == 0, done.stderr
    for name in "ab":
        expected = tifffile.imread(tmp_path / "ours" / f"{name}_labels.tif")
        np.testing.assert_array_equal(tifffile.imread(tmp_path / "out" / f"{name}_nuclei.tiff"), expected)
    table = rows(tmp_path / "out" / "MyExpt_Nuclei.csv")
    assert [float(row["AreaShape_Area"]) for row in table] == 2 * np.bincount(expected.ravel())[1:].tolist()


@pytest.mark.cellprofiler
@pytest.mark.slow
@needs_cellprofiler
def test_two_channels_and_objects_that_are_left_out_leave_no_gap(tmp_path, temporary_folder):
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
    pipeline = plugin_pipeline(tmp_path / "p.cppipe", settings)
    # As it was saved before there was a setting for the server.
    old, n = re.subn(f"    {re.escape(KEEP)}:.*\n", "", pipeline.read_text(encoding="utf-8"))
    number = "variable_revision_number:{}|"
    begin = "RunCellScribble:[module_num:5|svn_version:'Unknown'|"
    assert (n, old.count(begin + number.format(3))) == (1, 1)
    pipeline.write_text(old.replace(begin + number.format(3), begin + number.format(1)), encoding="utf-8")
    done = run(pipeline, tmp_path / "out", "-i", images)
    assert done.returncode == 0, done.stderr
    labels = tifffile.imread(tmp_path / "out" / "a_nuclei.tiff")
    assert np.unique(labels).tolist() == [0, 1, 2]
    assert labels[22, 47] == 0
    table = rows(tmp_path / "out" / "MyExpt_Nuclei.csv")
    assert [row["ObjectNumber"] for row in table] == ["1", "2"]
    assert all(float(row["AreaShape_Area"]) > 50 for row in table)
    assert all(0 <= float(row["Intensity_MaxIntensity_CellUncertainty"]) <= 1.000001 for row in table)
    assert len(servers(temporary_folder)) == 1


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
