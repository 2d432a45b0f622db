"""Moving a result out of the folder where it was made; may be killed at any moment and done again.

What is to be moved is written down first (`publish.json`). From then on a part that is no longer in
the folder has been moved. An old result that is replaced is moved into the folder, and goes with it.
"""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

from cellscribble.core.errors import OutputError
from cellscribble.io.atomic import TEMPORARY_MARK, check_writable, exchange, explain_write_error, remove, save_json

INTENT = "publish.json"

_ZARR_TEMPORARY = re.compile(r".*\.[0-9a-f]{32}\.partial")
"""Names under which zarr's LocalStore writes a chunk before it renames it."""

Target = tuple[str, Path]
"""Name inside the folder, final path."""


def move_out(folder: Path, targets: Sequence[Target], overwrite: bool) -> None:
    """Write down what is to be moved, then move each to its final path in the given order.

    Raises
    ------
    OutputError
        If a part is missing, a final path is taken (without `overwrite`), the interrupted call
        before this one had other targets, or the system refuses. Nothing is lost.
    """
    intended = read_intent(folder)
    wanted = [_written(folder, target) for target in targets]
    if not intended:
        for inner, final in targets:
            _check_there(folder, inner)
            check_writable(final, overwrite)
        for inner, _ in targets:
            _remove_temporaries(folder / inner)
        save_json(folder / INTENT, {"targets": wanted})
    elif intended != wanted:
        raise OutputError(
            f"{folder} holds a result that was to be put at {', '.join(name for _, name in intended)}; "
            f"ask for the same outputs again, or delete {folder} and start anew"
        )
    for index, target in enumerate(targets):
        if not is_moved(folder, target, wanted):
            _check_there(folder, target[0])
            check_writable(target[1], overwrite)
            _move(folder / target[0], target[1], _aside(folder, index))


def is_publishing(folder: Path) -> bool:
    """Whether a result is being moved out of `folder`, or that was interrupted."""
    return (folder / INTENT).exists()


def read_intent(folder: Path) -> list[list[str]]:
    """Name inside the folder and path from its parent of each part of the result; empty before `move_out`."""
    try:
        text = (folder / INTENT).read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise OutputError(f"{folder / INTENT} cannot be read ({error}); check the disk and its permissions") from error
    try:
        return [[str(inner), str(final)] for inner, final in json.loads(text)["targets"]]
    except (ValueError, KeyError, TypeError) as error:
        raise OutputError(f"{folder / INTENT} is damaged; delete {folder} and start anew") from error


def put_back(folder: Path) -> None:
    """Return old results whose place is empty, since the move was interrupted in the middle of it."""
    for index, (_, name) in enumerate(read_intent(folder)):
        aside, final = _aside(folder, index), folder.parent / name
        if os.path.lexists(aside) and not os.path.lexists(final):
            try:
                os.rename(aside, final)
            except OSError as error:
                raise explain_write_error(error, final) from error


def _move(inner: Path, final: Path, aside: Path) -> None:
    try:
        if os.path.lexists(final) and (final.is_dir() or inner.is_dir()):
            # A folder cannot be replaced in one step.
            remove(aside)
            exchange(inner, final, aside)
        else:
            os.replace(inner, final)
    except OSError as error:
        if error.errno == errno.EXDEV:
            raise OutputError(
                f"cannot move {inner} to {final}: they are on different disks; "
                f"the finished result is in {inner.parent}, so copy it from there by hand, "
                "or choose an output whose folder is on one disk with it"
            ) from error
        raise explain_write_error(error, final) from error


def is_moved(folder: Path, target: Target, intended: Sequence[Sequence[str]]) -> bool:
    """True if a part of what was intended is at its final path already."""
    inner, final = target
    return _written(folder, target) in intended and not os.path.lexists(folder / inner) and os.path.lexists(final)


def _written(folder: Path, target: Target) -> list[str]:
    # Relative, so that the parent folder may be moved in between.
    return [target[0], os.path.relpath(target[1].absolute(), folder.absolute().parent)]


def _check_there(folder: Path, inner: str) -> None:
    if not os.path.lexists(folder / inner):
        raise OutputError(f"{folder / inner} is missing: somebody removed it; delete {folder} and start anew")


def _remove_temporaries(path: Path) -> None:
    """Delete what interrupted writes left below `path`."""
    for parent, folders, files in os.walk(path):
        for name in [*files, *folders]:
            if name.startswith(TEMPORARY_MARK) or _ZARR_TEMPORARY.fullmatch(name):
                remove(Path(parent, name))


def _aside(folder: Path, index: int) -> Path:
    return folder / f"replaced-{index}"
