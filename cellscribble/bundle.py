"""The model file: one ONNX network that carries, as JSON, all that `predict` needs to know.

The contract of the network: input `image` (N, C, *spatial) float32, normalised by `intensity`;
output `probability` (N, K, *spatial) float32 that sums to 1 over K, background first. Each spatial
size is a multiple of `stride_multiple`. A network may have one input more that need not be given: `trim`
((spatial axes, 2) int64, all 0 if not given), 1 for each side, before and behind, on which the image goes on for
`halo_px` (rounded up to the stride) beyond what is asked about; there the output is that much smaller, and the network
has not computed what is looked at from the halo only.

The metadata is found by walking the outermost layer of the file (a protobuf message) and skipping
the network, so that `info` needs neither ONNX Runtime nor the time to load the weights. The walk is
short and stands here so that one module knows all of the file's form.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, BinaryIO

from cellscribble.core.blocks import padded_shape
from cellscribble.core.errors import CellScribbleError, ModelError
from cellscribble.core.intensity import IntensityRule
from cellscribble.core.volume import AXES_2D, AXES_3D

SCHEMA = 1
"""Rises when an older CellScribble would misread a newer model."""

FLOAT32, INT8 = "float32", "int8"

MODEL_FILE = "model.onnx"
"""In the folder of a run or of a shipped model; the same network in 8 bits may lie beside it (`int8_path`)."""

TRIM = "trim"
"""The input that need not be given."""

METADATA_KEY = "cellscribble"
"""Our key in the ONNX file's metadata_props."""

# Field numbers of onnx.proto, frozen by ONNX's promise of compatibility.
_IR_VERSION, _GRAPH, _METADATA_PROPS = 1, 7, 14
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelMetadata:
    """What a model says about itself.

    Parameters
    ----------
    name : str
    classes : names in order of the network's output, background first
    colors : (red, green, blue) 0..255, one a class
    axes : {"CYX", "CZYX"}
    channels : names in the order of the network's input
    is_rgb : the channels are red, green, blue of a colour picture
    pixel_size_um : micrometres per pixel of the training images, one a spatial axis; None if unknown
    intensity : how values become network input
    stride_multiple : the network's stride, px, one a spatial axis
    halo_px : context that a pixel needs on each side (at least the receptive field), one a spatial axis
    segmenter, segmenter_parameters : what turns probability into labels (cellscribble.segment)
    edge_threshold : raw probability found at image edges; already inside the network, whose decision
        is therefore 0.5. None if it was not calibrated.
    usual_doubt : lowest and highest doubt that is usual in training images (`cellscribble.segment.doubt`); None where
        there were too few
    graph_cut : settings of the cut that decides what is cell (cellscribble.segment.graph_cut); None where
        each pixel decides by itself
    precision : {"float32", "int8"}, of the network's arithmetic; its input and output are float32 either way
    made_of : of an int8 model the sha256 of the float model that it was made of; else empty
    method, config, seed, versions, data_hashes, command, created : how the model came to be
    holdout : score on held-out strokes with its interval; None if there were too few strokes
    license, citation : of the model

    Raises
    ------
    ModelError
        If the fields contradict each other.
    """

    name: str
    classes: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]
    axes: str
    channels: tuple[str, ...]
    stride_multiple: tuple[int, ...]
    halo_px: tuple[int, ...]
    segmenter: str
    segmenter_parameters: dict[str, Any] = field(default_factory=dict)
    is_rgb: bool = False
    pixel_size_um: tuple[float, ...] | None = None
    intensity: IntensityRule = field(default_factory=IntensityRule)
    edge_threshold: float | None = None
    usual_doubt: tuple[float, float] | None = None
    graph_cut: dict[str, Any] | None = None
    precision: str = FLOAT32
    made_of: str = ""
    method: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    seed: int | None = None
    versions: dict[str, str] = field(default_factory=dict)
    data_hashes: dict[str, str] = field(default_factory=dict)
    holdout: dict[str, Any] | None = None
    license: str = ""
    citation: str = ""
    created: str = ""
    command: str = ""
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        if self.axes not in (AXES_2D, AXES_3D):
            raise ModelError(f"model axes are {self.axes!r}; expected 'CYX' or 'CZYX'")
        if len(self.classes) < 2 or len(self.colors) != len(self.classes):
            raise ModelError(
                f"model has classes {self.classes} and {len(self.colors)} colours; "
                "expected background, at least one class, and a colour for each"
            )
        if not self.channels:
            raise ModelError("model has no channels; expected one name for each network input")
        for key in ("stride_multiple", "halo_px", "pixel_size_um"):
            values = getattr(self, key)
            if values is not None and len(values) != self.ndim:
                raise ModelError(f"model {key} is {values}; axes {self.axes} need {self.ndim} values")
        if min(self.stride_multiple) < 1 or min(self.halo_px) < 0:
            raise ModelError(f"model stride {self.stride_multiple} or halo {self.halo_px} px is impossible")
        if self.precision not in (FLOAT32, INT8):
            raise ModelError(f"model precision is {self.precision!r}; expected {FLOAT32!r} or {INT8!r}")

    @property
    def read_halo_px(self) -> tuple[int, ...]:
        """`halo_px` on the network's stride: what a block is read with, and `trim` leaves out again."""
        return padded_shape(self.halo_px, self.stride_multiple)

    @property
    def ndim(self) -> int:
        """Number of spatial axes: 2 or 3."""
        return len(self.axes) - 1

    def to_json(self) -> str:
        """The JSON stored under `METADATA_KEY`: NaN as null."""
        plain = _plain(asdict(self))
        # Older versions read a model that needs none of these.
        for key, usual in (("usual_doubt", None), ("graph_cut", None), ("precision", FLOAT32), ("made_of", "")):
            if plain[key] == usual:
                del plain[key]
        return json.dumps(plain, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> ModelMetadata:
        """Read `to_json`'s text.

        Raises
        ------
        ModelError
            If it is not JSON, of another schema, or its keys or values do not fit this schema.
        """
        try:
            found = json.loads(text)
        except json.JSONDecodeError as error:
            raise ModelError(f"model metadata is not JSON ({error}); export the model again") from None
        if not isinstance(found, dict):
            raise ModelError("model metadata is not a JSON object; export the model again")
        _check_keys(cls, found)
        try:
            return cls(**_typed(found))
        except CellScribbleError as error:
            raise ModelError(f"{error}; export the model again") from None
        except (TypeError, ValueError, KeyError) as error:
            raise ModelError(f"model metadata cannot be read ({error}); export the model again") from None


@dataclass(frozen=True, slots=True)
class Model:
    """A model file that was found good: where it is, what it says, and its hash."""

    path: Path
    metadata: ModelMetadata
    sha256: str


def int8_path(path: Path) -> Path:
    """Where the int8 model of a float model lies: model_int8.onnx beside model.onnx."""
    return path.with_stem(f"{path.stem}_int8")


def open_model(path: str | Path) -> Model:
    """Read a model's metadata and hash the file; the network itself is loaded by `infer.Runner`.

    Raises
    ------
    ModelError
        As `read_metadata`.
    """
    path = Path(path)
    metadata = read_metadata(path)
    with path.open("rb") as file:
        return Model(path, metadata, hashlib.file_digest(file, "sha256").hexdigest())


def read_metadata(path: str | Path) -> ModelMetadata:
    """Read what a model says about itself.

    Raises
    ------
    ModelError
        If there is no such file, it is no ONNX file or a truncated one, it was not written by
        CellScribble, or it is of another schema.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"there is no model file {path}; give a model.onnx that 'cellscribble train' wrote")
    try:
        with path.open("rb") as file:
            text = _find_metadata(file, path.stat().st_size)
    except _NotProtobufError as error:
        raise ModelError(
            f"{path} is not an ONNX model or is truncated ({error}); copy it again, "
            "or export it with 'cellscribble export'"
        ) from None
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}); check the file's permissions") from None
    if text is None:
        raise ModelError(
            f"{path} is an ONNX network without CellScribble metadata, so its classes, pixel size and "
            "normalisation are unknown; use a model.onnx that 'cellscribble train' or 'export' wrote"
        )
    try:
        return ModelMetadata.from_json(text)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None


def _check_keys(cls: type[ModelMetadata], found: Mapping[str, Any]) -> None:
    schema = found.get("schema")
    if schema != SCHEMA:
        raise ModelError(
            f"the model is of schema {schema} but this CellScribble reads schema {SCHEMA}; "
            "update CellScribble, or export the model again with this version"
        )
    known = {f.name for f in fields(cls)}
    required = {f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING}
    missing, unknown = sorted(required - found.keys()), sorted(found.keys() - known)
    if missing or unknown:
        raise ModelError(
            f"model metadata lacks {missing or 'nothing'} and has unknown keys {unknown or 'none'}; "
            "it was written by another CellScribble: update, or export the model again"
        )


def _typed(found: Mapping[str, Any]) -> dict[str, Any]:
    """JSON's lists as the tuples of `ModelMetadata`."""
    out = dict(found)
    for key, kind in (("classes", str), ("channels", str), ("stride_multiple", int), ("halo_px", int)):
        out[key] = tuple(kind(value) for value in found[key])
    out["colors"] = tuple(tuple(int(value) for value in color) for color in found["colors"])
    if found.get("pixel_size_um") is not None:
        out["pixel_size_um"] = tuple(float(value) for value in found["pixel_size_um"])
    if found.get("usual_doubt") is not None:
        low, high = found["usual_doubt"]
        out["usual_doubt"] = float(low), float(high)
    if "intensity" in found:
        out["intensity"] = IntensityRule(**found["intensity"])
    return out


def _plain(value: Any) -> Any:
    """Values that JSON knows: numpy numbers and paths come in through a method's config."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, Path):
        return str(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


class _NotProtobufError(Exception):
    pass


def _find_metadata(file: BinaryIO, size: int) -> str | None:
    """Our JSON in an ONNX file, None if there is none. Only the top layer is read."""
    seen = set()
    text = None
    for number, start, length in _walk(file, 0, size):
        seen.add(number)
        if number == _METADATA_PROPS:
            pair = {key: _slice(file, a, n) for key, a, n in _walk(file, start, start + length)}
            if pair.get(1) == METADATA_KEY.encode():
                text = pair.get(2, b"").decode("utf-8", errors="replace")
    if not {_IR_VERSION, _GRAPH} <= seen:
        raise _NotProtobufError("no network inside")
    return text


def _slice(file: BinaryIO, start: int, length: int) -> bytes:
    file.seek(start)
    return file.read(length)


def _walk(file: BinaryIO, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Yield (field number, start, length) of each field of the message between two positions."""
    position = start
    while position < stop:
        tag, position = _varint(file, position, stop)
        number, kind = tag >> 3, tag & 7
        if kind == _BYTES:
            length, position = _varint(file, position, stop)
        elif kind == _VARINT:
            length = _varint(file, position, stop)[1] - position
        elif kind in (_FIXED32, _FIXED64):
            length = 4 if kind == _FIXED32 else 8
        else:
            raise _NotProtobufError(f"unknown field type {kind} at byte {position}")
        if number == 0 or position + length > stop:
            raise _NotProtobufError(f"a part at byte {position} ends past the file's end")
        yield number, position, length
        position += length


def _varint(file: BinaryIO, position: int, stop: int) -> tuple[int, int]:
    file.seek(position)
    value = 0
    for n, byte in enumerate(file.read(min(10, stop - position))):
        value |= (byte & 0x7F) << (7 * n)
        if not byte & 0x80:
            return value, position + n + 1
    raise _NotProtobufError(f"a number at byte {position} does not end")
