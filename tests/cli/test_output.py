import io
import json

import pytest

from cellscribble.cli import output


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


def test_without_a_terminal_progress_is_a_line_now_and_then(capsys, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(output.time, "monotonic", lambda: clock[0])
    with output.progress_bar("predict") as bar:
        for done in range(1, 41):
            clock[0] = float(done)
            bar.update(done, 40, "slide")
    assert capsys.readouterr().err == "predict, 38 %, 25 s left, slide\npredict, 75 %, 10 s left, slide\n"


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


@pytest.mark.parametrize(("seconds", "text"), [(7.6, "8 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")])
def test_seconds_in_words(seconds, text):
    assert output.format_seconds(seconds) == text


def test_a_long_name_loses_its_middle():
    assert output.shorten("a" * 20) == "a" * 20
    assert output.shorten("a" * 40 + "_0000017") == "a" * 17 + "..._0000017"
