"""The settings of one training run: flag over file over default."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from cellscribble.core.errors import InputError

DEFAULT_MINUTES = 10.0
MAX_MINUTES = 7 * 24 * 60
EPOCHS_OF_A_BUDGET = 60
"""A time budget is cut into about this many epochs, whatever its length."""


@dataclass(frozen=True, slots=True)
class AugmentConfig:
    """Ranges of the random changes of a training patch.

    scale : largest zoom, drawn log-uniformly from 1/scale..scale
    rotate : also angles between the quarter turns (in the last two axes)
    brightness : largest shift, in units of the normalised range
    contrast : largest factor, drawn log-uniformly from 1/contrast..contrast
    channel_brightness, channel_contrast : the same for each channel by itself, where there are several
    transplants : rectangles of other patches put into each patch, see `data.patches.transplant`
    transplant_min_px, transplant_max_px : their edge, drawn log-uniformly
    """

    scale: float = 1.25
    rotate: bool = True
    brightness: float = 0.03
    contrast: float = 1.15
    channel_brightness: float = 0.1
    channel_contrast: float = 1.3
    transplants: int = 8
    transplant_min_px: int = 6
    transplant_max_px: int = 48

    def __post_init__(self) -> None:
        _check_types(self, "augment.")
        _require(self.scale >= 1, f"augment.scale is {self.scale}; expected 1 (no zoom) or more")
        for name in ("contrast", "channel_contrast"):
            value = getattr(self, name)
            _require(value >= 1, f"augment.{name} is {value}; expected 1 (none) or more")
        _require(self.transplants >= 0, f"augment.transplants is {self.transplants}; expected 0 (none) or more")
        _require(
            1 <= self.transplant_min_px <= self.transplant_max_px,
            f"augment.transplant_min_px is {self.transplant_min_px} and transplant_max_px {self.transplant_max_px}; "
            "expected 1 <= min <= max",
        )
        for name in ("brightness", "channel_brightness"):
            value = getattr(self, name)
            _require(value >= 0, f"augment.{name} is {value}; expected 0 (none) or more")


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Everything that decides what a run learns; stored in the run folder and in the model.

    method : name in the registry; its own settings stand in `method_settings`
    network : "light", "multi_field", "resnet34" or "resnet50"
    encoder_weights : path of an ImageNet state dict for a ResNet encoder, or None
    minutes : time budget; None when `epochs` is given
    epochs : passes over the training images; None when a time budget is given
    warmup_epochs : length of the first stage; None takes the published 100, at most half of the run.
        Only with `epochs`: a time budget scales its stages
    refresh_every_epochs : gamma of Scribble2Label; None takes the published 5. Only with `epochs`
    patch_px : patch edge; None takes 128, and the paper's 256 for a ResNet. In a volume it is three eighths of
        that, and the z extent follows from the pixel size, no more than the volume has
    batch_size, learning_rate : of RAdam; cosine annealing restarts with each stage
    anywhere_share : share of the patches placed without regard to strokes
    holdout_share : share of the strokes kept back for scoring
    seed : of everything random
    device : "auto", "cpu" or "cuda"
    axes, timepoint, level : how the image files are read, as in `io.images.open_image`; None as they say, of a
        pyramid the finest level
    """

    method: str = "scribble2label"
    method_settings: Mapping[str, Any] = field(default_factory=dict)
    network: str = "light"
    encoder_weights: str | None = None
    minutes: float | None = DEFAULT_MINUTES
    epochs: int | None = None
    warmup_epochs: int | None = None
    refresh_every_epochs: int | None = None
    patch_px: int | None = None
    batch_size: int = 4
    learning_rate: float = 3e-3
    anywhere_share: float = 0.3
    holdout_share: float = 0.1
    seed: int = 0
    device: str = "auto"
    axes: str | None = None
    timepoint: int | None = None
    level: int | None = None
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    def __post_init__(self) -> None:
        _check_types(self)
        _require(
            (self.minutes is None) != (self.epochs is None),
            f"minutes is {self.minutes} and epochs is {self.epochs}; give exactly one of them",
        )
        _require(
            self.minutes is None or 0 < self.minutes <= MAX_MINUTES,
            f"minutes is {self.minutes}; expected more than 0 and at most {MAX_MINUTES} (a week)",
        )
        _require(self.epochs is None or self.epochs >= 1, f"epochs is {self.epochs}; expected 1 or more")
        for name in ("warmup_epochs", "refresh_every_epochs"):
            value = getattr(self, name)
            _require(value is None or value >= 1, f"{name} is {value}; expected 1 or more")
            _require(
                value is None or self.epochs is not None,
                f"{name} is {value} but the run has a time budget, which scales its stages; "
                "give epochs instead of minutes, or leave it out",
            )
        _require(
            self.warmup_epochs is None or self.epochs is None or self.warmup_epochs < self.epochs,
            f"warmup_epochs is {self.warmup_epochs} of {self.epochs} epochs; leave at least one for the second stage",
        )
        _require(self.seed >= 0, f"seed is {self.seed}; expected 0 or more")
        for name in ("timepoint", "level"):
            value = getattr(self, name)
            _require(value is None or value >= 0, f"{name} is {value}; expected 0 or more")
        _require(self.batch_size >= 1, f"batch_size is {self.batch_size}; expected 1 or more")
        _require(self.patch_px is None or self.patch_px >= 32, f"patch_px is {self.patch_px}; expected 32 or more")
        _require(self.learning_rate > 0, f"learning_rate is {self.learning_rate}; expected more than 0")
        for name in ("anywhere_share", "holdout_share"):
            _require(0 <= getattr(self, name) < 1, f"{name} is {getattr(self, name)}; expected 0 <= share < 1")
        _require(self.device in ("auto", "cpu", "cuda"), f"device is {self.device!r}; expected auto, cpu or cuda")

    @property
    def reading(self) -> dict[str, Any]:
        """How image files are read: the keywords of `open_image` beside the path."""
        return {"axes": self.axes, "timepoint": self.timepoint, "level": self.level or 0}

    def to_json(self) -> dict[str, Any]:
        """Plain values, as written into the run folder and the model."""
        return {**asdict(self), "method_settings": dict(self.method_settings)}


def config_from_mapping(values: Mapping[str, Any], source: str) -> TrainConfig:
    """Build a config from nested plain values, as a TOML file or a run folder holds them.

    Raises
    ------
    InputError
        For an unknown key (names the closest one) or a value out of range.
    """
    values = dict(values)
    _check_keys(values, TrainConfig, source)
    for table in ("augment", "method_settings"):
        _require(
            isinstance(values.get(table, {}), Mapping),
            f"{source}: {table} is {values.get(table)!r}; expected a table, [{table}] and lines below it",
        )
    augment = dict(values.pop("augment", {}))
    _check_keys(augment, AugmentConfig, f"{source}, table [augment]")
    if values.get("epochs") is not None and "minutes" not in values:
        values["minutes"] = None
    return TrainConfig(augment=AugmentConfig(**augment), **values)


def load_config(file: Path | None, flags: Mapping[str, Any]) -> TrainConfig:
    """The config of a TOML file (or the defaults) with the given flags on top.

    `flags` holds only what the user typed. `minutes` and `epochs` exclude one another: the flag
    wins over what the file says of either.
    """
    values: dict[str, Any] = {}
    if file is not None:
        try:
            values = tomllib.loads(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise InputError(f"{file} cannot be read as TOML: {error}") from error
    flags = dict(flags)
    for given, other in (("minutes", "epochs"), ("epochs", "minutes")):
        if given in flags and other not in flags:
            flags[other] = None
    return config_from_mapping({**values, **flags}, str(file) if file else "the command line")


def method_settings(config: TrainConfig, settings: type[Any]) -> Any:
    """The method's own frozen settings, checked; `settings` is its Config class."""
    _check_keys(config.method_settings, settings, f"[method_settings] of {config.method}")
    try:
        checked = settings(**config.method_settings)
        _check_types(checked)
        return checked
    except TypeError as error:
        raise InputError(f"[method_settings] of {config.method}: wrong type ({error})") from error


def _check_keys(values: Mapping[str, Any], settings: type[Any], source: str) -> None:
    known = [f.name for f in fields(settings)]
    for key in values:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are: {', '.join(known) or 'none'}"
            raise InputError(f"{source}: unknown setting {key!r}; {hint}")


_KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    "int": ((int,), "a whole number"),
    "float": ((int, float), "a number"),
    "bool": ((bool,), "true or false"),
    "str": ((str,), "text in quotes"),
}


def _check_types(settings: Any, prefix: str = "") -> None:
    """Refuse a text for a number, and the like: TOML holds what the user typed."""
    for field_ in fields(settings):
        value = getattr(settings, field_.name)
        kind, _, optional = str(field_.type).partition(" | ")
        if kind not in _KINDS or (optional == "None" and value is None):
            continue
        allowed, words = _KINDS[kind]
        # bool is an int to Python, not to a user.
        fits = isinstance(value, allowed) and isinstance(value, bool) == (kind == "bool")
        _require(fits, f"{prefix}{field_.name} is {value!r}; expected {words}")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise InputError(message)
