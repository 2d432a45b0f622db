import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import tifffile
import torch
import zarr

from cellscribble.adapt.run import adapt
from cellscribble.bundle import open_model
from cellscribble.cli.main import run as cellscribble
from cellscribble.config import TrainConfig
from cellscribble.core.errors import ModelError, OutputError
from cellscribble.core.intensity import fit_intensity
from cellscribble.core.volume import ImageVolume
from cellscribble.export import onnx as float_export
from cellscribble.export.int8 import changed_share, export_both, float_nodes, to_int8
from cellscribble.infer.blockwise import predict_probability
from cellscribble.infer.find_model import find_model, open_for
from cellscribble.infer.runner import Runner
from cellscribble.io.images import list_images, open_image
from cellscribble.train.run import train
from cellscribble.train.run_folder import load_tiles
from tests.conftest import Example, make_disks
from tests.infer.analytic import metadata, write_model
from tests.train.runs import Quiet, training_set

NUCLEI = Path(__file__).parents[2] / "examples" / "nuclei"
SHIPPED = open_model(find_model("nuclei_fluorescence"))


def tiles_of(folder, n):
    images = [open_image(path) for path in list_images(folder)[:n]]
    return [
        fit_intensity(image, SHIPPED.metadata.intensity).apply(np.asarray(image.data)[:, :256, :256])
        for image in images
    ]


@pytest.fixture(scope="module")
def int8(tmp_path_factory):
    """The shipped model, and the share of pixels that it was said to change."""
    return to_int8(SHIPPED, tiles_of(NUCLEI / "images", 3), tmp_path_factory.mktemp("int8") / "int8.onnx")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of twenty epochs on disks in a corner of a wide background."""
    folder, disks = tmp_path_factory.mktemp("runs") / "nuclei", make_disks(0)
    pixels = np.random.default_rng(0).normal(200, 20, (1, 192, 192)).clip(0).astype(np.uint16)
    strokes, mask = np.full((192, 192), -1, np.int16), np.zeros((192, 192), np.int32)
    pixels[:, :64, :64], strokes[:64, :64], mask[:64, :64] = disks.image.data, disks.scribbles, disks.mask
    config = TrainConfig(
        minutes=None, epochs=20, patch_px=64, batch_size=2, device="cpu", seed=4, method="partial_cross_entropy"
    )
    train(training_set(Example(ImageVolume(pixels, "CYX", name="disks"), mask, strokes)), config, folder, Quiet())
    return folder


@pytest.fixture
def run(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(float_export, "SIZES_2D", (64,))
    return shutil.copytree(trained, tmp_path / "nuclei")


def test_unseen_images_are_decided_as_by_the_float_model(int8):
    model, changed = int8
    seen, unseen = tiles_of(NUCLEI / "images", 3), tiles_of(NUCLEI / "test_images", 6)
    assert changed == changed_share(Runner(SHIPPED, "cpu"), Runner(model, "cpu"), seen) > 0
    assert changed_share(Runner(SHIPPED, "cpu"), Runner(model, "cpu"), unseen) < 1e-3
    assert model.path.stat().st_size < 0.35 * SHIPPED.path.stat().st_size


def test_the_metadata_is_that_of_the_float_model_but_for_the_precision(int8):
    assert int8[0].metadata == dataclasses.replace(SHIPPED.metadata, precision="int8", made_of=SHIPPED.sha256)
    assert int8[0].sha256 != SHIPPED.sha256
    assert not {"precision", "made_of"} & json.loads(SHIPPED.metadata.to_json()).keys()


def test_the_ends_of_the_network_stay_float_and_weights_have_seven_bits(int8):
    proto = onnx.load(str(int8[0].path))
    onnx.checker.check_model(proto, full_check=True)
    assert {o.domain for o in proto.opset_import} == {""}
    dequantised = {output for node in proto.graph.node if node.op_type == "DequantizeLinear" for output in node.output}
    convolutions = [node for node in proto.graph.node if node.op_type == "Conv"]
    as_float = {node.name for node in convolutions if node.input[1] not in dequantised}
    assert as_float == set(float_nodes(onnx.load(str(SHIPPED.path)).graph)) & {node.name for node in convolutions}
    assert as_float == {
        "/network/full/full.0/Conv",
        "/network/encoders.0/encoders.0.0/encoders.0.0.0/Conv",
        "/network/classify/Conv",
    }
    after_the_last = proto.graph.node[[node.name for node in proto.graph.node].index("/network/classify/Conv") :]
    assert not {"QuantizeLinear", "DequantizeLinear"} & {node.op_type for node in after_the_last}
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer}
    weights = [array for array in stored.values() if array.dtype == np.int8 and array.ndim == 4]
    assert len(weights) == len(convolutions) - 3
    assert max(np.abs(array.astype(int)).max() for array in weights) <= 64


@pytest.mark.parametrize("block_px", [(16,), (64, 112), (100,), (256,)])
def test_blocks_give_what_the_whole_gives(int8, block_px):
    image = ImageVolume(np.asarray(open_image(list_images(NUCLEI / "test_images")[0]).data)[:, :200, :231], "CYX")
    runner = Runner(int8[0], "cpu", threads=2)
    whole = predict_probability(image, int8[0], runner, (512,))
    assert 0.01 < (whole[1] > 0.5).mean() < 0.99
    # A value that is rounded otherwise is a whole step of its 256, so it would show.
    np.testing.assert_allclose(predict_probability(image, int8[0], runner, block_px), whole, atol=1e-5)


def test_labels_of_blocks_are_those_of_the_whole(int8, tmp_path):
    path = tmp_path / "cells.tif"
    tifffile.imwrite(path, np.asarray(open_image(list_images(NUCLEI / "test_images")[1]).data)[0])
    found = []
    for block in ("64", "512"):
        out = tmp_path / block
        args = ["predict", str(path), "-m", str(int8[0].path), "-o", str(out), "--device", "cpu", "--block", block]
        assert cellscribble([*args, "--format", "zarr"]) == 0
        found.append(np.asarray(zarr.open_group(next(out.glob("*_labels.zarr")), mode="r")["0"]))
    assert found[0].max() > 5
    # Numbered block after block: the same up to that.
    pairs = np.unique(np.stack([labels.ravel() for labels in found]), axis=1)
    assert pairs.shape[1] == found[0].max() + 1 == found[1].max() + 1


def test_an_int8_model_can_be_adapted(int8, tmp_path):
    disks = make_disks(3)
    tifffile.imwrite(tmp_path / "strokes.tif", (disks.scribbles + 1).astype(np.uint8))
    new = adapt(int8[0], disks.image, tmp_path / "strokes.tif", tmp_path / "new.onnx").model
    assert new.metadata.precision == "int8"
    inside = Runner(new, "cpu")(fit_intensity(disks.image, new.metadata.intensity).apply(disks.image.data))[1] > 0.5
    assert (inside & (disks.mask > 0)).sum() / (inside | (disks.mask > 0)).sum() > 0.7


def test_a_run_is_exported_with_its_int8_model(run, capsys):
    assert cellscribble(["export", str(run), "--licence", "CC0-1.0", "--json"]) == 0
    captured = capsys.readouterr()
    done, (model, out) = json.loads(captured.out), (run / "model.onnx", run / "model_int8.onnx")
    assert (done["model"], done["int8"]["model"]) == (str(model), str(out))
    assert 0 <= done["int8"]["changed_share"] <= 1e-3
    said = f"model_int8.onnx; {done['int8']['changed_share']:.3%} of the pixels of the training tiles"
    assert said in captured.err
    metadata = open_model(out).metadata
    assert (metadata.precision, metadata.license, metadata.name) == ("int8", "CC0-1.0", "nuclei")
    assert metadata.made_of == open_model(model).sha256
    assert cellscribble(["info", str(out)]) == 0
    assert "precision     int8" in capsys.readouterr().out
    assert cellscribble(["info", str(model)]) == 0
    assert "in 8 bits     model_int8.onnx, for processors" in capsys.readouterr().out
    model.unlink()
    before = out.read_bytes()
    with pytest.raises(OutputError, match=r"model_int8\.onnx exists already; give --overwrite"):
        export_both(run, model)
    assert not model.exists()
    assert export_both(run, model, overwrite=True).changed_share == done["int8"]["changed_share"]
    assert len(out.read_bytes()) > 0.9 * len(before)


def test_a_network_that_cannot_decide_stays_float(run, tmp_path, capsys):
    # The bias of the class is moved so that half of the pixels lie just below and half just above the decision.
    float_model, _ = float_export.export(run, tmp_path / "float.onnx")
    background, cell = np.median(Runner(float_model, "cpu")(load_tiles(run)[0]), axis=(1, 2))
    tensors = torch.load(run / "best.pt", weights_only=True)
    tensors["network"]["classify.bias"][1] -= float(np.log(cell / background))
    torch.save(tensors, run / "best.pt")
    undecided, _ = float_export.export(run, tmp_path / "undecided.onnx")
    out = run / "model_int8.onnx"
    with pytest.raises(
        ModelError, match=r"int8 decides \d+\.\d\d% of the pixels of the training tiles .*allowed 0\.1%"
    ):
        to_int8(undecided, load_tiles(run), out)
    assert not list(run.glob("*.onnx")) + list(run.glob(".partial*"))
    out.write_bytes(b"older")
    with pytest.raises(ModelError, match="use the float model"):
        to_int8(undecided, load_tiles(run), out, overwrite=True)
    assert out.read_bytes() == b"older"
    # An export takes away what was made of an older state of the run.
    assert cellscribble(["export", str(run), "--overwrite", "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["int8"] is None
    (words,) = [line for line in captured.err.splitlines() if "int8" in line]
    assert re.match(r"int8 decides \d+\.\d\d% of the pixels of the training tiles .*allowed 0\.1%", words)
    assert [path.name for path in run.glob("*.onnx")] == ["model.onnx"]
    assert not list(run.glob(".partial*"))


def test_a_processor_takes_the_int8_model_that_was_made_of_this_one(int8, tmp_path, monkeypatch):
    model, beside = tmp_path / "model.onnx", tmp_path / "model_int8.onnx"
    shutil.copy(SHIPPED.path, model)
    assert open_for("cpu", model).path == model
    shutil.copy(int8[0].path, beside)
    assert open_for("cpu", model).path == open_for("cpu", beside).path == beside
    assert open_for("cuda", model).path == model
    for there, expected in ((False, beside), (True, model)):
        monkeypatch.setattr("cellscribble.infer.runner.cuda_device_present", lambda there=there: there)
        assert open_for("auto", model).path == expected
    # Exported anew under another name: another file, of which this int8 model was not made.
    proto = onnx.load(str(model))
    onnx.helper.set_model_props(
        proto, {"cellscribble": dataclasses.replace(SHIPPED.metadata, name="another").to_json()}
    )
    onnx.save(proto, str(model))
    assert open_for("cpu", model).path == model
    beside.write_bytes(b"torn")
    with pytest.raises(ModelError, match=r"model_int8\.onnx"):
        open_for("cpu", model)


def test_predict_says_which_arithmetic_made_the_labels(int8, tmp_path, capsys):
    shutil.copy(SHIPPED.path, tmp_path / "model.onnx")
    shutil.copy(int8[0].path, tmp_path / "model_int8.onnx")
    path = tmp_path / "cells.tif"
    tifffile.imwrite(path, np.asarray(open_image(list_images(NUCLEI / "test_images")[0]).data)[0])
    command = ["predict", str(path), "-m", str(tmp_path / "model.onnx"), "--device", "cpu"]
    found = {}
    for name, more in (("int8", []), ("float", ["--float32"]), ("named", ["-m", str(int8[0].path)])):
        assert cellscribble([*command, "-o", str(tmp_path / name), *more]) == 0
        assert ("in 8 bits for the processor, model_int8.onnx" in capsys.readouterr().err) == (name == "int8")
        record = json.loads((tmp_path / name / "cells_labels.json").read_text())
        found[name] = record["model"]["sha256"], tifffile.imread(tmp_path / name / "cells_labels.tif")
    assert found["float"][0] == SHIPPED.sha256
    assert found["int8"][0] == found["named"][0] == int8[0].sha256
    np.testing.assert_array_equal(found["int8"][1], found["named"][1])
    differ = (found["int8"][1] > 0) != (found["float"][1] > 0)
    assert found["float"][1].max() > 0
    assert differ.mean() < 1e-3


def test_volumes_and_what_is_int8_already_are_refused(int8, tmp_path):
    with pytest.raises(ModelError, match="is an int8 model already"):
        to_int8(int8[0], [], tmp_path / "again.onnx")
    volumes = open_model(write_model(tmp_path / "volumes.onnx", metadata(3)))
    with pytest.raises(ModelError, match="int8 is for models of planes"):
        to_int8(volumes, [], tmp_path / "int8.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["volumes.onnx"]
