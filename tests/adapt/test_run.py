import dataclasses

import numpy as np
import pytest

from cellscribble.adapt.network import NetworkFile
from cellscribble.adapt.run import _missing_note, adapt
from cellscribble.core.errors import InputError, ModelError, OutputError
from cellscribble.core.volume import ImageVolume
from cellscribble.infer.predict import predict
from cellscribble.io.scribbles import save_scribbles
from tests.conftest import Example, make_balls, make_disks


def inverted(example: Example) -> Example:
    """Dark cells on bright ground: what a model of bright cells calls background."""
    data = np.asarray(example.image.data)
    return example._replace(image=dataclasses.replace(example.image, data=data.max() - data, name="inverted"))


def strokes_of(folder, example: Example):
    path = folder / "strokes.tif"
    save_scribbles(path, example.scribbles, overwrite=True)
    return path


def iou(found: np.ndarray, mask: np.ndarray) -> float:
    inside, true = found > 0, mask > 0
    return float((inside & true).sum() / (inside | true).sum())


@pytest.mark.parametrize("ndim", [2, 3])
def test_strokes_on_an_image_of_another_kind_teach_the_model_this_kind(models, ndim, tmp_path):
    example = inverted(make_disks(3) if ndim == 2 else make_balls(3))
    adapted = adapt(models[ndim], example.image, strokes_of(tmp_path, example), tmp_path / "new.onnx")
    before, after = (
        iou(predict(example.image, model, device="cpu", as_classes=True).labels, example.mask)
        for model in (models[ndim], adapted.model)
    )
    # The network has seen three epochs: its features are poor, and are what they are.
    assert after > max(before + 0.15, 0.4)
    if ndim == 2:
        assert adapted.before.score < adapted.after.score == 1
        assert adapted.holdout.n_held == (2, 2)
    assert sum(adapted.n_pixels) == (example.scribbles >= 0).sum()


def test_the_new_model_says_where_it_comes_from(models, tmp_path):
    image = dataclasses.replace(make_disks(3).image, pixel_size_um=(0.5, 0.5))
    meta = adapt(models[2], image, strokes_of(tmp_path, make_disks(3)), tmp_path / "new.onnx").model.metadata
    assert (meta.name, meta.method) == ("disks for disks3", "metric_learning")
    assert meta.config["from"]["sha256"] == models[2].sha256
    assert meta.pixel_size_um == (0.5, 0.5)
    assert set(meta.data_hashes) - set(models[2].metadata.data_hashes) == {
        "disks3 (blocks with strokes)",
        "disks3 (strokes)",
    }
    assert meta.graph_cut["strength"] == 0.9
    assert 0.05 <= meta.edge_threshold <= 0.98


def test_an_adapted_model_is_adapted_again_from_where_it_was(models, tmp_path):
    example = inverted(make_disks(3))
    strokes = strokes_of(tmp_path, example)
    first = adapt(models[2], example.image, strokes, tmp_path / "first.onnx")
    assert NetworkFile(first.model).last_layer.metric is not None
    second = adapt(first.model, example.image, strokes, tmp_path / "second.onnx")
    assert second.before.score > first.before.score
    assert NetworkFile(second.model).n_features == 16


def test_the_same_seed_gives_the_same_network(models, tmp_path):
    strokes = strokes_of(tmp_path, make_disks(3))
    layers = [
        NetworkFile(adapt(models[2], make_disks(3).image, strokes, tmp_path / f"{i}.onnx").model).last_layer
        for i in range(2)
    ]
    np.testing.assert_array_equal(layers[0].classifier[0], layers[1].classifier[0])


def test_a_2d_model_learns_from_the_sections_of_a_stack(models, tmp_path):
    balls = inverted(make_balls(3))
    adapted = adapt(models[2], balls.image, strokes_of(tmp_path, balls), tmp_path / "new.onnx")
    assert adapted.model.metadata.axes == "CYX"
    assert adapted.notes == ()
    before, after = (
        iou(predict(balls.image, model, device="cpu", planes=True, as_classes=True).labels, balls.mask)
        for model in (models[2], adapted.model)
    )
    assert after > max(before, 0.6)


def test_of_a_large_image_only_what_is_near_strokes_goes_through_the_network(models, tmp_path, monkeypatch):
    from cellscribble.infer.runner import Runner

    disks = make_disks(3)
    data = np.tile(np.asarray(disks.image.data), (1, 16, 16))
    strokes = np.full(data.shape[1:], -1, np.int16)
    strokes[:64, :64] = disks.scribbles
    save_scribbles(tmp_path / "strokes.tif", strokes)
    seen, call = [], Runner.__call__
    monkeypatch.setattr(
        Runner, "__call__", lambda self, block, keep=None: (seen.append(block[0].size), call(self, block, keep))[1]
    )
    image = ImageVolume(data, "CYX", name="large")
    adapt(models[2], image, tmp_path / "strokes.tif", tmp_path / "new.onnx")
    # One block with its halo; once more to compare the file with what was trained, without halo and twice.
    assert len(seen) == 3
    assert sum(seen) < data.size / 4


def test_pixels_of_another_size_are_a_note(models, tmp_path):
    example = make_disks(3)
    strokes = strokes_of(tmp_path, example)
    image = dataclasses.replace(example.image, pixel_size_um=(0.5, 0.5))
    first = adapt(models[2], image, strokes, tmp_path / "first.onnx").model
    twice = dataclasses.replace(example.image, pixel_size_um=(1.0, 1.0))
    adapted = adapt(first, twice, strokes, tmp_path / "second.onnx")
    assert any("the image has pixels of 1 x 1 µm, the model was trained on 0.5 x 0.5" in n for n in adapted.notes)
    assert adapted.model.metadata.pixel_size_um == (1.0, 1.0)


def test_classes_without_strokes_are_a_note():
    assert _missing_note(("background", "nucleus", "mitosis"), np.array([30, 20, 0]))[0].startswith(
        "there are no strokes of mitosis"
    )
    assert _missing_note(("background", "nucleus"), np.array([3, 2])) == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s[:-1], r"are \(63, 64\) but the image is \(64, 64\) \[YX\]"),
        (lambda s: np.where(s == 1, 2, s), "class number 3, but the model has classes numbered 1 background, 2 cell"),
        (lambda s: np.where(s == 1, -1, s), "strokes of background only; draw strokes of two of the model's classes"),
        (lambda s: np.full_like(s, -1), "strokes of no class only|holds no strokes|no stroke"),
    ],
    ids=["shape", "class", "one class", "none"],
)
def test_strokes_that_do_not_fit_are_refused_and_nothing_is_written(models, tmp_path, change, message):
    save_scribbles(tmp_path / "strokes.tif", change(make_disks(3).scribbles))
    with pytest.raises(InputError, match=message):
        adapt(models[2], make_disks(3).image, tmp_path / "strokes.tif", tmp_path / "new.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["strokes.tif"]


def test_a_flat_image_for_a_3d_model_is_refused(models, tmp_path):
    with pytest.raises(ModelError, match=r"the model segments 3D images .* is 2D"):
        adapt(models[3], make_disks(3).image, strokes_of(tmp_path, make_disks(3)), tmp_path / "new.onnx")


def test_other_channels_are_refused(models, tmp_path):
    image = make_disks(3, n_channels=2).image
    with pytest.raises(ModelError, match="expects 1 channel"):
        adapt(models[2], image, strokes_of(tmp_path, make_disks(3)), tmp_path / "new.onnx")


def test_an_existing_file_is_kept(models, tmp_path):
    strokes = strokes_of(tmp_path, make_disks(3))
    (tmp_path / "new.onnx").write_text("mine")
    with pytest.raises(OutputError, match="exists"):
        adapt(models[2], make_disks(3).image, strokes, tmp_path / "new.onnx")
    assert (tmp_path / "new.onnx").read_text() == "mine"
