import csv
import json
import resource
import signal
import sys

import numpy as np
import pytest
import tifffile

from cellscribble.cli.main import run
from cellscribble.io import ome_zarr_read
from cellscribble.io.ome_zarr import write_ome_zarr
from cellscribble.io.tiff import save_labels
from cellscribble.measure import blockwise, by_cp_measure, sorted_records, table_files
from tests.cli.test_main import modules_after
from tests.infer.analytic import disks, metadata, write_model


def rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Two images and their labels, with pixels of half a micrometre, where the user stands."""
    monkeypatch.chdir(tmp_path)
    labels = (disks()[0] > 0) * np.where(np.arange(64) < 32, 1, 2)
    for k, name in enumerate("ab"):
        (tmp_path / "imgs").mkdir(exist_ok=True)
        tifffile.imwrite(tmp_path / "imgs" / f"{name}.tif", disks()[0] + k)
        save_labels(tmp_path / "out" / f"{name}_labels.tif", labels.astype(np.uint16), (0.5, 0.5))
    return tmp_path


def test_tables_have_a_line_for_each_object_and_each_image(place, capsys):
    assert run(["measure", "out", "imgs"]) == 0
    assert "a: 2 objects" in capsys.readouterr().err
    objects = rows(place / "cellscribble_measurements" / "MyExpt_Cells.csv")
    assert [(row["ImageNumber"], row["ObjectNumber"]) for row in objects] == [
        ("1", "1"),
        ("1", "2"),
        ("2", "1"),
        ("2", "2"),
    ]
    assert list(objects[0])[:3] == ["ImageNumber", "ObjectNumber", "AreaShape_Area"]
    assert float(objects[0]["Intensity_MaxIntensity_Grey"]) == 200 / 255
    first, second = rows(place / "cellscribble_measurements" / "MyExpt_Image.csv")
    assert (first["Metadata_Name"], first["Count_Cells"]) == ("a", "2")
    assert second["FileName_Grey"] == "b.tif"
    # 48 x 64 pixels of 0.25 square micrometres.
    assert float(first["Density_Cells_per_mm2"]) == pytest.approx(2 / (48 * 64 * 0.25e-6))


def test_without_a_pixel_size_there_is_no_density_and_a_word_about_it(place, capsys):
    save_labels("out/b_labels.tif", np.ones((48, 64), np.uint16), overwrite=True)
    assert run(["measure", "out"]) == 0
    assert "1 of 2 label images do not say their pixel size" in capsys.readouterr().err
    first, second = rows(place / "cellscribble_measurements" / "MyExpt_Image.csv")
    assert float(first["Density_Cells_per_mm2"]) > 0
    assert second["Density_Cells_per_mm2"] == ""


def test_measure_needs_no_torch_and_no_images(place):
    code, modules, stderr = modules_after("measure", "out/a_labels.tif", "--objects", "Nuclei", "--quick", cwd=place)
    assert code == 0, stderr
    assert not modules & {"torch", "onnx", "onnxscript"}
    (first, _) = rows(place / "cellscribble_measurements" / "MyExpt_Nuclei.csv")
    assert "AreaShape_Perimeter" in first
    assert not {"AreaShape_Solidity", "Intensity_MeanIntensity_Grey"} & set(first)


def test_a_store_is_measured_like_the_file_and_piece_by_piece(place, monkeypatch, rng):
    labels = np.kron(np.arange(1, 31).reshape(5, 6), np.ones((30, 40), int))
    labels[::30] = labels[:, ::40] = 0
    image = rng.integers(0, 60000, (2, *labels.shape)).astype(np.uint16)
    names = ("DAPI", "GFP")
    write_ome_zarr("s_labels.zarr", labels.astype(np.uint16), "YX", (0.5, 0.5))
    write_ome_zarr("s.zarr", image, "CYX", (0.5, 0.5), kind="image", channel_names=names)
    save_labels("t_labels.tif", labels, (0.5, 0.5))
    tifffile.imwrite("t.tif", image, imagej=True, metadata={"axes": "CYX"})
    monkeypatch.setattr(ome_zarr_read, "LAZY_BYTES", 10)
    # As if this were more than cp_measure takes.
    monkeypatch.setattr(by_cp_measure, "MAX_PIXELS", 0)
    assert run(["measure", "s_labels.zarr", "s.zarr", "-o", "zarr", "--block", "33,50"]) == 0
    assert run(["measure", "t_labels.tif", "t.tif", "-o", "tif", "--channels", "DAPI,GFP"]) == 0
    expected = (place / "tif" / "MyExpt_Cells.csv").read_text()
    assert (place / "zarr" / "MyExpt_Cells.csv").read_text() == expected
    # As if these were more objects than memory takes.
    for module in (blockwise, sorted_records):
        monkeypatch.setattr(module, "AT_ONCE", 7)
    assert run(["measure", "s_labels.zarr", "s.zarr", "-o", "disk", "--block", "33,50"]) == 0
    assert (place / "disk" / "MyExpt_Cells.csv").read_text() == expected
    assert len(list((place / "disk").iterdir())) == 2


def test_parquet_holds_the_numbers_of_csv_and_is_written_in_parts(place, monkeypatch):
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setitem(table_files.LINES_AT_ONCE, "parquet", 3)
    # The first image has no object: what a column is does not hang on that.
    save_labels("out/a_labels.tif", np.zeros((48, 64), np.uint16), (0.5, 0.5), overwrite=True)
    labels = np.arange(48 * 64).reshape(48, 64) // 400 + 1
    save_labels("out/b_labels.tif", labels.astype(np.uint16), (0.5, 0.5), overwrite=True)
    for form in ("csv", "parquet"):
        assert run(["measure", "out", "imgs", "-o", "m", "--format", form]) == 0
    for table in ("Cells", "Image"):
        expected = rows(place / "m" / f"MyExpt_{table}.csv")
        found = parquet.read_table(place / "m" / f"MyExpt_{table}.parquet")
        assert found.column_names == list(expected[0])
        for name in found.column_names:
            kind = int if str(found.schema.field(name).type) == "int64" else float
            kind = str if str(found.schema.field(name).type) == "string" else kind
            np.testing.assert_equal(found[name].to_pylist(), [kind(row[name]) for row in expected])
    assert str(found.schema.field("Count_Cells").type) == "int64"
    file = parquet.ParquetFile(place / "m" / "MyExpt_Cells.parquet")
    assert [file.metadata.row_group(k).num_rows for k in range(file.num_row_groups)] == [0, 3, 3, 2]


def test_parquet_without_pyarrow_says_what_to_install(place, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert run(["measure", "out", "--format", "parquet"]) == 1
    assert "pip install 'cellscribble[parquet]'; or leave it out for CSV" in capsys.readouterr().err
    assert not (place / "cellscribble_measurements").exists()


def test_classes_are_counted(place):
    model = write_model(
        place / "m.onnx", metadata(classes=("background", "round cell", "long"), colors=((0, 0, 0),) * 3)
    )
    assert run(["predict", "imgs/a.tif", "-m", str(model), "-o", "several"]) == 0
    record = json.loads((place / "several" / "a_labels.json").read_text())
    assert run(["measure", "several", "-o", "m"]) == 0
    objects = rows(place / "m" / "MyExpt_Cells.csv")
    assert [int(row["CellScribble_Class"]) for row in objects] == record["object_classes"]
    (image,) = rows(place / "m" / "MyExpt_Image.csv")
    counts = [record["object_classes"].count(k) for k in (1, 2)]
    assert [int(image["Count_Cells_round_cell"]), int(image["Count_Cells_long"])] == counts


def test_no_object_of_any_class_is_counted_as_such(place):
    save_labels("out/b_labels.tif", np.zeros((48, 64), np.uint16), (0.5, 0.5), overwrite=True)
    record = {"classes": ["background", "round"], "object_classes": []}
    (place / "out" / "b_labels.json").write_text(json.dumps(record))
    assert run(["measure", "out/b_labels.tif", "-o", "m"]) == 0
    (image,) = rows(place / "m" / "MyExpt_Image.csv")
    assert image["Count_Cells_round"] == "0"


def test_a_full_disk_is_no_fault_of_the_image(place, capsys, monkeypatch):
    """It ends the run: what comes after would find no room either."""
    for module in (blockwise, sorted_records):
        monkeypatch.setattr(module, "AT_ONCE", 1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        assert run(["measure", "out", "imgs", "-o", "m"]) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert "may not grow that large" in capsys.readouterr().err.splitlines()[-1]
    assert not list((place / "m").iterdir())


def test_one_bad_file_is_listed_and_the_others_are_measured(place, capsys):
    tifffile.imwrite(place / "out" / "b_labels.tif", np.full((48, 64), 0.5, np.float32))
    assert run(["measure", "out", "imgs", "--json"]) == 1
    out, err = capsys.readouterr()
    assert [json.loads(line)["event"] for line in out.splitlines()] == ["done"]
    assert "b: b_labels holds fractions" in err.splitlines()[-1]
    assert len(rows(place / "cellscribble_measurements" / "MyExpt_Cells.csv")) == 2


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["out/a_labels.tif", "imgs/missing.tif"], "no image or folder"),
        (["out/a_labels.tif", "imgs/a.tif", "--channels", "a,b"], "2 names for the 1 channels"),
        (["out", "--objects", "my cells"], "such as my_cells"),
        (["imgs/a.tif", "other.tif"], "the image that was segmented"),
    ],
)
def test_what_cannot_be_measured_leaves_nothing(place, capsys, args, words):
    tifffile.imwrite(place / "other.tif", np.ones((5, 5), np.uint8))
    assert run(["measure", *args]) == 1
    assert words in capsys.readouterr().err.splitlines()[-1]
    assert not list(place.glob("cellscribble_measurements/*"))


def test_tables_are_replaced_only_when_told(place, capsys):
    assert run(["measure", "out"]) == 0
    assert run(["measure", "out"]) == 1
    assert "--overwrite" in capsys.readouterr().err.splitlines()[-1]
    assert run(["measure", "out", "--overwrite"]) == 0


def test_labels_of_a_coarser_level_are_measured_in_that_level(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = write_model(tmp_path / "model.onnx", metadata(pixel_size_um=(0.5, 0.5)))
    pixels = disks().repeat(2, 1).repeat(2, 2)
    write_ome_zarr(tmp_path / "slide.zarr", pixels, "CYX", (0.25, 0.25), kind="image", n_levels=3)
    assert run(["predict", "slide.zarr", "-m", str(model)]) == 0
    assert run(["measure", "slide_labels.zarr", "slide.zarr"]) == 0
    objects = rows(tmp_path / "cellscribble_measurements" / "MyExpt_Cells.csv")
    assert len(objects) == 2
    assert float(objects[0]["Intensity_MaxIntensity_Grey"]) == 200 / 255
