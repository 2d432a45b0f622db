import json
import math
import os
import signal
import subprocess
import sys

import pytest

from cellscribble.core.errors import OutputError
from cellscribble.io.atomic import TEMPORARY_MARK, atomic_path, save_json

WRITES_HALF = """
import sys, time
from cellscribble.io.atomic import atomic_path
with atomic_path(sys.argv[1], overwrite=True) as temporary:
    temporary.mkdir() if sys.argv[1].endswith(".zarr") else temporary.write_text("half")
    print("begun", flush=True)
    time.sleep(600)
"""


def test_error_inside_leaves_the_old_file_and_no_trace(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write_half() -> None:
        with atomic_path(path, overwrite=True) as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_half()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_zarr_folder_is_replaced_but_a_folder_of_images_never(tmp_path):
    store, photos = tmp_path / "a.zarr", tmp_path / "photos"
    for folder, name in ((store, ".zgroup"), (photos, "holiday.jpg")):
        folder.mkdir()
        (folder / name).touch()
    with atomic_path(store, overwrite=True) as temporary:
        temporary.mkdir()
        (temporary / "new").touch()
    assert [p.name for p in store.iterdir()] == ["new"]
    with pytest.raises(OutputError, match="no Zarr store"), atomic_path(photos, overwrite=True):
        pass
    assert (photos / "holiday.jpg").exists()
    assert sorted(os.listdir(tmp_path)) == ["a.zarr", "photos"]


def test_of_two_that_make_one_folder_the_first_wins(tmp_path):
    store = tmp_path / "a.zarr"

    def both() -> None:
        with atomic_path(store) as second:
            second.mkdir()
            (second / "second").touch()
            with atomic_path(store) as first:
                first.mkdir()
                (first / "first").touch()

    with pytest.raises(OutputError, match="exists meanwhile"):
        both()
    assert os.listdir(tmp_path) == ["a.zarr"]
    assert os.listdir(store) == ["first"]


def test_output_folder_that_is_a_file_is_explained(tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(OutputError, match="choose another output folder"):
        save_json(tmp_path / "out" / "a.json", {})


def test_json_is_readable_and_has_no_nan(tmp_path):
    save_json(tmp_path / "a.json", {"unit": "µm"})
    assert json.loads((tmp_path / "a.json").read_text("utf-8")) == {"unit": "µm"}
    with pytest.raises(ValueError, match="not JSON compliant"):
        save_json(tmp_path / "b.json", {"score": math.nan})
    assert not (tmp_path / "b.json").exists()


@pytest.mark.skipif(os.name != "posix", reason="which processes run is asked on POSIX only")
def test_what_a_killed_process_left_goes_with_the_next_one_and_nothing_else(tmp_path):
    """CellProfiler opens hidden images too, and a half one ended its run."""
    killed, alive = (
        [
            subprocess.Popen([sys.executable, "-c", WRITES_HALF, tmp_path / name], stdout=subprocess.PIPE)
            for name in names
        ]
        for names in (("a.tif", "a.zarr"), ("b.tif",))
    )
    others = tmp_path / f"{TEMPORARY_MARK}01234567-1-01234567-c.tif"
    aside = tmp_path / f"{TEMPORARY_MARK}01234567-old-a.zarr"
    for path in (others, aside):
        path.touch()
    try:
        for process in (*killed, *alive):
            assert process.stdout.readline() == b"begun\n"
        for process in killed:
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert len(list(tmp_path.glob(f"{TEMPORARY_MARK}*"))) == 5
        save_json(tmp_path / "new.json", {})
        left = set(os.listdir(tmp_path))
        (written,) = (name for name in left if name.endswith("-b.tif"))
        assert left == {"new.json", others.name, aside.name, written}
    finally:
        for process in (*killed, *alive):
            process.kill()
            process.communicate()
