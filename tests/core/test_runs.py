"""An array as runs of equal values."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cellscribble.core.runs import Runs


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40))
def test_runs_are_the_array_and_a_table_changes_the_values_alone(values: list[int]) -> None:
    whole = np.array(values, np.uint16).reshape(1, -1)
    at = np.flatnonzero(whole)
    # Each pixel a run of its own is a way to say it too.
    runs = Runs.amid_zeros(at, np.ones(len(at), np.int64), whole.ravel()[at], whole.shape)
    np.testing.assert_array_equal(runs.array(), whole)
    table = np.array([0, 7, 70_000, 2], np.uint32)
    np.testing.assert_array_equal(runs.through(table).array(), table[whole])
