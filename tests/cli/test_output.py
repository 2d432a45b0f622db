import io
import json
import re

import pytest

from cellscribble.cli import output
from cellscribble.core.errors import OutputError


def test_json_lines_are_one_a_line_on_stdout(capsys, tmp_path):
    output.emit("done", labels=tmp_path, name="µ\n")
    out, err = capsys.readouterr()
    assert json.loads(out) == {"schema": 1, "event": "done", "labels": str(tmp_path), "name": "µ\n"}
    assert out.count("\n") == 1
    assert err == ""


def test_file_names_are_not_taken_for_markup(capsys):
    output.say("a[bold]b[/bold] [1].tif")
    output.warn("[x]")
    assert capsys.readouterr().err == "a[bold]b[/bold] [1].tif\nwarning: [x]\n"


def work_for_150_s(bar, clock, first=1):
    """A unit of work every 5 s, up to 30 of 40, beginning with the `first`."""
    for done in range(first, 31):
        clock[0] += 5
        bar.update(done, 40, "slide")


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(output.time, "monotonic", lambda: now[0])
    return now


def test_without_a_terminal_progress_is_a_line_a_minute(capsys, clock):
    with output.progress_bar("predict") as bar:
        work_for_150_s(bar, clock)
    assert capsys.readouterr().err == (
        "predict, 30 %, 2 min 20 s left, slide\npredict, 60 %, 1 min 20 s left, slide\n"
    )


def test_what_an_earlier_run_has_done_does_not_shorten_the_time_left(capsys, clock):
    with output.progress_bar("predict") as bar:
        work_for_150_s(bar, clock, first=16)
    # 12 units in a minute, 13 are left.
    assert capsys.readouterr().err == "predict, 68 %, 1 min 5 s left, slide\n"


def test_the_log_has_the_same_lines_with_the_time_and_how_far_it_came(tmp_path, capsys, clock):
    log = tmp_path / "run.log"
    log.write_text("an earlier run\n")

    def interrupted():
        with output.progress_bar("predict", log=log) as bar:
            work_for_150_s(bar, clock)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    first, *lines = log.read_text().splitlines()
    assert first == "an earlier run"
    assert [line[20:] for line in lines] == [
        "predict starts",
        "predict, 30 %, 2 min 20 s left, slide",
        "predict, 60 %, 1 min 20 s left, slide",
        "predict, 75 %, 50 s left, slide",
    ]
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", line) for line in lines)
    assert capsys.readouterr().err.count("predict") == 2


def test_a_log_that_cannot_be_written_is_an_error_at_once(tmp_path):
    with (
        pytest.raises(OutputError, match=r"run\.log.*another output folder"),
        output.progress_bar("predict", log=tmp_path / "none" / "run.log"),
    ):
        pytest.fail("the work began")


def test_on_a_terminal_there_is_a_bar(monkeypatch):
    screen = output.Console(force_terminal=True, width=90, record=True, file=io.StringIO())
    monkeypatch.setattr(output, "console", lambda: screen)
    with output.progress_bar("predict") as bar:
        bar.update(1, 4, "slide [1]")
        output.say("a line above")
    text = screen.export_text()
    assert "a line above" in text
    assert "25 %" in text
    assert "slide [1]" in text


def test_a_long_part_has_its_own_time_left_in_the_line(capsys, clock):
    with output.progress_bar("training") as bar:
        bar.update(10, 40, "warm-up")
        for done in range(5):
            bar.part("predicting", done, 10)
            clock[0] += 20
        bar.update(11, 40)
        clock[0] += 60
        bar.update(12, 40)
    # Of the part a tenth in 20 s; of the whole nothing before it went on.
    assert capsys.readouterr().err == (
        "training, 25 %, warm-up, predicting, 30 %, 2 min 20 s left\ntraining, 30 %, 37 min 20 s left, warm-up\n"
    )


def test_on_a_terminal_a_long_part_has_a_bar_of_its_own_while_it_lasts(monkeypatch):
    screen = output.Console(force_terminal=True, width=90, record=True, file=io.StringIO())
    monkeypatch.setattr(output, "console", lambda: screen)
    with output.progress_bar("training") as bar:
        bar.update(10, 40, "warm-up")
        bar.part("predicting", 1, 4)
        bar.part("predicting", 3, 4)
        output.say("now")
    during = screen.export_text()
    assert all(words in during for words in ("training", "warm-up", "predicting", "75 %"))
    with output.progress_bar("training") as bar:
        bar.part("predicting", 1, 4)
        bar.update(10, 40, "warm-up")
        bar.part("exporting", 0, 1)
    after = screen.export_text().splitlines()
    assert after[-1].split()[0] == "exporting"
    assert "predicting" not in "".join(after[-2:])


@pytest.mark.parametrize(("seconds", "text"), [(7.6, "8 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")])
def test_seconds_in_words(seconds, text):
    assert output.format_seconds(seconds) == text


def test_a_long_name_loses_its_middle():
    assert output.shorten("a" * 20) == "a" * 20
    assert output.shorten("a" * 40 + "_0000017") == "a" * 17 + "..._0000017"


@pytest.mark.parametrize(
    ("score", "low", "n_classes", "guessing"),
    [(0.9, 0.8, 2, False), (0.6, 0.45, 2, True), (0.5, None, 2, True), (0.6, None, 2, False), (0.45, 0.4, 3, False)],
)
def test_a_coin_is_right_on_one_of_two_classes(score, low, n_classes, guessing):
    assert output.is_guessing({"score": score, "low": low, "n_strokes": [7] * n_classes}) == guessing
