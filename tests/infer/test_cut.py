import dataclasses

import numpy as np
import pytest
from scipy import ndimage

from cellscribble.bundle import ModelMetadata, open_model
from cellscribble.core.errors import InputError
from cellscribble.core.volume import ImageVolume
from cellscribble.engine.batch import predict_files
from cellscribble.engine.options import PredictOptions
from cellscribble.infer.cut import block_cut, cut_blocks
from cellscribble.infer.predict import predict
from cellscribble.io.images import open_image
from cellscribble.io.ome_zarr import write_ome_zarr
from tests.infer.analytic import metadata, write_model

CUT = {"strength": 0.9, "sigma": 0.2, "delta": 0.1}


def noisy(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """(1, *shape) uint8: blobs under noise, so that many pixels are in doubt."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=shape), 4)
    return np.clip(128 + 60 * smooth / smooth.std() + rng.normal(0, 60, shape), 0, 255).astype(np.uint8)[None]


def model_of(folder, ndim: int, **changes):
    settings = {"halo_px": (16,) * ndim, "graph_cut": CUT, **changes}
    return open_model(write_model(folder / "model.onnx", metadata(ndim, **settings)))


@pytest.mark.parametrize(("shape", "block"), [((150, 130), (32, 48)), ((40, 60, 50), (16, 20, 22))])
def test_blocks_agree_with_one_cut_of_the_whole(shape, block, tmp_path):
    meta = model_of(tmp_path, len(shape)).metadata
    image = ImageVolume(noisy(shape), "CYX" if len(shape) == 2 else "CZYX")
    p = ndimage.uniform_filter(image.data[0] / 255.0, 3).astype(np.float32)
    probability = np.stack([1 - p, p])
    cut = block_cut(meta)
    whole = cut_blocks(image, probability, meta, cut, shape)
    parts = cut_blocks(image, probability, meta, cut, block)
    alone = cut_blocks(image, probability, meta, dataclasses.replace(cut, overlap_px=(0,) * len(shape)), block)
    changed = (whole[1] > 0) != (p > 0.5)
    assert changed.mean() > 0.02
    assert ((whole[1] > 0) != (parts[1] > 0)).mean() < 1e-4
    # What blocks see around them is what makes them agree.
    assert ((whole[1] > 0) != (alone[1] > 0)).mean() > 1e-3


@pytest.mark.parametrize("as_classes", [True, False])
def test_the_engine_cuts_as_predict_does(as_classes, tmp_path):
    model = model_of(tmp_path, 2)
    path = tmp_path / "slide.zarr"
    write_ome_zarr(path, noisy((150, 130), 1), "CYX", kind="image")
    options = PredictOptions(device="cpu", block_px=(64, 48), as_classes=as_classes, skip_empty=False)
    (job,) = predict_files([path], model, None, options, lambda event, /, **fields: None)
    found = np.asarray(open_image(job.labels).data)[0]
    image = open_image(path)
    expected = predict(image, model, as_classes=as_classes, block_px=(64, 48), device="cpu")
    plain = predict(image, _without(model), as_classes=as_classes, block_px=(64, 48), device="cpu")
    np.testing.assert_array_equal(found > 0, expected.labels > 0)
    assert found.max() == expected.labels.max()
    assert ((plain.labels > 0) != (expected.labels > 0)).mean() > 0.01
    np.testing.assert_array_equal(plain.probability, expected.probability)
    assert any("decided by a graph cut, block by block" in note for note in expected.notes)


def _without(model):
    return dataclasses.replace(model, metadata=dataclasses.replace(model.metadata, graph_cut=None))


def test_a_cut_has_no_threshold_and_bad_settings_are_named(tmp_path):
    model = model_of(tmp_path, 2)
    image = ImageVolume(noisy((32, 32)), "CYX")
    with pytest.raises(InputError, match="--threshold does not apply to a model that decides by a graph cut"):
        predict(image, model, threshold=0.4, device="cpu")
    with pytest.raises(InputError, match="strength of the graph cut is 3"):
        predict(image, model_of(tmp_path, 2, graph_cut={"strength": 3}), device="cpu")


def test_models_without_a_cut_read_as_they_did():
    meta = metadata(2)
    assert "graph_cut" not in meta.to_json()
    assert ModelMetadata.from_json(meta.to_json()).graph_cut is None
    cut = dataclasses.replace(meta, graph_cut=CUT)
    assert ModelMetadata.from_json(cut.to_json()) == cut
