"""Which level of a pyramid is taken, and where its labels lie over the image."""

import itertools
import json
import math

import numpy as np
import pytest
import tifffile
import zarr

from cellscribble.bundle import open_model
from cellscribble.core.errors import InputError, ModelError
from cellscribble.engine.batch import predict_files
from cellscribble.engine.level import choose_level, nearest_level
from cellscribble.engine.options import PredictOptions
from cellscribble.io.images import level_pixel_sizes, open_image
from cellscribble.io.ome_zarr import write_ome_zarr
from tests.infer.analytic import disks, metadata, write_model

LEVELS = [(0.25, 0.25), (0.5, 0.5), (1.0, 1.0), (2.0, 2.0)]


@pytest.mark.parametrize(
    ("want", "level"),
    [(0.01, 0), (0.25, 0), (0.35, 0), (0.36, 1), (0.5, 1), (0.70, 1), (0.72, 2), (1.3, 2), (2.0, 3), (30.0, 3)],
)
def test_the_level_with_the_nearest_ratio_is_taken(want, level):
    assert nearest_level(LEVELS, (want, want)) == level


def test_of_two_that_are_equally_near_the_finer_is_taken():
    assert nearest_level(LEVELS, (math.sqrt(0.25 * 0.5),) * 2) == 0


def test_depth_counts_like_the_plane():
    # Only the plane shrinks, as of a thick stack.
    stack = [(2.0, 0.25, 0.25), (2.0, 0.5, 0.5), (2.0, 1.0, 1.0)]
    assert nearest_level(stack, (2.0, 0.5, 0.5)) == 1
    assert nearest_level(stack, (0.5, 0.5, 0.5)) == 1


def test_without_sizes_it_is_the_finest():
    assert nearest_level([None, None], (0.5, 0.5)) == 0


@pytest.fixture
def model(tmp_path):
    return open_model(write_model(tmp_path / "model.onnx", metadata(pixel_size_um=(0.5, 0.5))))


def pyramid(folder, um=0.25, offset=None, unit="micrometer"):
    """disks at 4 times their size, with 3 levels: um, 2 um and 4 um."""
    pixels = disks()[0].repeat(4, 0).repeat(4, 1)[None]
    write_ome_zarr(folder / "slide.zarr", pixels, "CYX", (um, um), kind="image", n_levels=3, overwrite=True)
    marks = folder / "slide.zarr" / ".zattrs"
    attributes = json.loads(marks.read_text())
    (multiscale,) = attributes["multiscales"]
    for axis in multiscale["axes"]:
        if unit != "micrometer":
            axis.pop("unit", None)
    if offset is not None:
        multiscale["coordinateTransformations"] = [{"type": "translation", "translation": [0.0, *offset]}]
    marks.write_text(json.dumps(attributes))
    return folder / "slide.zarr"


def run(path, model, **options):
    heard = []

    def report(event, /, **fields):
        heard.append((event, fields))

    (job,) = predict_files([path], model, None, PredictOptions(device="cpu", overwrite=True, **options), report)
    return job, dict(heard)


def test_the_level_is_chosen_and_said(model, tmp_path):
    job, heard = run(pyramid(tmp_path), model)
    assert heard["image"]["level"] == 1
    assert heard["image"]["why_level"] == (
        "level 1 of 3 (from 0), 0.5 x 0.5 µm, is nearest to the model's 0.5 x 0.5 µm"
    )
    labels = open_image(job.labels)
    assert labels.spatial_shape == (96, 128)
    assert labels.pixel_size_um == (0.5, 0.5)
    record = json.loads(job.provenance.read_text())
    assert record["settings"]["level"] == 1
    assert record["n_objects"] == 2


def test_a_level_that_is_asked_for_is_taken(model, tmp_path):
    path = pyramid(tmp_path)
    with pytest.raises(ModelError, match=r"--level takes another.*0: 0\.25 x 0\.25 µm, 1: 0\.5 x 0\.5 µm, 2: 1 x 1"):
        run(path, model, level=0)
    _, heard = run(path, model, level=0, ignore_pixel_size=True)
    assert (heard["image"]["level"], heard["image"]["why_level"]) == (0, "")
    with pytest.raises(InputError, match="no pyramid level 7"):
        run(path, model, level=7)


def test_if_no_level_fits_the_nearest_is_refused_and_all_are_named(model, tmp_path):
    with pytest.raises(ModelError, match=r"pixels of 3 x 3 µm.*--rescale.*2: 12 x 12 µm"):
        run(pyramid(tmp_path, um=3.0), model)
    _, heard = run(pyramid(tmp_path, um=0.7), model, rescale=True)
    assert heard["image"]["level"] == 0


def test_labels_that_go_into_the_image_have_all_its_levels(model, tmp_path):
    path = pyramid(tmp_path)
    with pytest.raises(ModelError, match="--level takes another"):
        run(path, model, into_image="cells")
    job, heard = run(path, model, into_image="cells", rescale=True)
    assert heard["image"]["level"] == 0
    assert open_image(job.labels).levels == open_image(path).levels
    assert len(open_image(path).levels) == 3


def test_pixel_sizes_that_are_ignored_choose_nothing(model, tmp_path):
    _, heard = run(pyramid(tmp_path), model, ignore_pixel_size=True)
    assert heard["image"]["level"] == 0


def test_of_a_stack_that_is_seen_plane_by_plane_the_plane_counts(model, tmp_path):
    stack = disks((20, 48, 64)).repeat(2, 2).repeat(2, 3)
    write_ome_zarr(tmp_path / "stack.zarr", stack, "CZYX", (3.0, 0.25, 0.25), kind="image", n_levels=2)
    _, heard = run(tmp_path / "stack.zarr", model, planes=True)
    assert heard["image"]["level"] == 1
    assert "0.5 x 0.5 µm, is nearest" in heard["image"]["why_level"]


def test_a_model_without_pixel_size_takes_the_finest(tmp_path):
    other = open_model(write_model(tmp_path / "other.onnx", metadata()))
    level = choose_level(pyramid(tmp_path), other.metadata, PredictOptions())
    assert (level.index, level.words) == (0, "")


def test_the_levels_of_a_tiff_are_known_by_its_pixel_size(model, tmp_path):
    pixels = disks()[0].repeat(4, 0).repeat(4, 1)
    with tifffile.TiffWriter(tmp_path / "slide.ome.tif") as tiff:
        sizes = {"PhysicalSizeX": 0.25, "PhysicalSizeXUnit": "um", "PhysicalSizeY": 0.25, "PhysicalSizeYUnit": "um"}
        tiff.write(pixels, subifds=2, metadata={"axes": "YX", **sizes})
        tiff.write(pixels[::2, ::2], subfiletype=1)
        tiff.write(pixels[::4, ::4], subfiletype=1)
    assert level_pixel_sizes(tmp_path / "slide.ome.tif") == [(0.25, 0.25), (0.5, 0.5), (1.0, 1.0)]
    assert choose_level(tmp_path / "slide.ome.tif", model.metadata, PredictOptions()).index == 1


def placed(path, kind):
    """Scale and offset of each level in µm (or without unit), y and x."""
    attributes = zarr.open_group(str(path), mode="r").attrs.asdict()
    (multiscale,) = attributes["multiscales"]
    out = []
    for dataset in multiscale["datasets"]:
        scale, offset = np.ones(2), np.zeros(2)
        for one in (*dataset["coordinateTransformations"], *multiscale.get("coordinateTransformations", ())):
            if one["type"] == "scale":
                scale, offset = scale * one["scale"][-2:], offset * one["scale"][-2:]
            else:
                offset = offset + one["translation"][-2:]
        out.append((scale, offset))
    return out


@pytest.mark.parametrize("unit", ["micrometer", ""])
@pytest.mark.parametrize(("level", "offset"), list(itertools.product([0, 1], [None, (100.0, 30.0)])))
@pytest.mark.parametrize("probability", [False, True])
def test_labels_lie_over_the_level_they_are_of(model, tmp_path, unit, level, offset, probability):
    path = pyramid(tmp_path, offset=offset, unit=unit)
    job, _ = run(path, model, level=level, ignore_pixel_size=True, probability=probability)
    image_scale, image_offset = placed(path, "image")[level]
    for result in [job.labels, *([job.probability] if probability else [])]:
        scale, moved = placed(result, "labels")[0]
        np.testing.assert_allclose(scale, image_scale)
        np.testing.assert_allclose(moved, image_offset)


def test_labels_of_other_units_are_in_micrometres(model, tmp_path):
    path = pyramid(tmp_path, offset=(100.0, 30.0))
    marks = path / ".zattrs"
    marks.write_text(marks.read_text().replace("micrometer", "millimeter"))
    job, _ = run(path, model, level=1, ignore_pixel_size=True)
    (scale, offset), (coarse_scale, coarse_offset) = placed(job.labels, "labels")
    np.testing.assert_allclose(coarse_scale, (1000, 1000))
    np.testing.assert_allclose(coarse_offset, (100e3 + 375, 30e3 + 375))
    np.testing.assert_allclose(scale, (500, 500))
    np.testing.assert_allclose(offset, (100e3 + 125, 30e3 + 125))
