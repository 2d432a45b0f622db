"""Plans that are measured, kept to, and only shown."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from cellscribble.bundle import open_model
from cellscribble.cli.plan_words import plan_lines
from cellscribble.core.errors import InputError, OutputError
from cellscribble.engine import forecast, planner, steps
from cellscribble.engine.batch import predict_files
from cellscribble.engine.options import PredictOptions
from cellscribble.infer.find_model import find_model
from cellscribble.io.images import open_image
from cellscribble.io.ome_zarr import write_ome_zarr
from cellscribble.io.tiff import save_image
from tests.infer.analytic import disks, metadata, write_model

OBJECTS = {"threshold": 0.5, "smallest_object_px": 3, "largest_radius_px": 6.0, "largest_hole_px": 4}
GB = 10**9


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    meta = metadata(pixel_size_um=(0.5, 0.5), segmenter_parameters=OBJECTS)
    return open_model(write_model(tmp_path_factory.mktemp("model") / "model.onnx", meta))


@pytest.fixture
def slide(tmp_path):
    rng = np.random.default_rng(0)
    pixels = (255 * (ndimage.gaussian_filter(rng.standard_normal((300, 420)), 4) > 0.04)).astype(np.uint8)
    write_ome_zarr(tmp_path / "slide.zarr", pixels[None], "CYX", (0.5, 0.5), kind="image")
    return tmp_path / "slide.zarr"


def run(path, model, out=None, **options):
    heard = []

    def report(event, /, **fields):
        heard.append((event, fields))

    predict_files([path], model, out, PredictOptions(device="cpu", **options), report)
    return dict(heard)


def listing(folder):
    return sorted((str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in folder.rglob("*"))


@pytest.mark.parametrize("probability", [False, True])
def test_a_dry_run_says_what_is_needed_and_writes_nothing(slide, model, probability):
    before = listing(slide.parent)
    heard = run(slide, model, dry_run=True, block_px=(64,), probability=probability)
    assert listing(slide.parent) == before
    assert "done" not in heard
    plan = heard["plan"]
    assert plan["how"] == "blocks"
    assert (plan["block_px"], plan["n_blocks"], plan["halo_px"]) == ([64, 64], 5 * 7, [2, 2])
    assert 0 < plan["memory_bytes"] <= plan["most_memory_bytes"]
    # A byte of classes, four of numbers, one of tables, four of labels, one a class of probability; pyramids are a
    # third more.
    n = 300 * 420
    assert plan["disk_bytes"] == 6 * n + 4 * n * 4 // 3 + (2 * n * 4 // 3 if probability else 0)
    assert plan["seconds"] > 0
    assert str(slide.with_name("slide_labels.zarr")) in plan["writes"]
    heard = run(slide, model, block_px=(64,), probability=probability)
    assert set(plan["writes"]) >= {str(p) for p in slide.parent.iterdir() if p != slide}
    used = sum(p.stat().st_size for p in slide.with_name("slide_labels.zarr").rglob("*") if p.is_file())
    assert used < plan["disk_bytes"]


def test_a_dry_run_counts_the_blocks_that_look_empty_on_a_low_level(model, tmp_path):
    slide, pixels = tmp_path / "slide.zarr", np.full((1, 256, 512), 10, np.uint8)
    for y, x in ((30, 30), (100, 40), (220, 480)):
        pixels[0, y - 8 : y + 8, x - 8 : x + 8] = 200
    write_ome_zarr(slide, pixels, "CYX", (0.5, 0.5), kind="image", n_levels=4)
    plan = run(slide, model, dry_run=True, block_px=(64,))["plan"]
    assert (plan["n_blocks"], plan["n_look_empty"]) == (32, 29)
    whole = run(slide, model, dry_run=True, block_px=(64,), skip_empty=False)["plan"]
    assert whole["n_look_empty"] is None
    assert any("29 of the blocks look empty" in line for line in plan_lines(plan, dry_run=True))
    run(slide, model, block_px=(64,))
    assert json.loads((tmp_path / "slide_labels.json").read_text())["blocks"]["empty"] == 29
    # One level alone says nothing about itself.
    write_ome_zarr(tmp_path / "one.zarr", pixels, "CYX", (0.5, 0.5), kind="image", n_levels=1)
    assert run(tmp_path / "one.zarr", model, dry_run=True)["plan"]["n_look_empty"] is None


def test_a_low_level_that_cannot_be_judged_is_no_reason_to_plan_nothing(model, tmp_path):
    slide = tmp_path / "slide.zarr"
    write_ome_zarr(
        slide, disks()[np.newaxis, 0].repeat(4, 1).repeat(4, 2), "CYX", (0.5, 0.5), kind="image", n_levels=3
    )
    for chunk in (slide / "2").rglob("[0-9]*"):
        if chunk.is_file():
            chunk.write_bytes(b"damaged")
    plan = run(slide, model, dry_run=True)["plan"]
    assert plan["n_look_empty"] is None
    assert any("which blocks look empty is not known" in warning for warning in plan["warnings"])


def test_a_dry_run_of_a_file_makes_no_folder(model, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", disks()[0], imagej=True, resolution=(2, 2), metadata={"unit": "um"})
    before = listing(tmp_path)
    plan = run(tmp_path / "a.tif", model, tmp_path / "new" / "out", dry_run=True)["plan"]
    assert listing(tmp_path) == before
    assert plan["how"] == "memory"
    assert plan["writes"] == [str(tmp_path / "new" / "out" / name) for name in ("a_labels.json", "a_labels.tif")]


def test_a_dry_run_of_planes_looks_at_one_plane_at_a_time_and_writes_nothing(model, tmp_path):
    stack = disks((40, 150, 160))
    write_ome_zarr(tmp_path / "stack.zarr", stack, "CZYX", (1.0, 0.5, 0.5), kind="image")
    tifffile.imwrite(tmp_path / "stack.tif", stack[0])
    before = listing(tmp_path)
    plan = run(tmp_path / "stack.zarr", model, dry_run=True, planes=True, block_px=(10, 64, 64))["plan"]
    assert listing(tmp_path) == before
    assert (plan["how"], plan["n_blocks"], plan["halo_px"]) == ("blocks", 4 * 3 * 3, [0, 2, 2])
    assert str(tmp_path / "stack_labels.zarr") in plan["writes"]
    plan = run(tmp_path / "stack.tif", model, tmp_path, dry_run=True, planes=True)["plan"]
    assert (plan["how"], plan["halo_px"]) == ("memory", [0, 2, 2])
    assert listing(tmp_path) == before
    heard = run(tmp_path / "stack.zarr", model, planes=True, max_memory=64 * GB)
    assert heard["done"]["n_objects"] == 2


def test_a_dry_run_is_refused_like_the_run_itself(slide, model, tmp_path):
    run(slide, model)
    with pytest.raises(OutputError, match="--overwrite"):
        run(slide, model, dry_run=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write into"):
        run(slide, model, tmp_path / "file" / "out", dry_run=True)


def test_a_limit_that_cannot_be_kept_fails_before_anything_is_written(slide, model, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.asarray(open_image(slide).data)[0])
    before = listing(tmp_path)
    message = r"--max-memory 50 MB is too little for this image.*give at least [\d.]+ [MG]B"
    with pytest.raises(InputError, match=message):
        run(slide, model, max_memory=50 * 10**6)
    assert listing(tmp_path) == before
    with pytest.raises(InputError, match=r"image 'a', which is segmented in memory.*OME-Zarr"):
        run(tmp_path / "a.tif", model, tmp_path, max_memory=50 * 10**6)
    assert listing(tmp_path) == before


def test_labels_do_not_depend_on_the_limit(slide, model):
    labels = []
    for limit in (None, 64 * GB):
        run(slide, model, max_memory=limit, block_px=None if limit else (96,), overwrite=True)
        labels.append(np.asarray(open_image(slide.with_name("slide_labels.zarr")).data))
    np.testing.assert_array_equal(labels[0] > 0, labels[1] > 0)
    assert labels[0].max() == labels[1].max() > 5
    pairs = np.unique(np.stack([labels[0].ravel(), labels[1].ravel()]), axis=1)
    assert len(pairs[0]) == len(np.unique(pairs[0])) == len(np.unique(pairs[1]))


class Killed(BaseException):
    """Ends a run as nothing that is handled would."""


def test_a_run_that_is_gone_on_with_keeps_its_blocks_whatever_the_limit(slide, model, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(planner, "available_bytes", lambda: 10**6)  # the least there is
        patch.setattr(steps.Number, "__call__", lambda self, k: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            run(slide, model)
    unfinished = slide.with_name("slide_labels.unfinished")
    block = json.loads((unfinished / "job.json").read_text())["facts"]["block_px"]
    assert run(slide, model, dry_run=True, max_memory=64 * GB)["plan"]["block_px"] == block
    seen = []
    monkeypatch.setattr(steps.See, "__call__", lambda self, k: seen.append(k))
    heard = run(slide, model, max_memory=64 * GB)
    assert heard["plan"]["block_px"] == block
    assert not seen
    assert "anew" not in " ".join(heard["done"]["notes"])
    assert json.loads(slide.with_name("slide_labels.json").read_text())["blocks"]["size_px"] == block


def test_a_disk_with_too_little_room_for_the_labels_is_named(slide, model, monkeypatch):
    assert run(slide, model, dry_run=True)["plan"]["warnings"] == []
    usage = shutil.disk_usage(slide)
    monkeypatch.setattr(forecast.shutil, "disk_usage", lambda path: usage._replace(free=100_000))
    heard = run(slide, model)
    (warning,) = heard["plan"]["warnings"]
    assert "100 kB are free" in warning
    assert "labels take up to 672 kB" in warning
    assert "done" in heard  # packed they take less


def test_an_image_too_large_to_resample_in_memory_is_refused(slide, model, monkeypatch, tmp_path):
    save_image(tmp_path / "fine.tif", np.asarray(open_image(slide).data), "CYX", (0.2, 0.2))
    monkeypatch.setattr(planner, "available_bytes", lambda: 10**6)
    with pytest.raises(InputError, match="too large to resample in memory"):
        run(tmp_path / "fine.tif", model, tmp_path / "out", rescale=True)


def test_a_network_is_measured_as_larger_if_it_is_larger(tmp_path):
    """16 channels of float32 between input and output take 64 bytes a pixel and more."""
    import onnx
    from onnx import helper, numpy_helper

    path = write_model(tmp_path / "model.onnx", metadata())
    wide = onnx.load(str(path))
    spread = numpy_helper.from_array(np.full((64, 1, 1, 1), 1 / 64, np.float32), "spread64")
    gather = numpy_helper.from_array(np.full((1, 64, 1, 1), 1.0, np.float32), "gather64")
    wide.graph.initializer.extend([spread, gather])
    nodes = [
        helper.make_node("Conv", ["image", "spread64"], ["many"]),
        helper.make_node("Sigmoid", ["many"], ["many2"]),
        helper.make_node("Conv", ["many2", "gather64"], ["image2"]),
    ]
    for node in wide.graph.node:
        node.input[:] = ["image2" if name == "image" else name for name in node.input]
    old = list(wide.graph.node)
    del wide.graph.node[:]
    wide.graph.node.extend([*nodes, *old])
    onnx.save(wide, str(tmp_path / "wide.onnx"))
    # In processes of their own: memory that a test before has freed would be taken first.
    script = (
        "import sys; from cellscribble.bundle import open_model; from cellscribble.engine import planner;"
        "from cellscribble.infer.runner import Runner; m = open_model(sys.argv[1]);"
        "r = Runner(m, 'cpu', threads=1); planner._try(r, (8, 8), 1, 1);"
        "print(planner._try(r, (512, 512), 1, 1)[0])"
    )
    measured = [
        float(
            subprocess.run([sys.executable, "-c", script, str(p)], capture_output=True, text=True, check=True).stdout
        )
        for p in (path, tmp_path / "wide.onnx")
    ]
    assert measured[1] - measured[0] > 150
    assert measured[1] < 1500


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "wait4"), reason="the system does not tell the peak of a process")
@pytest.mark.parametrize("limit_mb", [400, 1000])
def test_the_whole_program_stays_below_the_limit(tmp_path, limit_mb):
    rng = np.random.default_rng(1)
    tile = ndimage.gaussian_filter(rng.standard_normal((1024, 1024)).astype(np.float32), 5)
    tile = np.clip(128 + 128 * tile / tile.std() + 8 * rng.standard_normal(tile.shape), 0, 255).astype(np.uint8)
    write_ome_zarr(tmp_path / "slide.zarr", np.tile(tile, (4, 4))[None], "CYX", kind="image")
    command = [sys.executable, "-m", "cellscribble", "predict", str(tmp_path / "slide.zarr"), "--device", "cpu"]
    command += ["-m", str(find_model("nuclei_fluorescence")), "--max-memory", f"{limit_mb}MB"]
    # By a small program in between: Linux reckons what the one that starts it holds as the program's own.
    starter = "import resource, subprocess, sys; code = subprocess.call(sys.argv[1:]); "
    starter += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(code)"
    done = subprocess.run([sys.executable, "-c", starter, *command], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    peak = int(done.stdout) * (1 if sys.platform == "darwin" else 1024)
    assert peak < limit_mb * 10**6
    record = json.loads((tmp_path / "slide_labels.json").read_text())
    assert record["n_objects"] > 1000
