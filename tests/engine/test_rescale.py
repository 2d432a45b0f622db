"""Images whose pixels are not the model's, block by block: the result of the whole, on the image's own grid."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellscribble.core.volume import ImageVolume
from cellscribble.infer.predict import predict
from cellscribble.infer.resample import resample_image
from cellscribble.infer.uncertainty import uncertainty
from cellscribble.io.images import open_image
from cellscribble.io.ome_zarr import write_ome_zarr
from tests.engine.test_zarr_job import chunks, picture, segment
from tests.segment.test_blocks import assert_same_objects

SIZES = st.sampled_from([0.2, 0.35, 0.5, 0.9, 1.3, 2.0])


def of_pixel_size(model, um: float = 0.5):
    return replace(model, metadata=replace(model.metadata, pixel_size_um=(um,) * model.metadata.ndim))


def write(folder, pixels, um, name="slide"):
    path = folder / f"{name}.zarr"
    write_ome_zarr(path, pixels, "CYX" if pixels.ndim == 3 else "CZYX", um, kind="image", n_levels=1)
    return path


def pixels_of(path):
    return np.asarray(open_image(path).data)


@settings(max_examples=25)
@given(data=st.data())
def test_any_block_and_pixel_size_gives_labels_and_probability_of_the_whole(models, tmp_path_factory, data):
    ndim = data.draw(st.sampled_from([2, 2, 3]))
    shape = data.draw(st.sampled_from([(90, 120), (61, 150)] if ndim == 2 else [(8, 30, 26)]))
    um = tuple(data.draw(SIZES) for _ in shape)
    block = tuple(data.draw(st.integers(16, 70) if ndim == 2 else st.integers(6, 24)) for _ in shape)
    pixels = picture(shape, data.draw(st.integers(0, 10**6)), data.draw(st.floats(2, 14)))
    model = of_pixel_size(models[ndim])
    whole = predict(ImageVolume(pixels, model.metadata.axes, um), model, device="cpu", rescale=True)
    path = write(tmp_path_factory.mktemp("slide"), pixels, um)
    job, _ = segment(path, model, block_px=block, rescale=True, probability=True, uncertainty=True, skip_empty=False)
    assert_same_objects(pixels_of(job.labels)[0], whole.labels)
    np.testing.assert_allclose(pixels_of(job.probability) / 255, whole.probability, atol=0.5 / 255 + 1e-5)
    unsure = uncertainty(whole.probability).astype(int)
    assert np.abs(pixels_of(job.uncertainty)[0] - unsure).max() <= 1
    record = json.loads(job.provenance.read_text())
    assert record["n_objects"] == whole.n_objects
    assert open_image(job.labels).pixel_size_um == pytest.approx(um)


def test_the_class_of_each_object_and_classes_are_those_of_the_whole(models, tmp_path):
    model, um = of_pixel_size(models["classes"], 0.125), (0.7, 0.5)
    pixels = picture((70, 90), 3, 3.0)
    whole = predict(ImageVolume(pixels, "CYX", um), model, device="cpu", rescale=True)
    job, _ = segment(write(tmp_path, pixels, um), model, block_px=(64,), rescale=True)
    assert_same_objects(pixels_of(job.labels)[0], whole.labels)
    record = json.loads(job.provenance.read_text())
    assert record["n_objects_by_class"] == np.bincount(whole.object_classes, minlength=3)[1:].tolist()
    coarse = of_pixel_size(models["classes"], 2.0)
    job, _ = segment(write(tmp_path, pixels, um, "coarse"), coarse, block_px=(16,), rescale=True, as_classes=True)
    expected = predict(ImageVolume(pixels, "CYX", um), coarse, device="cpu", rescale=True, as_classes=True)
    np.testing.assert_array_equal(pixels_of(job.labels)[0], expected.labels)


def test_an_object_that_lies_between_the_pixels_leaves_no_gap(models, tmp_path):
    model, um = of_pixel_size(models[2], 0.3), (0.5, 0.5)
    pixels = (255 * (np.random.default_rng(1).random((1, 60, 70)) > 0.8)).astype(np.uint8)
    image = ImageVolume(pixels, "CYX", um)
    whole = predict(image, model, device="cpu", rescale=True)
    seen = replace(resample_image(image, (100, 117)), pixel_size_um=(0.3, 0.3))
    assert predict(seen, model, device="cpu").n_objects > whole.n_objects
    job, _ = segment(write(tmp_path, pixels, um), model, block_px=(64,), rescale=True)
    assert_same_objects(pixels_of(job.labels)[0], whole.labels)


def test_versions_and_runs_give_the_same_labels(models, tmp_path):
    model, um = of_pixel_size(models[2], 1.0), (0.7, 0.8)
    pixels = picture((200, 230), 5, 12.0)
    options = {"rescale": True, "probability": True, "block_px": (48,)}
    job, _ = segment(write(tmp_path, pixels, um), model, **options)
    assert pixels_of(job.labels).shape == (1, 200, 230)
    again, _ = segment(write(tmp_path, pixels, um, "again"), model, **options)
    assert chunks(again.labels) == chunks(job.labels)
    assert chunks(again.probability) == chunks(job.probability)
    other, _ = segment(write(tmp_path, pixels, um, "other"), model, ome_zarr="0.5", **options)
    np.testing.assert_array_equal(pixels_of(other.labels), pixels_of(job.labels))
    np.testing.assert_array_equal(pixels_of(other.probability), pixels_of(job.probability))
