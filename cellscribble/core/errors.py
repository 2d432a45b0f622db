"""Every exception CellScribble raises on purpose.

Each message says what is wrong, what was found, and what to do. Each class also derives from the
builtin that a caller would catch anyway. The command line prints these and exits with 1;
anything else is a bug of ours and shows a traceback.
"""

from __future__ import annotations


class CellScribbleError(Exception):
    """Base of all errors that tell a user what to do."""


class InputError(CellScribbleError, ValueError):
    """An image, a scribble file, a label file or a setting cannot be used as given."""


class FileFormatError(InputError):
    """A file cannot be read: truncated, of unknown compression, or not what its name says."""


class RemoteError(CellScribbleError):
    """An address gives no answer, or refuses. Not an OSError: damage may be left out, a lost connection not."""


class OutputError(CellScribbleError, OSError):
    """A result cannot be written: it exists already, the folder is read-only, the disk is full."""


class ModelError(CellScribbleError, ValueError):
    """A file is not a CellScribble model, is of another schema, or does not fit the image."""


class MissingExtraError(CellScribbleError, ImportError):
    """An optional package is not installed; the message names the pip command."""


class TrainingError(CellScribbleError, RuntimeError):
    """Training cannot start or go on with these strokes and settings."""


class BatchError(CellScribbleError):
    """Some files of a batch failed; the others are done. The message lists each failure."""

    def __init__(self, failures: dict[str, str], n_done: int) -> None:
        self.failures = failures
        self.n_done = n_done
        lines = "\n".join(f"  {name}: {message}" for name, message in failures.items())
        super().__init__(f"{len(failures)} of {len(failures) + n_done} files failed:\n{lines}")
