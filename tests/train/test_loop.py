import dataclasses
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from cellscribble.config import TrainConfig
from cellscribble.core.errors import ModelError, TrainingError
from cellscribble.train import loop
from cellscribble.train.checkpoint import BEST, LAST, load_state
from tests.conftest import make_balls
from tests.train.runs import Quiet, make_fit, training_set

CPU = torch.device("cpu")
METHODS = {
    "scribble2label": {},
    "partial_cross_entropy": {},
    "multiscale_contrastive": {},
    "grabcut": {},
    "impartial": {},
    "random_walker_em": {"n_passes": 2},
}


def weights(fit) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in fit.network.state_dict().items()}


def timeless(fit) -> list[dict]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in fit.history.rows]


def same_run(one, two) -> None:
    """Weights, optimiser, maps, history and the exported state are equal bit for bit."""
    assert (one.epoch, one.step) == (two.epoch, two.step)
    for name, value in one.network.state_dict().items():
        assert torch.equal(value, two.network.state_dict()[name]), name
    for name, value in one.beside.state_dict().items():
        assert torch.equal(value, two.beside.state_dict()[name]), name
    for a, b in zip(one.network.parameters(), two.network.parameters(), strict=True):
        for key, value in one.optimiser.state[a].items():
            assert torch.equal(value, two.optimiser.state[b][key]), key
    for a, b in zip(one.samples, two.samples, strict=True):
        assert a.memory.keys() == b.memory.keys()
        for name in a.memory:
            np.testing.assert_array_equal(a.memory[name], b.memory[name])
    assert timeless(one) == timeless(two)
    best = [load_state(fit.folder / BEST, CPU) for fit in (one, two)]
    assert best[0][1] == best[1][1]
    assert all(torch.equal(v, best[1][0]["network"][k]) for k, v in best[0][0]["network"].items())


@pytest.fixture(params=METHODS)
def config(request, tiny_config) -> TrainConfig:
    return dataclasses.replace(tiny_config, method=request.param, method_settings=METHODS[request.param])


def test_the_same_seed_gives_the_same_model_and_another_seed_another(config, tmp_path):
    fits = []
    for i, seed in enumerate((5, 5, 6)):
        fits.append(make_fit(dataclasses.replace(config, seed=seed, epochs=2), tmp_path / str(i), Quiet()))
        fits[-1].run()
    same_run(fits[0], fits[1])
    assert not torch.equal(weights(fits[0])["classify.weight"], weights(fits[2])["classify.weight"])


# Four epochs of four steps: in the first, the middle of the second, at the end of the warm-up, later.
@pytest.mark.parametrize("stop_after", [1, 6, 8, 11])
def test_interrupted_and_resumed_equals_uninterrupted(config, tmp_path, stop_after):
    whole = make_fit(config, tmp_path / "whole", Quiet())
    whole.run()
    first = make_fit(config, tmp_path / "parts", Quiet(stop_after))
    first.run()
    assert 4 * first.epoch + first.step == stop_after
    assert (tmp_path / "parts" / BEST).exists()
    # Everything anew, as in a new process.
    second = make_fit(config, tmp_path / "parts", Quiet())
    second.resume()
    second.run()
    same_run(whole, second)


# At the beginning of the second ensembling, after its first prediction; when the last has labelled one image of two.
@pytest.mark.parametrize("part", [0, 1, -2])
@pytest.mark.parametrize("method", ["scribble2label", "random_walker_em"])
def test_an_ensembling_that_is_stopped_has_not_happened(method, part, tiny_config, tmp_path):
    config = dataclasses.replace(tiny_config, method=method, method_settings=METHODS[method], epochs=5)
    if method == "random_walker_em":
        config = dataclasses.replace(config, refresh_every_epochs=None)
    heard = Quiet()
    whole = make_fit(config, tmp_path / "whole", heard)
    whole.run()
    starts = [k for k, (_, done, _) in enumerate(heard.parts) if done == 0]
    assert len(starts) > 1
    stop = starts[1] + part if part >= 0 else len(heard.parts) + part
    reporter = Quiet(stop_after_parts=stop + 1)
    first = make_fit(config, tmp_path / "parts", reporter)
    first.run()
    assert len(reporter.parts) == stop + 1
    assert first.step == first.schedule.steps_per_epoch
    second = make_fit(config, tmp_path / "parts", Quiet())
    second.resume()
    second.run()
    same_run(whole, second)


def test_every_step_of_every_seed_has_its_own_draws(tiny_config, tmp_path):
    seeds = []
    for seed in (5, 6):
        config = dataclasses.replace(tiny_config, method="partial_cross_entropy", seed=seed, epochs=2)
        fit = make_fit(config, tmp_path / str(seed), Quiet())
        loss = fit.method.loss

        def recorded(network, batch, progress, loss=loss):
            seeds.append(progress.seed)
            return loss(network, batch, progress)

        fit.method.loss = recorded
        fit.run()
    assert len(seeds) == len(set(seeds)) == 2 * 2 * 4


@pytest.mark.slow
def test_a_volume_resumes_exactly_too(tiny_config, tmp_path):
    config = dataclasses.replace(tiny_config, epochs=2, patch_px=64, batch_size=1)
    fits = []
    for name, stop_after in (("whole", None), ("parts", 1), ("parts", None)):
        fits.append(make_fit(config, tmp_path / name, Quiet(stop_after), training_set(make_balls())))
        if len(fits) == 3:
            fits[-1].resume()
        fits[-1].run()
    same_run(fits[0], fits[2])


def test_after_a_kill_the_older_state_leads_to_the_same_end(tiny_config, tmp_path, monkeypatch):
    whole = make_fit(tiny_config, tmp_path / "whole", Quiet())
    whole.run()

    class Killed(BaseException):
        pass

    # A checkpoint after every epoch until the second; then the process dies in the fourth epoch, with
    # maps and a best state on the disk or in memory that are newer than last.pt.
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    reporter = Quiet()
    fit = make_fit(tiny_config, tmp_path / "killed", reporter)
    save = fit.save

    def save_until_the_second() -> None:
        if fit.epoch <= 2:
            save()

    def tick(tick) -> None:
        if tick.done > 3.3:
            raise Killed

    monkeypatch.setattr(fit, "save", save_until_the_second)
    fit.on_tick = tick
    with pytest.raises(Killed):
        fit.run()
    assert load_state(tmp_path / "killed" / LAST, CPU)[1]["epoch"] == 2
    assert load_state(tmp_path / "killed" / BEST, CPU)[1]["epoch"] == 2
    again = make_fit(tiny_config, tmp_path / "killed", Quiet())
    again.resume()
    assert again.epoch == 2
    again.run()
    same_run(whole, again)


SCRIPT = """
import sys
from pathlib import Path
from cellscribble.config import config_from_mapping
from tests.train.runs import Quiet, make_fit
import json
fit = make_fit(config_from_mapping(json.loads(sys.argv[1]), "test"), Path(sys.argv[2]), Quiet())
fit.resume()
fit.run()
"""


@pytest.mark.slow
def test_pictures_on_the_way_show_the_run_and_change_nothing(config, tmp_path, monkeypatch):
    quiet = make_fit(config, tmp_path / "quiet", Quiet())
    quiet.run()
    assert not (tmp_path / "quiet" / "seen.png").exists()
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_PICTURES", 0.0)
    monkeypatch.setattr(loop, "PICTURES_SHARE", 1e9)
    drawn = make_fit(config, tmp_path / "drawn", Quiet())
    drawn.run()
    assert {"seen.png", "curves.png"} <= {p.name for p in (tmp_path / "drawn").iterdir()}
    same_run(quiet, drawn)


def test_a_fresh_process_resumes_to_the_same_weights(tiny_config, tmp_path):
    whole = make_fit(tiny_config, tmp_path / "whole", Quiet())
    whole.run()
    make_fit(tiny_config, tmp_path / "parts", Quiet(7)).run()
    args = [sys.executable, "-c", SCRIPT, json.dumps(tiny_config.to_json()), str(tmp_path / "parts")]
    done = subprocess.run(args, capture_output=True, text=True, check=False, env=os.environ, timeout=120)
    assert done.returncode == 0, done.stderr
    tensors, facts = load_state(tmp_path / "parts" / LAST, CPU)
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, tensors["network"][name]), name
    assert facts["epoch"] == 4


def test_resuming_a_finished_run_changes_nothing(tiny_config, tmp_path):
    config = dataclasses.replace(tiny_config, epochs=2)
    one = make_fit(config, tmp_path, Quiet())
    one.run()
    two = make_fit(config, tmp_path, Quiet())
    two.resume()
    two.run()
    same_run(one, two)


def test_ticks_tell_stage_terms_and_share(tiny_config, tmp_path):
    reporter = Quiet()
    make_fit(tiny_config, tmp_path, reporter).run()
    assert [t.done for t in reporter.ticks] == [i / 4 for i in range(1, 17)]
    assert {t.total for t in reporter.ticks} == {4}
    assert [t.stage for t in reporter.ticks] == ["warm-up"] * 8 + ["training"] * 8
    assert reporter.ticks[0].terms.keys() == {"strokes"}
    assert reporter.ticks[-1].terms.keys() == {"strokes", "pseudo"}
    assert 0 <= reporter.ticks[-1].score.score <= 1


def test_the_best_state_is_of_the_second_stage(tiny_config, tmp_path):
    fit = make_fit(tiny_config, tmp_path, Quiet())
    fit.run()
    facts = load_state(tmp_path / BEST, CPU)[1]
    assert facts["epoch"] in (2, 3)
    assert facts["score"]["n_strokes"] == [6, 4]
    assert [row["holdout_score"] for row in fit.history.rows if row["epoch"] == facts["epoch"]] == [
        facts["score"]["score"]
    ]


def test_of_states_that_strokes_cannot_tell_apart_the_latest_is_kept(tiny_config, tmp_path, monkeypatch):
    # Scores after each of 4 one-stage epochs with a standard error of .05: epoch 2 is the best, epoch
    # 3 within one error of it.
    scores = iter([0.80, 0.90, 0.95, 0.91])
    monkeypatch.setattr(loop, "score_strokes", lambda *a: loop.HoldoutScore(next(scores), 0.5, 1.0, 0.05, (6, 6)))
    fit = make_fit(dataclasses.replace(tiny_config, method="partial_cross_entropy"), tmp_path, Quiet())
    fit.run()
    facts = load_state(tmp_path / BEST, CPU)[1]
    assert (facts["epoch"], facts["score"]["score"]) == (3, 0.91)
    assert fit.best.best_score.score == 0.95


def test_a_clearly_worse_late_state_is_not_kept(tiny_config, tmp_path, monkeypatch):
    scores = iter([0.80, 0.95, 0.70, 0.75])
    monkeypatch.setattr(loop, "score_strokes", lambda *a: loop.HoldoutScore(next(scores), 0.5, 1.0, 0.05, (6, 6)))
    make_fit(dataclasses.replace(tiny_config, method="partial_cross_entropy"), tmp_path, Quiet()).run()
    assert load_state(tmp_path / BEST, CPU)[1]["epoch"] == 1


def test_with_too_few_strokes_of_a_class_the_latest_state_is_kept(tiny_config, tmp_path, monkeypatch):
    scores = iter([0.80, 1.0, 0.70, 0.75])
    monkeypatch.setattr(loop, "score_strokes", lambda *a: loop.HoldoutScore(next(scores), None, None, 0.0, (2, 6)))
    make_fit(dataclasses.replace(tiny_config, method="partial_cross_entropy"), tmp_path, Quiet()).run()
    facts = load_state(tmp_path / BEST, CPU)[1]
    assert (facts["epoch"], facts["score"]["score"]) == (3, 0.75)


def test_without_held_out_strokes_the_last_state_is_kept_without_a_score(tiny_config, tmp_path):
    make_fit(dataclasses.replace(tiny_config, holdout_share=0), tmp_path, Quiet()).run()
    facts = load_state(tmp_path / BEST, CPU)[1]
    assert (facts["epoch"], facts["score"]) == (3, None)


def test_a_loss_that_is_not_a_number_stops_with_advice(tiny_config, tmp_path):
    fit = make_fit(tiny_config, tmp_path, Quiet())
    with torch.no_grad():
        fit.network.classify.bias.fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"the loss became nan in epoch 0; lower learning_rate \(now 0.003\)"):
        fit.run()


def test_steps_that_are_far_too_large_stop_with_advice(tiny_config, tmp_path):
    """All numbers stay finite, and nothing is learnt."""
    fit = make_fit(dataclasses.replace(tiny_config, learning_rate=1000.0), tmp_path, Quiet())
    with pytest.raises(TrainingError, match=r"the loss on strokes became .* lower learning_rate \(now 1000\.0\)"):
        fit.run()


def test_a_damaged_state_is_refused(tiny_config, tmp_path):
    fit = make_fit(tiny_config, tmp_path, Quiet())
    with pytest.raises(ModelError, match=r"last\.pt does not exist; the run in .* holds nothing to continue"):
        fit.resume()
    (tmp_path / LAST).write_bytes(b"PK\x03\x04 half a file")
    with pytest.raises(ModelError, match=r"last\.pt is damaged .*start the run anew"):
        fit.resume()
