import dataclasses
import itertools
import json
import shutil

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from cellscribble.bundle import TRIM, open_model
from cellscribble.config import TrainConfig
from cellscribble.core.errors import ModelError, OutputError
from cellscribble.core.intensity import fit_intensity
from cellscribble.core.volume import ImageVolume
from cellscribble.export import onnx as module
from cellscribble.export.onnx import SIZES_2D, TOLERANCE, export, load_module, to_onnx
from cellscribble.infer.planes import over_planes
from cellscribble.infer.runner import Runner
from cellscribble.nn.build import build_network, receptive_field_px
from cellscribble.nn.heads import SoftmaxHead, WithHead
from cellscribble.train.run import train
from cellscribble.train.run_folder import load_facts
from tests.conftest import make_balls, make_disks
from tests.infer.analytic import metadata
from tests.train.runs import Quiet, training_set


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of two epochs in two dimensions."""
    folder = tmp_path_factory.mktemp("runs") / "nuclei"
    config = TrainConfig(minutes=None, epochs=2, patch_px=32, batch_size=2, holdout_share=0.25, device="cpu", seed=4)
    train(training_set(), config, folder, Quiet())
    return folder


@pytest.fixture
def run(trained, tmp_path, request, monkeypatch):
    if "several_sizes" not in request.node.name:
        monkeypatch.setattr(module, "SIZES_2D", (64,))  # the comparison takes most of the time
    return shutil.copytree(trained, tmp_path / "nuclei")


def test_torch_and_onnx_runtime_agree_on_several_sizes(run):
    model, comparisons = export(run, run / "model.onnx")
    assert [c.size_px for c in comparisons] == list(SIZES_2D)
    assert max(c.largest_difference for c in comparisons) <= TOLERANCE
    onnx.checker.check_model(str(model.path), full_check=True)
    assert {o.domain for o in onnx.load(str(model.path)).opset_import} == {""}


def test_a_block_is_the_same_with_and_without_its_halo(run, rng):
    model, _ = export(run, run / "model.onnx")
    runner = Runner(model, "cpu", threads=1)
    block = rng.random((1, 192, 208), np.float32)
    whole = runner(block)
    for y, x in itertools.product(
        (slice(0, 192), slice(64, 192), slice(64, 100), slice(70, 128)), (slice(0, 80), slice(64, 144))
    ):
        np.testing.assert_allclose(runner(block, (y, x)), whole[:, y, x], atol=1e-6)
    stack = np.stack([block, block[:, ::-1]], axis=1)
    planes = runner.seen_as(over_planes(model.metadata, ImageVolume(stack, "CZYX"))[0])
    inner = (slice(0, 2), slice(64, 128), slice(64, 144))
    np.testing.assert_allclose(planes(stack, inner), planes(stack)[(slice(None), *inner)], atol=1e-6)


def test_the_halo_of_the_inner_pixels_is_not_computed_to_the_end(run, rng):
    """A network that is told of a halo gives only what is inside of it."""
    model, _ = export(run, run / "model.onnx")
    session = onnxruntime.InferenceSession(str(model.path), providers=["CPUExecutionProvider"])
    image = rng.random((1, 1, 192, 208), np.float32)
    (whole,) = session.run(None, {"image": image})
    (inner,) = session.run(None, {"image": image, TRIM: np.array([[1, 1], [0, 1]])})
    assert whole.shape == (1, 2, 192, 208)
    assert inner.shape == (1, 2, 64, 144)
    assert [i.name for i in session.get_inputs()] == ["image"]


def test_the_halo_of_a_volume_is_left_out_too(tmp_path, rng):
    torch.manual_seed(0)
    network = build_network("light", 1, 2, 3).eval()
    stride, halo = network.stride_multiple, receptive_field_px(network, 1)
    meta = metadata(3, stride_multiple=stride, halo_px=halo)
    path = tmp_path / "volume.onnx"
    path.write_bytes(to_onnx(WithHead(network, SoftmaxHead()).eval(), meta))
    runner = Runner(open_model(path), "cpu", threads=1)
    h = meta.read_halo_px[2]
    block = rng.random((1, 16, 16, 2 * h + 16), np.float32)
    whole, keep = runner(block), (slice(0, 16), slice(0, 16), slice(h, h + 16))
    np.testing.assert_allclose(runner(block, keep), whole[(slice(None), *keep)], atol=1e-6)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (inner,) = session.run(None, {"image": block[None], TRIM: np.array([[0, 0], [0, 0], [1, 1]])})
    assert inner.shape == (1, 2, 16, 16, 16)


def test_the_exported_network_is_the_best_state_with_its_edge_level(run):
    model, _ = export(run, run / "model.onnx")
    facts = load_facts(run)
    disks = make_disks(9)
    image = fit_intensity(disks.image, facts.intensity).apply(disks.image.data)
    probability = Runner(model, "cpu", threads=1)(image)
    network = load_module(run, facts).network
    with torch.inference_mode():
        raw = torch.softmax(network(torch.from_numpy(image)[None]), dim=1)[0].numpy()
    level = facts.edge_threshold
    odds = raw[1] / raw[0] * (1 - level) / level
    np.testing.assert_allclose(probability[1], odds / (1 + odds), atol=1e-4)


def test_the_metadata_says_everything(run):
    metadata = open_model(export(run, run / "model.onnx")[0].path).metadata
    assert metadata.name == "nuclei"
    assert len(metadata.classes) == len(metadata.colors) == 2
    assert (metadata.axes, metadata.channels, metadata.is_rgb) == ("CYX", ("channel 1",), False)
    assert (metadata.stride_multiple, metadata.halo_px) == ((16, 16), (61, 61))
    assert metadata.intensity.kind == "percentile"
    assert metadata.segmenter == "instances"
    assert "threshold" in metadata.segmenter_parameters
    assert 0.1 <= metadata.edge_threshold <= 0.98
    assert metadata.method == "scribble2label"
    assert metadata.config["patch_px"] == 32
    assert metadata.seed == 4
    assert {"cellscribble", "torch", "onnx"} <= metadata.versions.keys()
    assert set(metadata.data_hashes) == {"disks0", "disks0 (strokes)", "disks1", "disks1 (strokes)"}
    assert all(len(value) == 64 for value in metadata.data_hashes.values())
    assert metadata.citation.startswith("Lee & Jeong, MICCAI 2020")
    assert metadata.created
    assert metadata.command


def test_a_network_that_differs_is_refused_and_not_written(run, monkeypatch):
    honest = module.to_onnx

    def tampered(exported, metadata):
        state = torch.nn.Module.state_dict(exported)
        state["network.classify.bias"][1] += 0.01
        data = honest(exported, metadata)
        state["network.classify.bias"][1] -= 0.01
        return data

    monkeypatch.setattr(module, "to_onnx", tampered)
    with pytest.raises(ModelError, match=r"differs from the trained one by 0\.00\d+ on a 64 px tile .*do not use it"):
        export(run, run / "model.onnx")
    assert not list(run.glob("*.onnx")) + list(run.glob(".partial*"))
    # An older model stays as it was.
    (run / "model.onnx").write_bytes(b"older")
    with pytest.raises(ModelError, match="differs"):
        export(run, run / "model.onnx", overwrite=True)
    assert (run / "model.onnx").read_bytes() == b"older"


def test_a_network_that_gives_no_numbers_is_refused(run):
    tensors = torch.load(run / "best.pt", weights_only=True)
    tensors["network"]["classify.bias"][0] = float("nan")
    torch.save(tensors, run / "best.pt")
    with pytest.raises(ModelError, match="do not use it"):
        export(run, run / "model.onnx")
    assert not (run / "model.onnx").exists()


def test_weights_of_another_network_are_refused(run):
    tensors = torch.load(run / "best.pt", weights_only=True)
    tensors["network"]["classify.bias"] = torch.zeros(5)
    torch.save(tensors, run / "best.pt")
    with pytest.raises(ModelError, match=r"best\.pt does not fit the network of this run"):
        export(run, run / "model.onnx")


def test_metadata_of_another_network_is_refused(run):
    facts = json.loads((run / "model.json").read_text())
    facts["config"]["network"] = "resnet34"
    (run / "model.json").write_text(json.dumps(facts))
    with pytest.raises(ModelError, match="does not fit the network"):
        export(run, run / "model.onnx")
    (run / "model.json").write_text("{broken")
    with pytest.raises(ModelError, match=r"model\.json|model metadata"):
        export(run, run / "model.onnx")


def test_an_existing_model_is_replaced_only_when_told(run):
    (run / "model.onnx").write_bytes(b"older")
    with pytest.raises(OutputError, match="exists already; give --overwrite"):
        export(run, run / "model.onnx")
    export(run, run / "model.onnx", overwrite=True)
    assert (run / "model.onnx").stat().st_size > 100_000


def test_a_folder_that_is_no_run_is_refused(tmp_path, run):
    with pytest.raises(ModelError, match=r"is not a finished run: it has no model\.json; give the folder"):
        export(tmp_path, tmp_path / "model.onnx")
    for name in ("best.pt", "tiles.npz"):
        (run / name).unlink()
        with pytest.raises(ModelError, match=name.replace(".", r"\.")):
            export(run, run / "model.onnx")
        assert not (run / "model.onnx").exists()
        if name == "best.pt":
            shutil.copy(run / "last.pt", run / "best.pt")


def test_a_volume_exports(tmp_path, tiny_config):
    balls = make_balls(0, 2)
    image = dataclasses.replace(balls.image, pixel_size_um=(2.0, 0.5, 0.5), channel_names=("DAPI", "GFP"))
    data = training_set(balls._replace(image=image))
    train(data, dataclasses.replace(tiny_config, epochs=1, batch_size=1), tmp_path, Quiet())
    model, comparisons = export(tmp_path, tmp_path / "model.onnx")
    assert max(c.largest_difference for c in comparisons) <= TOLERANCE
    assert model.metadata.axes == "CZYX"
    assert model.metadata.channels == ("DAPI", "GFP")
    assert model.metadata.pixel_size_um == (2.0, 0.5, 0.5)
    # z is 4 times coarser: two steps in the plane alone, then both.
    assert model.metadata.stride_multiple == (4, 16, 16)
