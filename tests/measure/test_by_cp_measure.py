"""What cp_measure measures beside our own measurements, and what keeps the two of one object together."""

import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from cp_measure.bulk import get_core_measurements
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cellscribble.cli.main import run
from cellscribble.io.images import open_image
from cellscribble.io.tiff import save_labels
from cellscribble.measure import by_cp_measure
from tests.measure.test_tables import rows

NUCLEI = Path(__file__).parents[2] / "examples" / "nuclei"
ALSO = ("--also", "texture,distribution")


def example():
    """A real image, its nuclei drawn by hand."""
    image = next(p for p in sorted((NUCLEI / "test_images").iterdir()))
    return image, next((NUCLEI / "test_labels").glob(f"{image.stem}*"))


def read(path):
    return np.asarray(open_image(path).data[0])


def measured(out, labels, image, *args):
    command = ["measure", str(labels), str(image), "-o", str(out), "--channels", "DNA", "--overwrite", *args]
    assert run(command) == 0
    return rows(out / "MyExpt_Cells.csv")


def streamed(out, labels, image, *args):
    """As images are measured of which cp_measure would need too much memory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(by_cp_measure, "MAX_PIXELS", 0)
        return measured(out, labels, image, *args)


def numbers_of(table, name):
    values = np.array([float(row[name]) for row in table])
    # -90 and 90 degrees are one direction.
    return np.exp(2j * np.radians(values)) if name == "AreaShape_Orientation" else values


def assert_same_tables(some, others):
    assert [list(row) for row in some] == [list(row) for row in others]
    for name in some[0] if some else ():
        np.testing.assert_allclose(
            numbers_of(some, name), numbers_of(others, name), rtol=1e-6, atol=1e-6, err_msg=name
        )


def test_sizes_shapes_and_intensities_of_real_nuclei_are_those_of_cp_measure(tmp_path):
    image, labels = example()
    numbers, values = read(labels).astype(np.int32), read(image) / 255.0
    theirs = {}
    for group in ("sizeshape", "intensity", "zernike", "feret"):
        theirs |= get_core_measurements(legacy=True)[group](numbers, values)
    objects = measured(tmp_path, labels, image)
    n_columns = 0
    for name, column in theirs.items():
        key = f"AreaShape_{name}" if f"AreaShape_{name}" in objects[0] else f"{name}_DNA"
        if key in objects[0] and not key.startswith("Location_Max"):
            assert [float(row[key]) for row in objects] == list(column)
            n_columns += 1
    assert n_columns > 70
    assert_same_tables(objects, streamed(tmp_path, labels, image))


@st.composite
def planes_and_stacks(draw):
    """Labels of any shapes: dots, lines, holes, pieces that touch a border or only a corner, and grey values."""
    ndim = draw(st.sampled_from([2, 2, 3]))
    shape = draw(st.tuples(*[st.integers(1 if ndim == 2 else 2, 24 if ndim == 2 else 8)] * ndim))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    filled = rng.random(shape) < draw(st.sampled_from([0.0, 0.05, 0.2, 0.5, 0.8, 1.0]))
    labels, _ = ndimage.label(filled, np.ones((3,) * ndim) if draw(st.booleans()) else None)
    if draw(st.booleans()):
        # Touching objects, and some of several pieces.
        labels = np.where(filled, rng.integers(1, 4, shape), 0)
    return labels.astype(np.uint16), rng.integers(0, draw(st.sampled_from([1, 2, 65536])), shape).astype(np.uint16)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(planes_and_stacks())
def test_what_is_streamed_is_what_cp_measure_says_of_any_objects(tmp_path, case):
    labels, image = case
    axes = {} if labels.ndim == 2 else {"imagej": True, "metadata": {"axes": "ZYX", "spacing": 3.0, "unit": "um"}}
    tifffile.imwrite(tmp_path / "a_labels.tif", labels, **axes)
    tifffile.imwrite(tmp_path / "a.tif", image, **axes)
    paths = tmp_path / "a_labels.tif", tmp_path / "a.tif"
    assert_same_tables(measured(tmp_path / "m", *paths), streamed(tmp_path / "s", *paths, "--block", "7"))


def test_an_object_has_its_own_texture_whatever_its_number_its_block_and_its_neighbours_are(tmp_path):
    image, labels = example()
    numbers = read(labels).astype(np.uint16)
    whole = measured(tmp_path / "whole", labels, image, *ALSO)
    assert {"Texture_Contrast_DNA_3_00_256", "RadialDistribution_FracAtD_DNA_1of4"} <= set(whole[0])
    assert "RadialDistribution_ZernikePhase_DNA_9_9" in whole[0]
    assert measured(tmp_path / "blocks", labels, image, *ALSO, "--block", "50,70") == whole
    some = np.unique(numbers)[[2, 5, 9]]
    save_labels(tmp_path / "some_labels.tif", np.where(np.isin(numbers, some), numbers * 7, 0).astype(np.uint16))
    alone = measured(tmp_path / "some", tmp_path / "some_labels.tif", image, *ALSO)
    ranks = np.searchsorted(np.unique(numbers)[1:], some)
    for row, k in zip(alone, ranks, strict=True):
        for key in row:
            if key.startswith(("Texture", "RadialDistribution")):
                assert float(row[key]) == pytest.approx(float(whole[k][key]), rel=1e-6, abs=1e-6), key


def test_an_image_without_objects_has_the_same_columns(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    image, labels = example()
    (tmp_path / "imgs").mkdir()
    for name, numbers in (("a", read(labels) * 0), ("b", read(labels))):
        tifffile.imwrite(f"imgs/{name}.tif", read(image))
        save_labels(f"out/{name}_labels.tif", numbers.astype(np.uint16))
    assert run(["measure", "out", "imgs", *ALSO]) == 0
    images = rows(tmp_path / "cellscribble_measurements" / "MyExpt_Image.csv")
    assert [row["Count_Cells"] == "0" for row in images] == [True, False]


def test_a_stack_has_a_texture_in_thirteen_directions_and_no_distribution(tmp_path, rng, capsys):
    labels, image = tmp_path / "a_labels.tif", tmp_path / "a.tif"
    tifffile.imwrite(image, rng.integers(50, 200, (6, 20, 20)).astype(np.uint8), imagej=True, metadata={"axes": "ZYX"})
    numbers = np.zeros((6, 20, 20), np.uint16)
    numbers[1:5, 4:16, 4:16] = 1
    tifffile.imwrite(labels, numbers, imagej=True, metadata={"axes": "ZYX"})
    (row,) = measured(tmp_path / "out", labels, image, "--also", "texture")
    assert "Texture_Entropy_DNA_3_12_256" in row
    assert run(["measure", str(labels), str(image), "-o", str(tmp_path / "out2"), *ALSO]) == 1
    assert "defined for planes" in capsys.readouterr().err


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_numbers_may_fill_their_type(tmp_path, rng, dtype):
    side = 4 * int(np.ceil(np.sqrt(np.iinfo(dtype).max)))
    dots = np.zeros((side, side), bool)
    dots[1::4, 1::4] = dots[2::4, 1::4] = True
    count = np.cumsum(dots[1::4, 1::4]).reshape(dots[1::4, 1::4].shape)
    numbers = np.kron(np.where(count <= np.iinfo(dtype).max, count, 0), np.ones((4, 4), int)) * dots
    tifffile.imwrite(tmp_path / "a_labels.tif", numbers.astype(dtype))
    tifffile.imwrite(tmp_path / "a.tif", rng.integers(1, 200, numbers.shape).astype(np.uint8))
    also = ("--also", "distribution" if dtype == np.uint8 else "texture")
    table = measured(tmp_path / "out", tmp_path / "a_labels.tif", tmp_path / "a.tif", *also, "--quick")
    assert len(table) == np.iinfo(dtype).max
    assert any(key.startswith(("Texture", "Radial")) for key in table[0])


def test_labels_of_another_size_fail_alone(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    image, labels = example()
    (tmp_path / "imgs").mkdir()
    for name, cut in (("a", 20), ("b", None)):
        tifffile.imwrite(f"imgs/{name}.tif", read(image))
        save_labels(f"out/{name}_labels.tif", read(labels)[:cut].astype(np.uint16))
    assert run(["measure", "out", "imgs", *ALSO]) == 1
    assert "give the image that was segmented" in capsys.readouterr().err
    assert len(rows(tmp_path / "cellscribble_measurements" / "MyExpt_Image.csv")) == 1


@pytest.mark.parametrize(
    ("largest", "value", "images", "said"),
    [
        (99, 0.5, True, "whole in memory"),
        (1 << 24, 7.0, True, "fractions from 0 to 1"),
        (1 << 24, np.nan, True, "fractions from 0 to 1"),
        (1 << 24, 0.5, False, "give IMAGES too"),
    ],
)
def test_what_has_no_texture_is_said(tmp_path, capsys, monkeypatch, largest, value, images, said):
    monkeypatch.setattr(by_cp_measure, "MAX_PIXELS", largest)
    tifffile.imwrite(tmp_path / "a.tif", np.full((20, 20), value, np.float32))
    save_labels(tmp_path / "a_labels.tif", np.ones((20, 20), np.uint16))
    args = [str(tmp_path / "a_labels.tif"), *([str(tmp_path / "a.tif")] if images else [])]
    assert run(["measure", *args, "-o", str(tmp_path / "out"), *ALSO]) == 1
    assert said in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("*.csv"))


def test_without_cp_measure_the_remedy_is_named_before_anything_is_read(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "cp_measure.bulk", None)
    assert run(["measure", str(tmp_path / "none"), str(tmp_path / "none"), *ALSO]) == 1
    assert "pip install cp-measure" in capsys.readouterr().err


def test_an_unknown_group_is_refused(capsys):
    assert run(["measure", "a", "b", "--also", "texture,granularity"]) == 2
    assert "granularity is not a group" in capsys.readouterr().err
