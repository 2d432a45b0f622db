"""From a file's axes to the one order inside CellScribble: (C, [Z,] Y, X).

Letters: T time, Z depth, C channel, Y, X, S samples of a colour pixel, and tifffile's letters for
axes that a file does not name (I pages, Q anything).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cellscribble.core.errors import InputError

KNOWN = "TCZYXS"
UNNAMED = "IQ"


@dataclass(frozen=True, slots=True)
class AxesPlan:
    """How to read a stored array in canonical order.

    letters : the stored array's axes, one letter each
    fixed : index to take on axes that vanish, by position in the stored array
    order : stored positions of the axes that stay, in canonical order without a missing C
    n_channels : channels to keep (an alpha channel is dropped), None without a channel axis
    axes : "CYX" or "CZYX"
    """

    letters: str
    fixed: dict[int, int]
    order: tuple[int, ...]
    n_channels: int | None
    axes: str
    is_rgb: bool


class ArrayView:
    """A lazy (C, *spatial) look at a stored array of any axis order.

    It has `shape`, `dtype`, `ndim` and slicing, and reads from `source` (zarr, dask, anything that
    slices) only what is asked for.
    """

    def __init__(self, source: Any, plan: AxesPlan) -> None:
        self._source = source
        self._plan = plan
        channels = () if plan.n_channels is not None else (1,)
        sizes = [int(source.shape[i]) for i in plan.order]
        if plan.n_channels is not None:
            sizes[0] = plan.n_channels
        self.shape: tuple[int, ...] = (*channels, *sizes)
        self.dtype: np.dtype[Any] = np.dtype(source.dtype)
        self.ndim = len(self.shape)
        # Of the stored array and in its order: what a read unpacks at least.
        self.chunks: tuple[int, ...] | None = getattr(source, "chunks", None)
        # The same along our spatial axes.
        self.chunk_px = self.chunks and tuple(int(self.chunks[i]) for i in plan.order[1 - len(plan.axes) :])

    def __getitem__(self, key: Any) -> npt.NDArray[Any]:
        keys = _full_key(key, self.shape)
        stored: list[Any] = [slice(None)] * len(self._source.shape)
        for axis, index in self._plan.fixed.items():
            stored[axis] = slice(index, index + 1)
        ours = keys if self._plan.n_channels is not None else keys[1:]
        for axis, part in zip(self._plan.order, ours, strict=True):
            stored[axis] = part
        block = _arrange(np.asarray(self._source[tuple(stored)]), self._plan)
        if self._plan.n_channels is None:
            block = block[keys[0]]
        drop = tuple(slice(None) if isinstance(k, slice) else 0 for k in _as_tuple(key, self.ndim))
        return np.asarray(block[drop])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.asarray(self[:], dtype=dtype)

    def __repr__(self) -> str:
        return f"ArrayView(shape={self.shape}, dtype={self.dtype})"


def resolve_axes(letters: str, shape: Sequence[int], dtype: Any) -> tuple[str, str]:
    """Name the unnamed axes of a file; returns the letters and a remark for the user ("" if none).

    One unnamed axis is depth: pages of a TIFF are slices to the person who made it. The exception is
    an array saved with channels last, which shows as a last axis of at most 4 pixels.

    Raises
    ------
    InputError
        If two or more axes longer than 1 have no name, or one has an unusual one.
    """
    shape = tuple(int(n) for n in shape)
    if len(shape) == 3 and letters[0] in UNNAMED and shape[-1] <= 4 and min(shape[:2]) > 16:
        colour = np.dtype(dtype) == np.uint8 and shape[-1] in (3, 4)
        return ("YXS" if colour else "YXC"), "last axis taken as " + ("RGB" if colour else "channels")
    unnamed = [i for i, (a, n) in enumerate(zip(letters, shape, strict=True)) if a not in KNOWN and n > 1]
    if not unnamed:
        return letters, ""
    has_z = any(a == "Z" and n > 1 for a, n in zip(letters, shape, strict=True))
    first = unnamed[0]
    if len(unnamed) > 1 or has_z or letters[first] not in UNNAMED:
        raise InputError(
            f"the file does not say what its axes {letters} of shape {shape} are; give them, one letter "
            f"for each of these {len(shape)}, with --axes (T time, Z depth, C channel, Y, X), "
            "for example --axes " + "TZCYX"[-len(shape) :]
        )
    # An axis of length 1 may be called Z already; it vanishes, so its letter is free.
    named = letters.replace("Z", "I")
    named = named[:first] + "Z" + named[first + 1 :]
    remark = f"{shape[first]} pages taken as depth"
    if shape[first] <= 4:
        remark += " (if they are channels, give --axes " + named.replace("Z", "C") + ")"
    return named, remark


def check_axes(axes: str, shape: Sequence[int]) -> str:
    """The user's own axes, upper case.

    Raises
    ------
    InputError
        If a letter is unknown or doubled, Y or X is missing, or the length is not that of `shape`.
    """
    letters = axes.upper()
    bad = sorted(set(letters) - set(KNOWN))
    if bad or len(set(letters)) != len(letters) or not {"Y", "X"} <= set(letters):
        raise InputError(f"--axes {axes}: use each of the letters T Z C Y X S at most once, with both Y and X")
    if len(letters) != len(shape):
        raise InputError(
            f"--axes {letters} names {len(letters)} axes but the file has {len(shape)}: "
            f"its shape is {tuple(int(n) for n in shape)}; give one letter for each"
        )
    return letters


def plan_axes(letters: str, shape: Sequence[int], timepoint: int | None = None) -> AxesPlan:
    """Plan how an array with axes `letters` becomes (C, [Z,] Y, X).

    Raises
    ------
    InputError
        If there are several time points and none is chosen, the chosen one does not exist, or C and
        S are both longer than 1.
    """
    size = dict(zip(letters, (int(n) for n in shape), strict=True))
    fixed = {i: 0 for i, a in enumerate(letters) if a not in "YX" and size[a] == 1}
    _check_time(size.get("T", 1), timepoint)
    if size.get("T", 1) > 1:
        fixed[letters.index("T")] = timepoint or 0
    samples, channels = size.get("S", 1), size.get("C", 1)
    if samples > 1 and channels > 1:
        raise InputError(
            f"the file has {channels} channels of {samples} colour samples each (axes {letters}); "
            "save one kind of channel only (Fiji: Image > Color > Split Channels)"
        )
    channel = "S" if samples > 1 else "C" if channels > 1 else ""
    depth = "Z" if size.get("Z", 1) > 1 else ""
    # 2 samples are grey and alpha, 4 are RGB and alpha.
    kept = {2: 1, 4: 3}.get(samples, samples) if channel == "S" else channels
    order = tuple(letters.index(a) for a in channel + depth + "YX")
    return AxesPlan(
        letters,
        fixed,
        order,
        kept if channel else None,
        "C" + depth + "YX",
        is_rgb=channel == "S" and kept == 3,
    )


def to_canonical(source: Any, plan: AxesPlan) -> Any:
    """`source` in canonical order: numpy arrays (and memory maps) as views, others lazily."""
    if not isinstance(source, np.ndarray):
        return ArrayView(source, plan)
    index: list[Any] = [slice(None)] * source.ndim
    for axis, i in plan.fixed.items():
        index[axis] = slice(i, i + 1)
    block = _arrange(source[tuple(index)], plan)
    return block[: plan.n_channels]


def _arrange(block: Any, plan: AxesPlan) -> Any:
    rest = tuple(i for i in range(block.ndim) if i not in plan.order)
    block = block.transpose(plan.order + rest)
    block = block.reshape(block.shape[: len(plan.order)]) if rest else block
    return block if plan.n_channels is not None else block[None]


def _check_time(n_times: int, timepoint: int | None) -> None:
    if n_times > 1 and timepoint is None:
        raise InputError(f"the image has {n_times} time points; choose one with --timepoint 0 .. {n_times - 1}")
    if timepoint is not None and not 0 <= timepoint < n_times:
        raise InputError(
            f"--timepoint {timepoint}: the image has {n_times} time point{'s' * (n_times > 1)}, "
            f"so it must be 0{f' .. {n_times - 1}' if n_times > 1 else ''}"
        )


def _as_tuple(key: Any, ndim: int) -> tuple[Any, ...]:
    keys = key if isinstance(key, tuple) else (key,)
    if Ellipsis in keys:
        at = keys.index(Ellipsis)
        keys = keys[:at] + (slice(None),) * (ndim - len(keys) + 1) + keys[at + 1 :]
    return keys + (slice(None),) * (ndim - len(keys))


def _full_key(key: Any, shape: tuple[int, ...]) -> tuple[slice, ...]:
    # Integers become slices of length 1, so that the transposition sees every axis.
    full = []
    for part, n in zip(_as_tuple(key, len(shape)), shape, strict=True):
        if isinstance(part, slice):
            start, stop, step = part.indices(n)
            if step < 1:
                raise IndexError("an image view takes slices with a positive step only")
            full.append(slice(start, max(start, stop), step))
        else:
            index = int(part) + (n if part < 0 else 0)
            if not 0 <= index < n:
                raise IndexError(f"index {part} is outside an axis of {n} pixels")
            full.append(slice(index, index + 1))
    return tuple(full)
