import contextlib
import errno
import os
import random
import signal
import subprocess
import sys
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellscribble.core.errors import FileFormatError, OutputError
from cellscribble.engine.journal import Journal, done_of, read_journals

WRITE_FOREVER = """
import sys
from cellscribble.engine.journal import Journal, read_journals
journal = Journal(sys.argv[1] + "/journal.txt")
k = sum(1 for line in read_journals(sys.argv[1]))
print("open", flush=True)
while True:
    journal.note("see", k, "done", text="x" * (k % 50))
    k += 1
"""


@contextlib.contextmanager
def writer_process(folder):
    """Another process that has the journal open."""
    process = subprocess.Popen([sys.executable, "-c", WRITE_FOREVER, str(folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "open\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_line_is_a_task(tmp_path):
    with Journal(tmp_path / "journal.txt") as journal:
        journal.note("see", np.int64(17))
        journal.note("see", 18, "empty")
        journal.note("see", 19, "failed", message="chunk µ\n")
    text = 'see 17 done\nsee 18 empty\nsee 19 failed {"message": "chunk \\u00b5\\n"}\n'
    assert (tmp_path / "journal.txt").read_text() == text
    assert os.listdir(tmp_path) == ["journal.txt"]
    assert list(read_journals(tmp_path)) == [
        ("see", 17, "done", {}),
        ("see", 18, "empty", {}),
        ("see", 19, "failed", {"message": "chunk µ\n"}),
    ]


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0), st.dictionaries(st.sampled_from("abc"), st.text() | st.integers()))))
def test_whatever_is_noted_is_read(lines):
    with tempfile.TemporaryDirectory() as folder, Journal(Path(folder, "journal.txt")) as journal:
        for k, facts in lines:
            journal.note("see", k, "done", **facts)
        assert [(k, facts) for _, k, _, facts in read_journals(folder)] == lines


@pytest.mark.parametrize(
    ("stage", "k", "word"), [("", 1, "done"), ("a b", 1, "done"), ("a", -1, "done"), ("a", 1, "x\n")]
)
def test_what_would_spoil_a_line_is_refused(tmp_path, stage, k, word):
    with Journal(tmp_path / "journal.txt") as journal, pytest.raises(ValueError, match="not a stage"):
        journal.note(stage, k, word)
    assert list(read_journals(tmp_path)) == []


def test_an_incomplete_last_line_is_passed_over_and_cut_off(tmp_path):
    whole = b'see 1 done\nsee 2 failed {"message": "x"}\nsee 3 done\n'
    path = tmp_path / "journal.txt"
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        n_whole = whole[:size].count(b"\n")
        assert [k for _, k, _, _ in read_journals(tmp_path)] == [1, 2, 3][:n_whole]
        with Journal(path) as journal:
            journal.note("see", 9)
        assert [k for _, k, _, _ in read_journals(tmp_path)] == [*[1, 2, 3][:n_whole], 9]


def test_a_long_incomplete_line_is_cut_off_too(tmp_path):
    path = tmp_path / "journal.txt"
    path.write_bytes(b"see 1 done\n" + b"x" * 200_000)
    Journal(path).close()
    assert path.read_bytes() == b"see 1 done\n"


def test_a_killed_writer_leaves_whole_lines(tmp_path):
    n_before = 0
    for _ in range(3):
        with writer_process(tmp_path) as process:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(random.uniform(0.001, 0.05))
            process.send_signal(signal.SIGKILL)
            process.wait()
        Journal(tmp_path / "journal.txt").close()
        numbers = [k for _, k, _, _ in read_journals(tmp_path)]
        assert numbers == list(range(len(numbers)))
        assert len(numbers) > n_before
        n_before = len(numbers)


def test_a_second_process_is_refused_until_the_first_is_dead(tmp_path):
    with writer_process(tmp_path) as process, pytest.raises(OutputError, match=rf"process {process.pid} on computer"):
        Journal(tmp_path / "journal.txt")
    # Killed, it could not tidy up; the lock is gone all the same.
    assert (tmp_path / "journal.txt.holder").exists()
    Journal(tmp_path / "journal.txt").close()


@pytest.mark.parametrize(
    "line",
    [b"see 1", b"see one done", b"see 1see 2 done", b"see -1 done", b"see 1 done {", b"\0\0", b"\xff 1 done", b""],
)
def test_a_damaged_line_is_named(tmp_path, line):
    (tmp_path / "journal-1-of-2.txt").write_bytes(b"see 0 done\n" + line + b"\nsee 3 done\n")
    with pytest.raises(FileFormatError, match=r"journal-1-of-2.txt is damaged: line 2 .* start anew"):
        list(read_journals(tmp_path))


def test_done_empty_and_failed_over_all_journals(tmp_path):
    with Journal(tmp_path / "journal-1-of-2.txt") as one, Journal(tmp_path / "journal-2-of-2.txt") as two:
        two.note("see", 1, "failed", message="torn")
        one.note("see", 0)
        one.note("see", 3, "empty")
        one.note("cut", 2)
        one.note("begun", 99)
        finished = done_of(tmp_path, {"see": 4, "cut": 3, "join1": 2})
    assert {stage: marks.tolist() for stage, marks in finished.done.items()} == {
        "see": [True, True, False, True],
        "cut": [False, False, True],
        "join1": [False, False],
    }
    assert {stage: int(marks.sum()) for stage, marks in finished.empty.items()} == {"see": 1, "cut": 0, "join1": 0}
    assert finished.empty["see"][3]
    assert finished.failed == {("see", 1): "torn"}


def test_a_task_that_does_not_exist_is_a_damage(tmp_path):
    with Journal(tmp_path / "journal.txt") as journal:
        journal.note("see", 4)
    with pytest.raises(FileFormatError, match="task 4 of 'see', which has 4 tasks"):
        done_of(tmp_path, {"see": 4})


def test_a_full_disk_leaves_whole_lines(tmp_path, monkeypatch):
    write = os.write

    def refuse(file, data):
        raise OSError(errno.ENOSPC, "no space")

    with Journal(tmp_path / "journal.txt") as journal:
        journal.note("see", 0)
        for full in (refuse, lambda file, data: write(file, data[:5])):
            monkeypatch.setattr(os, "write", full)
            with pytest.raises(OutputError, match="the disk is full"):
                journal.note("see", 1)
            monkeypatch.setattr(os, "write", write)
        journal.note("see", 2)
    assert (tmp_path / "journal.txt").read_text() == "see 0 done\nsee 2 done\n"


def test_reading_takes_no_memory_that_grows(tmp_path):
    (tmp_path / "journal.txt").write_text("".join(f"see {k} done\n" for k in range(30_000)))
    tracemalloc.start()
    try:
        done = done_of(tmp_path, {"see": 30_000}).done["see"]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert done.all()
    assert peak < 300_000
