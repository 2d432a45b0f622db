import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from cellscribble.core.errors import InputError, OutputError
from cellscribble.engine.journal import Journal, done_of
from cellscribble.engine.unfinished import check_targets, open_unfinished

KEY = {"model": "abc", "settings": {"threshold": 0.5}}
N_TASKS = 400
"""So many that none of the runs that are killed ends before, however late the killer comes on a busy machine."""
KILLED = 77

# A run of N_TASKS chunks, each under a temporary name first; prints the number of each it begins.
RUN = f"""
import os, sys, time, uuid
from pathlib import Path
from cellscribble.engine.journal import done_of
from cellscribble.engine.unfinished import open_unfinished
out = Path(sys.argv[1])
with open_unfinished(out / "a.unfinished", {KEY}, {{}}) as run:
    store = run.path("labels")
    if not run.publishing:
        store.mkdir(exist_ok=True)
        (store / ".zgroup").touch()
        done = done_of(run.folder, {{"see": {N_TASKS}}}).done["see"]
        for k in range({N_TASKS}):
            if not done[k]:
                print(k, flush=True)
                temporary = store / f"{{k}}.{{uuid.uuid4().hex}}.partial"
                temporary.write_text(str(k))
                time.sleep(0.001)
                os.replace(temporary, store / str(k))
                run.journal.note("see", k)
    run.publish([("labels", out / "a.zarr")])
"""


def files_below(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def make_result(folder, name, text):
    """A Zarr store, or a file if the name has a suffix of one."""
    path = folder / name
    if path.suffix == ".json":
        path.write_text(text)
    else:
        path.mkdir()
        (path / ".zgroup").write_text(text)
    return path


def content(path):
    return (path / ".zgroup" if path.is_dir() else path).read_text()


def killed_at(step, action):
    """Run `action` in a process that dies just before its change number `step` of the disk; False if it has fewer."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            seen = 0

            def dying(function):
                def call(*args, **kwargs):
                    nonlocal seen
                    if seen == step:
                        os._exit(KILLED)
                    seen += 1
                    return function(*args, **kwargs)

                return call

            for name in ("rename", "replace", "unlink", "rmdir", "mkdir", "ftruncate"):
                setattr(os, name, dying(getattr(os, name)))
            action()
            code = 0
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, KILLED)
    return code == KILLED


def each_kill(tmp_path, prepare, action):
    """Yield one folder after the other in which `action` was killed at its first, second, ... step."""
    for step in range(200):
        folder = tmp_path / str(step)
        folder.mkdir()
        prepare(folder)
        if not killed_at(step, lambda folder=folder: action(folder)):
            assert step > 3
            return
        yield folder
    raise AssertionError("does not end")


def test_a_run_is_gone_on_with_and_its_first_facts_hold(tmp_path):
    folder = tmp_path / "a.unfinished"
    with open_unfinished(folder, KEY, lambda: {"block_px": (8, 8)}) as run:
        assert (run.resumed, run.note, run.publishing) == (False, "", False)
        assert run.facts == {"block_px": [8, 8]}
        run.journal.note("see", 1)
        run.path("seen").write_text("half")
    with open_unfinished(folder, KEY, pytest.fail) as run:
        assert run.resumed
        assert run.note == ""
        assert run.facts == {"block_px": [8, 8]}
        assert run.path("seen").read_text() == "half"
        assert done_of(run.folder, {"see": 2}).done["see"].tolist() == [False, True]


def test_a_changed_setting_starts_anew_and_is_named(tmp_path):
    folder = tmp_path / "a.unfinished"
    with open_unfinished(folder, KEY, {"a": 1}) as run:
        run.journal.note("see", 1)
        run.path("store").mkdir()
        (run.path("store") / "0").touch()
    with open_unfinished(folder, {"model": "abc", "settings": {"threshold": 0.6}, "level": 2}, {"a": 2}) as run:
        assert not run.resumed
        assert run.note.endswith(": level (nothing) -> 2, settings.threshold 0.5 -> 0.6, so the run starts anew.")
        assert run.facts == {"a": 2}
        assert not done_of(run.folder, {"see": 2}).done["see"].any()
        assert not run.path("store").exists()


def test_another_version_starts_anew(tmp_path):
    folder = tmp_path / "a.unfinished"
    open_unfinished(folder, KEY, {}).close()
    job = json.loads((folder / "job.json").read_text())
    (folder / "job.json").write_text(json.dumps({**job, "schema": 0}))
    with open_unfinished(folder, KEY, {}) as run:
        assert not run.resumed
        assert "another version" in run.note


def test_facts_that_cannot_be_had_leave_everything_as_it_was(tmp_path):
    def fail():
        raise InputError("damaged")

    folder = tmp_path / "a.unfinished"
    with pytest.raises(InputError):
        open_unfinished(folder, KEY, fail)
    assert os.listdir(tmp_path) == []
    with open_unfinished(folder, KEY, {}) as run:
        run.journal.note("see", 1)
    before = files_below(folder)
    with pytest.raises(InputError):
        open_unfinished(folder, {"other": 1}, fail)
    assert files_below(folder) == before


@pytest.mark.parametrize("key", [KEY, {"other": 1}])
def test_a_second_run_is_refused_and_changes_nothing(tmp_path, key):
    hold = "; ".join(
        (
            "import sys, time",
            "from cellscribble.engine.unfinished import open_unfinished",
            f"run = open_unfinished(sys.argv[1], {KEY}, {{}})",
            "run.journal.note('see', 0)",
            "print('open', flush=True)",
            "time.sleep(60)",
        )
    )
    folder = tmp_path / "a.unfinished"
    with subprocess.Popen([sys.executable, "-c", hold, str(folder)], stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout.readline() == "open\n"
        before = files_below(folder)
        with pytest.raises(OutputError, match=rf"process {first.pid} on computer"):
            open_unfinished(folder, key, {})
        assert files_below(folder) == before
        first.kill()
    with open_unfinished(folder, key, {}) as run:
        assert run.resumed == (key == KEY)


def test_shards_work_side_by_side_but_with_nobody_else(tmp_path):
    folder = tmp_path / "a.unfinished"
    with (
        open_unfinished(folder, KEY, {"a": 1}, (1, 2)) as one,
        open_unfinished(folder, KEY, pytest.fail, (2, 2)) as two,
    ):
        assert two.facts == {"a": 1}
        one.journal.note("see", 0)
        two.journal.note("see", 1)
        for key, shard in ((KEY, (1, 2)), (KEY, (1, 1)), (KEY, (3, 3)), ({"other": 1}, (2, 2))):
            with pytest.raises(OutputError, match="in use by another run"):
                open_unfinished(folder, key, {}, shard)
        with pytest.raises(ValueError, match="shard of 2"):
            one.publish([])
    with open_unfinished(folder, KEY, {}) as run:
        assert done_of(run.folder, {"see": 2}).done["see"].all()
    with pytest.raises(InputError, match="from 1 to 2"):
        open_unfinished(folder, KEY, {}, (3, 2))


def test_a_folder_of_somebody_else_is_left_alone(tmp_path):
    folders = [tmp_path / name for name in ("photos", "jobs", "list", "file")]
    for folder in folders[:3]:
        folder.mkdir()
        (folder / "holiday.jpg").touch()
    (folders[1] / "job.json").write_text('{"schema": 1, "key": {}}')
    (folders[2] / "job.json").write_text("[1]")
    folders[3].touch()
    before = files_below(tmp_path)
    for folder in folders:
        with pytest.raises(OutputError, match="left alone"):
            open_unfinished(folder, KEY, {})
    assert files_below(tmp_path) == before
    (tmp_path / "bare").mkdir()
    open_unfinished(tmp_path / "bare", KEY, {}).close()


def test_a_disk_without_locks_is_told(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def refuse(file, how):
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with open_unfinished(tmp_path / "a.unfinished", KEY, {}) as run:
        assert "has no locks" in run.note


def test_a_folder_that_goes_while_it_is_looked_at_is_made_again(tmp_path, monkeypatch):
    mkdir, refusals = os.mkdir, [FileExistsError, FileNotFoundError]

    def other_was_there(*args):
        if refusals:
            raise refusals.pop()
        mkdir(*args)

    monkeypatch.setattr(os, "mkdir", other_was_there)
    open_unfinished(tmp_path / "a.unfinished", KEY, {}).close()
    assert not refusals


def test_processes_that_begin_and_end_at_once_never_meet(tmp_path):
    """Whatever one process does to the folder while another waits, only one is in it at a time."""
    folder, inside = tmp_path / "a.unfinished", tmp_path / "inside"

    def work(seed):
        rng, n_opened = random.Random(seed), 0
        while n_opened < 8:
            try:
                run = open_unfinished(folder, {"key": rng.randrange(2)}, {})
            except OutputError as error:
                if "in use by another run" not in str(error):
                    raise
                time.sleep(rng.uniform(0, 0.001))
                continue
            n_opened += 1
            os.close(os.open(inside, os.O_CREAT | os.O_EXCL))
            run.path("labels.json").write_text("x")
            assert run.journal.path.exists()
            os.unlink(inside)
            if rng.randrange(2):
                run.publish([("labels.json", tmp_path / f"labels{seed}.json")], overwrite=True)
            run.close()

    children = []
    for seed in range(4):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                work(seed)
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4


def test_killed_while_the_folder_is_emptied_nothing_half_is_gone_on_with(tmp_path):
    def prepare(folder):
        with open_unfinished(folder / "a.unfinished", KEY, {}) as run:
            run.journal.note("see", 0)
            run.path("seen").mkdir()
            (run.path("seen") / "0").touch()

    def start_anew(folder):
        open_unfinished(folder / "a.unfinished", {"other": 1}, {}).close()

    for folder in each_kill(tmp_path, prepare, start_anew):
        with open_unfinished(folder / "a.unfinished", KEY, {}) as run:
            has_data = (run.path("seen") / "0").exists()
            assert has_data == done_of(run.folder, {"see": 1}).done["see"][0] == run.resumed


def test_publish_moves_the_result_and_removes_the_folder(tmp_path):
    with open_unfinished(tmp_path / "a.unfinished", KEY, {}) as run:
        make_result(run.folder, "labels", "new")
        make_result(run.folder, "record.json", "new")
        make_result(run.folder, "numbers", "not published")
        for name in (f"0.{uuid.uuid4().hex}.partial", f".zattrs.{uuid.uuid4().hex}.partial", ".partial-1a-0"):
            (run.folder / "labels" / name).touch()
        (run.folder / "labels" / "my.partial").touch()
        run.publish([("record.json", tmp_path / "a.json"), ("labels", tmp_path / "a.zarr")])
    assert sorted(os.listdir(tmp_path)) == ["a.json", "a.zarr"]
    assert sorted(os.listdir(tmp_path / "a.zarr")) == [".zgroup", "my.partial"]


NAMES = {"record.json": "a.json", "probability": "a_probability.zarr", "labels": "a.zarr"}


def targets(folder):
    return [(inner, folder / final) for inner, final in NAMES.items()]


def finish(folder, overwrite):
    with open_unfinished(folder / "a.unfinished", KEY, {}) as run:
        if not run.publishing and not run.path("labels").exists():
            for inner in NAMES:
                make_result(run.folder, inner, "new")
        run.publish(targets(folder), overwrite)


@pytest.mark.parametrize("overwrite", [False, True])
def test_publish_killed_at_any_step_is_completed(tmp_path, overwrite):
    def prepare(folder):
        with open_unfinished(folder / "a.unfinished", KEY, {}) as run:
            for inner, final in NAMES.items():
                make_result(run.folder, inner, "new")
                if overwrite:
                    make_result(folder, final, "old")

    n_kills = 0
    for folder in each_kill(tmp_path, prepare, lambda folder: finish(folder, overwrite)):
        n_kills += 1
        if (folder / "a.unfinished" / "job.json").exists():
            check_targets(folder / "a.unfinished", KEY, targets(folder), overwrite)
            finish(folder, overwrite)
        else:  # it was finished, but for tidying up
            open_unfinished(folder / "a.unfinished", KEY, {}).close()
            shutil.rmtree(folder / "a.unfinished")
        assert [content(folder / final) for final in NAMES.values()] == ["new"] * 3
        assert sorted(os.listdir(folder)) == sorted(NAMES.values())
    assert n_kills > 10


def test_after_a_killed_publish_another_run_finds_the_old_result_or_the_new(tmp_path):
    def prepare(folder):
        with open_unfinished(folder / "a.unfinished", KEY, {}) as run:
            for inner, final in NAMES.items():
                make_result(run.folder, inner, "new")
                make_result(folder, final, "old")

    for folder in each_kill(tmp_path, prepare, lambda folder: finish(folder, True)):
        open_unfinished(folder / "a.unfinished", {"other": 1}, {}).close()
        assert {content(folder / final) for final in NAMES.values()} <= {"old", "new"}
        assert sorted(os.listdir(folder)) == sorted([*NAMES.values(), "a.unfinished"])
        with pytest.raises(OutputError, match="exists already"):
            check_targets(folder / "a.unfinished", {"other": 1}, targets(folder))


def test_a_taken_place_is_refused_and_nothing_is_lost(tmp_path):
    photos = tmp_path / "a_probability.zarr"
    photos.mkdir()
    (photos / "holiday.jpg").touch()
    with open_unfinished(tmp_path / "a.unfinished", KEY, {}) as run:
        for inner in NAMES:
            make_result(run.folder, inner, "new")
        before = files_below(tmp_path)
        for overwrite, message in ((False, "exists already"), (True, "no Zarr store")):
            with pytest.raises(OutputError, match=message):
                run.publish(targets(tmp_path), overwrite)
            with pytest.raises(OutputError, match=message):
                check_targets(run.folder, KEY, targets(tmp_path), overwrite)
        assert files_below(tmp_path) == before


def test_what_cannot_be_moved_is_said_and_the_old_result_stays(tmp_path, monkeypatch):
    make_result(tmp_path, "a.zarr", "old")
    rename = os.rename

    def other_disk(source, target):
        if Path(target).name == "a.zarr" and Path(source).name == "labels":
            raise OSError(errno.EXDEV, "other disk")
        rename(source, target)

    with open_unfinished(tmp_path / "a.unfinished", KEY, {}) as run:
        with pytest.raises(OutputError, match="labels is missing"):
            run.publish([("labels", tmp_path / "a.zarr")], overwrite=True)
        make_result(run.folder, "labels", "new")
        monkeypatch.setattr(os, "rename", other_disk)
        with pytest.raises(OutputError, match="on different disks"):
            run.publish([("labels", tmp_path / "a.zarr")], overwrite=True)
        assert content(tmp_path / "a.zarr") == "old"
        monkeypatch.undo()
        with pytest.raises(OutputError, match="ask for the same outputs again"):
            run.publish([("labels", tmp_path / "b.zarr")], overwrite=True)
        run.publish([("labels", tmp_path / "a.zarr")], overwrite=True)
    assert content(tmp_path / "a.zarr") == "new"
    assert os.listdir(tmp_path) == ["a.zarr"]


def test_a_run_killed_again_and_again_ends_with_the_same_files(tmp_path):
    begun = []
    in_flight = 0
    for n_lines in [*random.sample(range(1, 12), 3), N_TASKS]:
        process = subprocess.Popen([sys.executable, "-c", RUN, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        lines = [line for _, line in zip(range(n_lines), process.stdout, strict=False)]
        if n_lines < N_TASKS:
            time.sleep(random.uniform(0, 0.002))
            process.send_signal(signal.SIGKILL)
            in_flight += 1
        begun += [int(line) for line in lines + process.communicate()[0].splitlines()]
        assert process.returncode == (-signal.SIGKILL if n_lines < N_TASKS else 0)
    expected = {".zgroup": b""} | {str(k): str(k).encode() for k in range(N_TASKS)}
    assert files_below(tmp_path / "a.zarr") == expected
    assert os.listdir(tmp_path) == ["a.zarr"]
    assert sorted(set(begun)) == list(range(N_TASKS))
    assert len(begun) <= N_TASKS + in_flight


def test_a_journal_outside_the_shards_is_respected(tmp_path):
    open_unfinished(tmp_path / "a.unfinished", KEY, {}).close()
    with Journal(tmp_path / "a.unfinished" / "journal-extra.txt"), pytest.raises(OutputError, match="in use"):
        open_unfinished(tmp_path / "a.unfinished", KEY, {})
