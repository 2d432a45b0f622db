import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellscribble.config import AugmentConfig, TrainConfig, config_from_mapping, load_config, method_settings
from cellscribble.core.errors import InputError
from cellscribble.methods.registry import get_method


def test_defaults_are_a_budget_of_ten_minutes():
    config = TrainConfig()
    assert (config.minutes, config.epochs, config.method) == (10.0, None, "scribble2label")


@given(
    epochs=st.integers(1, 500),
    seed=st.integers(0, 2**31),
    share=st.floats(0, 0.99),
    scale=st.floats(1, 3),
    tau=st.floats(0.5, 0.99),
)
def test_a_config_survives_json(epochs, seed, share, scale, tau):
    config = TrainConfig(
        minutes=None,
        epochs=epochs,
        seed=seed,
        anywhere_share=share,
        augment=AugmentConfig(scale=scale),
        method_settings={"tau": tau},
    )
    assert config_from_mapping(json.loads(json.dumps(config.to_json())), "file") == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs": 5, "minutes": 5.0}, "minutes is 5.0 and epochs is 5; give exactly one"),
        ({"minutes": None}, "give exactly one of them"),
        ({"minutes": 0}, "minutes is 0; expected more than 0"),
        ({"minutes": float("nan")}, "minutes is nan"),
        ({"epochs": 0}, "epochs is 0; expected 1 or more"),
        ({"warmup_epochs": 0}, "warmup_epochs is 0"),
        ({"warmup_epochs": -3}, "warmup_epochs is -3"),
        ({"refresh_every_epochs": 0}, "refresh_every_epochs is 0"),
        ({"patch_px": 16}, "patch_px is 16; expected 32 or more"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"learning_rate": 0}, "learning_rate is 0"),
        ({"anywhere_share": 1.0}, "anywhere_share is 1.0; expected 0 <= share < 1"),
        ({"holdout_share": -0.1}, "holdout_share is -0.1"),
        ({"seed": -1}, "seed is -1; expected 0 or more"),
        ({"seed": 1.5}, "seed is 1.5"),
        ({"batch_size": 2.5}, "batch_size is 2.5"),
        ({"patch_px": True}, "patch_px is True"),
        ({"network": 5}, "network is 5"),
        ({"epochs": "5"}, "epochs is '5'"),
        ({"learning_rate": "fast"}, "learning_rate is 'fast'"),
        ({"device": "tpu"}, "device is 'tpu'; expected auto, cpu or cuda"),
        ({"augment": {"scale": 0.5}}, r"augment.scale is 0.5; expected 1 \(no zoom\) or more"),
        ({"augment": {"contrast": 0}}, "augment.contrast is 0"),
        ({"augment": {"brightness": -1}}, "augment.brightness is -1"),
        ({"augment": {"rotate": 3}}, "rotate is 3"),
        ({"augment": 3}, r"augment is 3; expected a table, \[augment\]"),
        ({"method_settings": "tau"}, r"method_settings is 'tau'; expected a table"),
    ],
)
def test_values_out_of_range_are_refused(values, message):
    with pytest.raises(InputError, match=message):
        config_from_mapping(values, "file.toml")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"bach_size": 4}, "file.toml: unknown setting 'bach_size'; did you mean 'batch_size'?"),
        ({"augment": {"rotation": True}}, r"table \[augment\]: unknown setting 'rotation'; did you mean 'rotate'?"),
        ({"zzz": 1}, "unknown setting 'zzz'; known are: method, method_settings"),
    ],
)
def test_an_unknown_key_suggests_the_closest(values, message):
    with pytest.raises(InputError, match=message):
        config_from_mapping(values, "file.toml")


def test_flag_over_file_over_default(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text("batch_size = 3\nseed = 7\nminutes = 2\n[augment]\nscale = 2.0\n[method_settings]\ntau = 0.9\n")
    config = load_config(file, {"seed": 9})
    assert (config.batch_size, config.seed, config.minutes, config.patch_px) == (3, 9, 2, TrainConfig().patch_px)
    assert config.augment == AugmentConfig(scale=2.0)
    assert config.method_settings == {"tau": 0.9}
    # Epochs as a flag beat minutes of the file, and the reverse.
    assert (load_config(file, {"epochs": 5}).epochs, load_config(file, {"epochs": 5}).minutes) == (5, None)
    file.write_text("epochs = 4")
    assert (load_config(file, {}).epochs, load_config(file, {}).minutes) == (4, None)
    assert (load_config(file, {"minutes": 1.0}).epochs, load_config(file, {"minutes": 1.0}).minutes) == (None, 1.0)


def test_a_broken_file_is_named(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text("seed = = 3")
    with pytest.raises(InputError, match=r"run\.toml cannot be read as TOML: .*line 1"):
        load_config(file, {})
    with pytest.raises(InputError, match="cannot be read as TOML"):
        load_config(tmp_path / "none.toml", {})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tau": 0.3}, "tau is 0.3"),
        ({"tau": 1.0}, "tau is 1.0"),
        ({"alpha": 0}, "alpha is 0"),
        ({"alpha": 1.1}, "alpha is 1.1"),
        ({"pseudo_weight": -1}, "pseudo_weight is -1"),
        ({"aplha": 0.1}, "unknown setting 'aplha'; did you mean 'alpha'?"),
        ({"tau": "high"}, r"\[method_settings\] of scribble2label: wrong type"),
    ],
)
def test_the_settings_of_a_method_are_checked(settings, message):
    config = TrainConfig(method_settings=settings)
    with pytest.raises(InputError, match=message):
        method_settings(config, get_method("scribble2label").Config)
