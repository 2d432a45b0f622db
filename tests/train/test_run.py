import dataclasses
import json
import os
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import torch

from cellscribble.bundle import ModelMetadata
from cellscribble.config import TrainConfig
from cellscribble.core.errors import InputError, OutputError, TrainingError
from cellscribble.export.onnx import export
from cellscribble.io.averages import Averages
from cellscribble.nn.build import build_network
from cellscribble.train import run as module
from cellscribble.train import timing
from cellscribble.train.checkpoint import load_state
from cellscribble.train.loop import Fit
from cellscribble.train.model_facts import channel_names
from cellscribble.train.run import patch_shape, train
from cellscribble.train.start import check_run, choose_device, choose_run_folder, resumed_config
from cellscribble.train.timing import measure_speed
from tests.conftest import Example, make_balls, make_disks
from tests.train.runs import Quiet, make_fit, training_set


def test_a_run_folder_holds_all_that_a_run_left(tiny_config, tmp_path):
    reporter = Quiet()
    result = train(training_set(), tiny_config, tmp_path / "run", reporter)
    names = {p.name for p in (tmp_path / "run").iterdir()}
    assert names == {
        "config.json",
        "model.json",
        "calibration.json",
        "inputs.json",
        "tiles.npz",
        "averages.npz",
        "last.pt",
        "best.pt",
        "history.csv",
        "curves.png",
        "seen.png",
    }
    assert (result.n_epochs, result.interrupted) == (4, False)
    assert result.holdout.n_held == (6, 4)
    assert result.score["n_strokes"] == [6, 4]
    metadata = ModelMetadata.from_json((tmp_path / "run" / "model.json").read_text())
    assert metadata.holdout == result.score
    assert metadata.edge_threshold == result.calibration.edge_level
    assert json.loads((tmp_path / "run" / "config.json").read_text())["patch_px"] == 32
    with np.load(tmp_path / "run" / "tiles.npz") as tiles:
        assert {name: tiles[name].shape for name in tiles.files} == {"0": (1, 64, 64), "1": (1, 64, 64)}
    averages = Averages(tmp_path / "run" / "model.onnx")
    for pair in training_set().pairs:
        y = averages.of(pair.image, 2)
        assert y.shape == (1, 64, 64)
        # It has learnt something: what is stroked as a cell is more of one.
        assert y[0][pair.scribbles.data == 1].mean() > y[0][pair.scribbles.data == 0].mean()
    assert averages.of(pair.image.with_data(pair.image.data + 1), 2) is None


def test_a_method_that_averages_nothing_leaves_no_averages(tiny_config, tmp_path):
    train(training_set(), dataclasses.replace(tiny_config, method="partial_cross_entropy"), tmp_path / "run", Quiet())
    assert not (tmp_path / "run" / "averages.npz").exists()


def test_an_interrupted_run_is_finished_as_far_as_it_came(tiny_config, tmp_path, monkeypatch):
    reporter = Quiet(3)
    make = module._make_fit

    def make_and_keep(*args):
        reporter.fit = make(*args)
        return reporter.fit

    monkeypatch.setattr(module, "_make_fit", make_and_keep)
    result = train(training_set(), tiny_config, tmp_path, reporter)
    assert (result.interrupted, result.n_epochs, result.score) == (True, 0, None)
    assert (tmp_path / "model.json").exists()
    again = Quiet()
    config = resumed_config(tmp_path, {})
    assert config == tiny_config
    result = train(training_set(), config, tmp_path, again, resume=True)
    assert again.said[0] == "resumed after epoch 0 of 4"
    assert (result.interrupted, result.n_epochs) == (False, 4)
    whole = train(training_set(), tiny_config, tmp_path / "whole", Quiet())
    assert whole.score == result.score
    assert whole.calibration == result.calibration


def test_a_time_budget_is_kept_roughly(tmp_path, tiny_config, monkeypatch):
    monkeypatch.setattr(timing, "RESERVE_S", 0.0)
    config = dataclasses.replace(
        tiny_config, epochs=None, minutes=3 / 60, warmup_epochs=None, refresh_every_epochs=None
    )
    reporter = Quiet()
    result = train(training_set(), config, tmp_path, reporter)
    fit_s = sum(float(line.rpartition(",")[2]) for line in (tmp_path / "history.csv").read_text().splitlines()[1:])
    assert 0.5 <= fit_s <= 8
    assert {t.stage for t in reporter.ticks} == {"warm-up", "training"}
    assert result.n_epochs > 2


def test_measuring_the_speed_leaves_the_run_untouched(tiny_config, tmp_path):
    fit = make_fit(tiny_config, tmp_path, Quiet())
    before = {name: value.clone() for name, value in fit.network.state_dict().items()}
    speed = measure_speed(fit)
    assert min(speed.step_s, speed.refresh_s, speed.score_s) > 0
    assert all(torch.equal(v, before[name]) for name, v in fit.network.state_dict().items())
    assert not fit.optimiser.state


@pytest.mark.parametrize("network", ["light", "multi_field", "resnet34"])
@pytest.mark.parametrize(
    ("z_um", "patch_px"), [(None, 32), (0.5, 100), (0.6, 256), (1.0, 200), (2.5, 256), (20.0, 256)]
)
def test_patches_lie_on_the_networks_stride_whatever_the_settings(network, z_um, patch_px):
    config = TrainConfig(network=network, patch_px=patch_px)
    for example in (make_disks(), make_balls()):
        size = None if z_um is None else (z_um, 0.5, 0.5)[-example.image.ndim :]
        image = dataclasses.replace(example.image, pixel_size_um=size)
        data = training_set(Example(image, example.mask, example.scribbles))
        with torch.device("meta"):
            built = build_network(network, 1, 2, image.ndim, size)
        multiple = built.stride_multiple
        shape = patch_shape(config, data, multiple)
        assert all(n % m == 0 and n >= m for n, m in zip(shape, multiple, strict=True))
        assert shape[-1] == shape[-2]
        # Never deeper, in micrometres, than wide; but for the stride.
        assert shape[0] <= max(shape[-1], multiple[0])


@pytest.mark.parametrize(("n_sections", "depth"), [(10, 16), (20, 32), (40, 48), (100, 48)])
def test_a_patch_is_no_deeper_than_the_volume(n_sections, depth):
    example = make_balls()
    image = dataclasses.replace(example.image, data=np.zeros((1, n_sections, 64, 64), np.uint8))
    scribbles = np.full((n_sections, 64, 64), -1, np.int16)
    data = training_set(Example(image, None, scribbles))
    assert patch_shape(TrainConfig(), data, (16, 16, 16)) == (depth, 48, 48)


def test_a_patch_that_is_no_multiple_of_the_stride_trains(tiny_config, tmp_path):
    fit = make_fit(dataclasses.replace(tiny_config, patch_px=40, epochs=1), tmp_path, Quiet())
    fit.run()
    assert fit.source.patch_px == (48, 48)


def test_the_folder_is_as_given_or_named_by_date_and_method(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    date = datetime(2024, 3, 1, 14, 5, 9)
    assert choose_run_folder(Path("here"), "m", date) == Path("here")
    assert choose_run_folder(None, "m", date) == Path("runs/2024-03-01_140509_m")
    with pytest.raises(InputError, match=r"no run to resume in \./runs; give its folder with -o"):
        choose_run_folder(None, None, date)
    for i, name in enumerate(("old", "new")):
        (tmp_path / "runs" / name).mkdir(parents=True)
        state = tmp_path / "runs" / name / "last.pt"
        state.touch()
        os.utime(state, (1000 + i, 1000 + i))
    assert choose_run_folder(None, None, date) == Path("runs/new")


def test_resuming_with_other_settings_is_refused(tiny_config, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(tiny_config.to_json()))
    assert resumed_config(tmp_path, {"epochs": 4, "seed": 0}) == tiny_config
    with pytest.raises(InputError, match=r"has seed 0, not 3; leave --seed out to resume it, or start a new run"):
        resumed_config(tmp_path, {"seed": 3})
    with pytest.raises(InputError, match="leave --encoder-weights out"):
        resumed_config(tmp_path, {"encoder_weights": "w.pth"})
    with pytest.raises(InputError, match=r"holds no run to resume .*give its folder with -o"):
        resumed_config(tmp_path / "none", {})
    for damaged in ("[1]", "7", "{"):
        (tmp_path / "config.json").write_text(damaged)
        with pytest.raises(InputError, match=r"holds no run to resume .*give its folder with -o"):
            resumed_config(tmp_path, {})


def test_a_run_of_a_version_that_did_not_store_how_images_are_read_is_told_again(tiny_config, tmp_path):
    old = {k: v for k, v in tiny_config.to_json().items() if k not in ("axes", "timepoint", "level")}
    (tmp_path / "config.json").write_text(json.dumps(old))
    assert resumed_config(tmp_path, {}) == tiny_config
    assert resumed_config(tmp_path, {"axes": "ZYX"}) == dataclasses.replace(tiny_config, axes="ZYX")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"network": "big"}, "network 'big' is unknown; choose one of light, multi_field, resnet34, resnet50"),
        ({"method": "magic"}, "method 'magic' is unknown; choose one of"),
        ({"method_settings": {"tua": 0.9}}, "unknown setting 'tua'; did you mean 'tau'?"),
        ({"encoder_weights": "w.pth"}, "encoder_weights needs a ResNet, not 'light'; give --network resnet34"),
        (
            {"method": "full_supervision"},
            "from dense labels and none are given; give their folder with --labels",
        ),
    ],
)
def test_wrong_settings_are_found_before_anything_is_written(settings, message, tmp_path):
    with pytest.raises(InputError, match=message):
        check_run(TrainConfig(**settings), tmp_path / "run", False)
    assert not (tmp_path / "run").exists()


def test_labels_are_refused_for_a_method_that_must_not_see_them(tmp_path):
    with pytest.raises(InputError, match="method scribble2label learns from strokes alone; leave --labels out"):
        check_run(TrainConfig(), tmp_path, False, has_masks=True)
    check_run(TrainConfig(method="full_supervision"), tmp_path, False, has_masks=True)


def test_an_existing_run_is_not_overwritten(tmp_path):
    (tmp_path / "last.pt").touch()
    with pytest.raises(OutputError, match="holds a run already; continue it with --resume, or choose another folder"):
        check_run(TrainConfig(), tmp_path, False)
    check_run(TrainConfig(), tmp_path, True)
    with pytest.raises(InputError, match="holds no run to resume"):
        check_run(TrainConfig(), tmp_path / "other", True)


@pytest.mark.parametrize("name", ["model.onnx", "best.pt"])
def test_a_model_without_its_run_is_not_overwritten(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(OutputError, match=f"holds {name} already, which training would replace"):
        check_run(TrainConfig(), tmp_path, False)


def test_a_resumed_run_has_no_facts_of_the_state_that_was_best_before(tiny_config, tmp_path, monkeypatch):
    quiet = Quiet()
    train(training_set(), tiny_config, tmp_path, quiet)
    assert (tmp_path / "model.json").exists()

    def killed(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(Fit, "run", killed)
    with pytest.raises(KeyboardInterrupt):
        train(training_set(), tiny_config, tmp_path, quiet, resume=True)
    assert not (tmp_path / "model.json").exists()


def test_volumes_of_several_pixel_sizes_are_exported_as_they_were_trained(tiny_config, tmp_path):
    """The network is made for the most frequent one, in training as in the model file."""
    size, sizes = (3.0, 1.0, 1.0), ((1.0, 1.0, 1.0), (3.0, 1.0, 1.0), (3.0, 1.0, 1.0))
    balls = [make_balls(seed) for seed in range(3)]
    examples = [
        ball._replace(image=dataclasses.replace(ball.image, pixel_size_um=own))
        for ball, own in zip(balls, sizes, strict=True)
    ]
    config = dataclasses.replace(tiny_config, patch_px=32)
    train(training_set(*examples), config, tmp_path, Quiet())
    model, comparisons = export(tmp_path, tmp_path / "model.onnx")
    assert model.metadata.pixel_size_um == size
    network = build_network(config.network, 1, 2, 3, size)
    assert tuple(model.metadata.stride_multiple) == tuple(network.stride_multiple)
    assert max(c.largest_difference for c in comparisons) < 1e-4


def test_a_budget_that_went_into_getting_ready_is_told(tiny_config, tmp_path, monkeypatch):
    quiet = Quiet()
    monkeypatch.setattr("cellscribble.train.run.LATE", 1e-6)
    budget = dataclasses.replace(tiny_config, epochs=None, minutes=0.05, warmup_epochs=None, refresh_every_epochs=None)
    train(training_set(), budget, tmp_path, quiet)
    assert any("warning: getting ready took" in text for text in quiet.said)


@pytest.mark.parametrize("minutes", [float("inf"), float("nan"), 0.0])
def test_minutes_are_a_number_of_minutes(minutes):
    with pytest.raises(InputError, match="expected more than 0 and at most"):
        TrainConfig(minutes=minutes)


def test_cuda_where_there_is_none_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == torch.device("cpu")
    with pytest.raises(InputError, match="torch finds no CUDA device; use --device cpu"):
        choose_device("cuda")


def test_channels_have_names():
    assert channel_names(2, False, ("DAPI", "GFP")) == ("DAPI", "GFP")
    assert channel_names(3, True, ()) == ("red", "green", "blue")
    assert channel_names(2, False, ()) == ("channel 1", "channel 2")


def test_a_run_is_not_resumed_on_other_strokes(tiny_config, tmp_path):
    train(training_set(), tiny_config, tmp_path, Quiet())
    other = training_set()
    assert other.pairs[0].scribbles is not None
    other.pairs[0].scribbles.data[0, 0] += 1
    with pytest.raises(InputError, match="not those the run"):
        train(other, tiny_config, tmp_path, Quiet(), resume=True)


def test_two_runs_on_one_training_set_learn_from_the_same_strokes(tiny_config, tmp_path):
    data = training_set()
    config = dataclasses.replace(tiny_config, epochs=1)
    totals = [train(data, config, tmp_path / name, Quiet()).holdout.n_total for name in "ab"]
    assert totals[0] == totals[1]


def test_a_run_that_diverged_can_be_exported_as_it_was_before(tiny_config, tmp_path, monkeypatch):
    step = Fit._step

    def diverge(fit, batch, progress, rate):
        if fit.epoch == 2:
            with torch.no_grad():
                fit.network.classify.weight.fill_(float("nan"))
        return step(fit, batch, progress, rate)

    monkeypatch.setattr(Fit, "_step", diverge)
    with pytest.raises(TrainingError, match=r"the loss became nan in epoch 2; .* is kept: cellscribble export"):
        train(training_set(), tiny_config, tmp_path / "run", Quiet())
    tensors, facts = load_state(tmp_path / "run" / "best.pt", torch.device("cpu"))
    assert facts["epoch"] == 1
    assert all(torch.isfinite(value).all() for value in tensors["network"].values())
    model, _ = export(tmp_path / "run", tmp_path / "model.onnx")
    assert model.path.exists()


def test_weights_that_became_infinite_in_the_last_step_of_an_epoch_are_not_kept(tiny_config, tmp_path, monkeypatch):
    step = Fit._step

    def diverge(fit, batch, progress, rate):
        terms = step(fit, batch, progress, rate)
        if fit.step == fit.schedule.steps_per_epoch - 1:
            with torch.no_grad():
                fit.network.classify.weight.fill_(float("inf"))
        return terms

    monkeypatch.setattr(Fit, "_step", diverge)
    with pytest.raises(TrainingError, match=r"a weight of the network became infinite in epoch 0; lower"):
        train(training_set(), dataclasses.replace(tiny_config, epochs=1), tmp_path / "run", Quiet())
    assert not (tmp_path / "run" / "best.pt").exists()
