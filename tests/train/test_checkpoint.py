import csv
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

from cellscribble.core.errors import ModelError
from cellscribble.core.intensity import IntensityRule
from cellscribble.data.samples import make_sample
from cellscribble.train.checkpoint import load_state, memory_tensors, restore_memory, save_state
from cellscribble.train.history import COLUMNS, History

CPU = torch.device("cpu")


def test_a_state_comes_back_as_it_was_and_without_pickle(tmp_path):
    tensors = {"network": {"w": torch.randn(3, 4)}, "memory": {"0/ema": torch.rand(1, 5, 5)}}
    facts = {"epoch": 3, "sums": {"strokes": 0.1}, "history": [{"epoch": 0, "stage": "warm-up", "loss": 1 / 3}]}
    save_state(tmp_path / "last.pt", tensors, facts)
    # Readable by torch where no code may run.
    assert set(torch.load(tmp_path / "last.pt", weights_only=True)) == {"network", "memory", "facts"}
    found, found_facts = load_state(tmp_path / "last.pt", CPU)
    assert torch.equal(found["network"]["w"], tensors["network"]["w"])
    assert torch.equal(found["memory"]["0/ema"], tensors["memory"]["0/ema"])
    assert found_facts == {**facts, "schema": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


def test_a_failed_write_leaves_the_older_state(tmp_path):
    save_state(tmp_path / "last.pt", {}, {"epoch": 1})
    with pytest.raises(TypeError):
        save_state(tmp_path / "last.pt", {}, {"epoch": object()})
    assert load_state(tmp_path / "last.pt", CPU)[1]["epoch"] == 1
    assert len(list(tmp_path.iterdir())) == 1


MARK = str(Path(tempfile.gettempdir()) / f"cellscribble_code_ran_{os.getpid()}_state")


class Malicious:
    def __reduce__(self):
        return (open, (MARK, "w"))


def test_code_in_a_state_is_not_run(tmp_path):
    torch.save({"facts": "{}", "network": Malicious()}, tmp_path / "last.pt")
    with pytest.raises(ModelError, match=r"last\.pt is damaged \(UnpicklingError\); start the run anew"):
        load_state(tmp_path / "last.pt", CPU)
    assert not Path(MARK).exists()


def test_another_schema_is_refused(tmp_path):
    torch.save({"facts": '{"schema": 99}'}, tmp_path / "last.pt")
    with pytest.raises(ModelError, match="is of schema 99, this version reads 1"):
        load_state(tmp_path / "last.pt", CPU)
    torch.save(torch.zeros(3), tmp_path / "last.pt")
    with pytest.raises(ModelError, match="is damaged"):
        load_state(tmp_path / "last.pt", CPU)


def test_memory_goes_back_to_its_image(disks_2d):
    samples = [make_sample(disks_2d.image, disks_2d.scribbles, IntensityRule()) for _ in range(3)]
    samples[0].memory["ema"] = np.ones((1, 64, 64), np.float32)
    samples[2].memory["ema"] = np.full((1, 64, 64), 2, np.float32)
    stored = {k: v.clone() for k, v in memory_tensors(samples).items()}
    fresh = [make_sample(disks_2d.image, disks_2d.scribbles, IntensityRule()) for _ in range(3)]
    restore_memory(stored, fresh)
    assert [float(s.memory["ema"].max()) if s.memory else None for s in fresh] == [1, None, 2]


def test_history_is_a_csv_with_empty_cells_for_what_did_not_arise(tmp_path):
    history = History()
    history.add({"epoch": 0, "loss": 0.5, "loss_strokes": 0.5})
    history.add({"epoch": 1, "loss": 0.25, "loss_new_term": 0.1, "holdout_score": 0.9})
    history.save(tmp_path / "history.csv")
    rows = list(csv.DictReader((tmp_path / "history.csv").read_text().splitlines()))
    assert list(rows[0]) == [*COLUMNS, "loss_new_term"]
    assert (rows[0]["holdout_score"], rows[1]["holdout_score"], rows[1]["loss_strokes"]) == ("", "0.9", "")
    assert history.series("holdout_score") == ([1.0], [0.9])
    assert history.series("edge_level") == ([], [])


@pytest.mark.skipif(os.name == "nt", reason="ulimit is of Unix")
def test_a_full_disk_is_said_and_leaves_the_older_state(tmp_path):
    """In a process of its own, whose files may not grow beyond 200 kB."""
    code = (
        "import resource, sys, torch\n"
        "from pathlib import Path\n"
        "from cellscribble.core.errors import OutputError\n"
        "from cellscribble.train.checkpoint import save_state\n"
        "path = Path(sys.argv[1])\n"
        "save_state(path, {'w': torch.zeros(10)}, {'epoch': 1})\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
        "try: save_state(path, {'w': torch.zeros(100_000)}, {'epoch': 2})\n"
        "except OutputError as error: print(error)\n"
    )
    path = tmp_path / "last.pt"
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True, timeout=120)
    assert f"cannot write {path}: a file may not grow that large there (ulimit -f)" in done.stdout
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]
    assert load_state(path, torch.device("cpu"))[1]["epoch"] == 1
