import subprocess
import sys

import pytest

from cellscribble.core.errors import InputError
from cellscribble.methods.base import Method
from cellscribble.methods.registry import DEFAULT_METHOD, METHODS, get_method


def test_the_default_is_listed():
    assert DEFAULT_METHOD in METHODS


@pytest.mark.parametrize("name", METHODS)
def test_each_name_gives_a_method(name):
    assert issubclass(get_method(name), Method)
    assert METHODS[name].summary
    assert METHODS[name].paper


def test_an_unknown_name_lists_all():
    with pytest.raises(InputError, match="'unet' is unknown; choose one of scribble2label, partial_cross_entropy"):
        get_method("unet")


def test_listing_imports_no_torch():
    code = "import sys, cellscribble.methods.registry; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
