"""What commands say: words and progress on stderr, JSON lines on stdout.

Without a terminal (a cluster's log, a plugin's pipe) the progress bar becomes a line a minute.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column

from cellscribble.io.atomic import explain_write_error

SCHEMA = 1
"""Of the JSON lines; rises when a reader would break."""

SECONDS_BETWEEN_LINES = 60.0


def emit(event: str, **fields: object) -> None:
    """Print one JSON line on stdout: {"schema": 1, "event": event, ...}. Paths become text."""
    line = json.dumps({"schema": SCHEMA, "event": event, **fields}, default=str, ensure_ascii=False)
    click.echo(line)


@functools.cache
def console() -> Console:
    """The one rich console, on stderr: what it prints goes above a running bar."""
    screen = Console(stderr=True, highlight=False)
    if not screen.is_terminal:
        # A file has no width; in 80 columns the table of a stack's images loses its headings.
        screen.width = 200
    return screen


def say(text: str) -> None:
    """Print words on stderr, as they are: a file name may hold what rich takes for markup."""
    console().print(text, markup=False, soft_wrap=True)


def warn(text: str) -> None:
    """Print a warning on stderr."""
    console().print(f"warning: {text}", markup=False, soft_wrap=True, style="yellow")


def holdout_words(score: Mapping[str, Any]) -> str:
    """The score on held-out strokes, as a run and a model carry it (`train.score.HoldoutScore`), in words."""
    strokes = " + ".join(str(n) for n in score["n_strokes"])
    right = f"{score['score']:.3f} of the pixels right"
    if score["low"] is None:
        return f"{right}; {strokes} strokes are too few for an interval, draw more to know how far this holds"
    return f"{right}, 95 % interval {score['low']:.3f} to {score['high']:.3f} ({strokes} strokes)"


def is_guessing(score: Mapping[str, Any]) -> bool:
    """Whether held-out strokes are told apart no better than by guessing a class; `score` as for `holdout_words`."""
    return bool((score["score"] if score["low"] is None else score["low"]) <= 1 / len(score["n_strokes"]))


class Bar(Protocol):
    """A running progress display."""

    def update(self, done: float, total: float | None = None, text: str | None = None) -> None:
        """Set how much is done, of how much, and what stands beside the bar."""

    def part(self, what: str, done: float, total: float) -> None:
        """Set how far a long part of the work is; it is shown until the next `update`."""


@contextmanager
def progress_bar(title: str, total: float | None = None, log: Path | None = None) -> Iterator[Bar]:
    """Show progress on stderr while the block runs; yields what is to be updated.

    Parameters
    ----------
    title : what is being done
    total : amount in all, if known
    log : file to which a line a minute is added, and one at the end

    Raises
    ------
    OutputError
        If the log cannot be written to.
    """
    if log is not None:
        logged = _Lines(title, total, functools.partial(_add_line, log))
        _add_line(log, f"{title} starts")
        with progress_bar(title, total) as bar:
            try:
                yield _Both(bar, logged)
            finally:
                logged.last()
        return
    screen = console()
    if not screen.is_terminal:
        yield _Lines(title, total, say)
        return
    # What stands beside the bar gives way when the window is narrow, the numbers do not.
    giving_way = Column(no_wrap=True, overflow="ellipsis", ratio=1)
    columns: tuple[ProgressColumn, ...] = (
        TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
        BarColumn(bar_width=24),
        _Percent(table_column=Column(no_wrap=True, min_width=5)),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True, table_column=Column(no_wrap=True, min_width=5)),
        TextColumn("{task.fields[text]}", markup=False, table_column=giving_way),
    )
    with Progress(*columns, console=screen, expand=True) as progress:
        yield _RichBar(progress, title, total)


class _Percent(ProgressColumn):
    def render(self, task: Task) -> str:
        return "" if task.total is None else f"{task.percentage:3.0f} %"


class _RichBar:
    def __init__(self, progress: Progress, title: str, total: float | None) -> None:
        self._progress = progress
        self._task = progress.add_task(title, total=total, text="")
        self._part: tuple[str, TaskID] | None = None

    def update(self, done: float, total: float | None = None, text: str | None = None) -> None:
        self._end_part()
        self._progress.update(self._task, completed=done, total=total)
        if text is not None:
            self._progress.update(self._task, text=text)

    def part(self, what: str, done: float, total: float) -> None:
        if self._part is None or self._part[0] != what:
            self._end_part()
            self._part = what, self._progress.add_task(what, total=total, text="")
        self._progress.update(self._part[1], completed=done, total=total)

    def _end_part(self) -> None:
        if self._part is not None:
            self._progress.remove_task(self._part[1])
            self._part = None


class _Lines:
    """A line every `SECONDS_BETWEEN_LINES`."""

    def __init__(self, title: str, total: float | None, write: Callable[[str], None]) -> None:
        self._write, self._last = write, time.monotonic()
        self._whole, self._text = _Share(title, total), ""
        self._part: _Share | None = None

    def update(self, done: float, total: float | None = None, text: str | None = None) -> None:
        self._part = None
        self._text = text if text is not None else self._text
        self._whole.set(done, total)
        self._write_if_time()

    def part(self, what: str, done: float, total: float) -> None:
        if self._part is None or self._part.what != what:
            self._part = _Share(what, total)
        self._part.set(done, total)
        self._write_if_time()

    def last(self) -> None:
        """Write a line about how far it came."""
        parts = [*self._whole.words(), *([self._text] if self._text else [])]
        self._write(", ".join([*parts, *(self._part.words() if self._part else [])]))

    def _write_if_time(self) -> None:
        now = time.monotonic()
        if now - self._last >= SECONDS_BETWEEN_LINES:
            self._last = now
            self.last()


class _Share:
    """How much of something is done, and how long the rest takes, in words."""

    def __init__(self, what: str, total: float | None) -> None:
        self.what, self._total, self._done = what, total, 0.0
        self._first: tuple[float, float] | None = None

    def set(self, done: float, total: float | None) -> None:
        self._done, self._total = done, self._total if total is None else total
        # Work that an earlier run has done was there at once: it says nothing about the time.
        self._first = self._first or (time.monotonic(), done)

    def words(self) -> list[str]:
        words, now = [self.what], time.monotonic()
        if self._total:
            words.append(f"{100 * self._done / self._total:.0f} %")
            start, before = self._first or (now, 0.0)
            if before < self._done < self._total:
                left = (now - start) * (self._total - self._done) / (self._done - before)
                words.append(f"{format_seconds(left)} left")
        return words


class _Both:
    """Two displays as one."""

    def __init__(self, one: Bar, other: Bar) -> None:
        self._bars = one, other

    def update(self, done: float, total: float | None = None, text: str | None = None) -> None:
        for bar in self._bars:
            bar.update(done, total, text)

    def part(self, what: str, done: float, total: float) -> None:
        for bar in self._bars:
            bar.part(what, done, total)


def _add_line(path: Path, text: str) -> None:
    """Add a line with the time of day to a file, which others may read meanwhile."""
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
    except OSError as error:
        raise explain_write_error(error, path) from error


def format_seconds(seconds: float) -> str:
    """ "8 s", "3 min 20 s" or "2 h 5 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def shorten(name: str, length: int = 28) -> str:
    """A long file name with its middle left out."""
    if len(name) <= length:
        return name
    return f"{name[: length - 11]}...{name[-8:]}"
