"""What comes back is what was given, in order, however little of it may be in memory."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellscribble.measure import sorted_records
from cellscribble.measure.sorted_records import SortedRecords, to_records


@given(seed=st.integers(0, 2**32 - 1), highest=st.integers(0, 400), at_once=st.integers(1, 40))
@settings(max_examples=60)
def test_records_come_back_in_order_and_those_of_one_key_together(seed, highest, at_once):
    rng = np.random.default_rng(seed)
    keys = rng.integers(0, highest + 1, rng.integers(0, 300))
    values = rng.random((len(keys), 2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sorted_records, "AT_ONCE", at_once)
        patch.setattr(sorted_records, "_LEAST_READ", 2)
        records = SortedRecords("key")
        for part in np.array_split(np.arange(len(keys)), 7):
            records.add(to_records({"key": keys[part], "value": values[part]}))
        assert len(records) == len(keys)
        parts = list(records)
        again = np.concatenate(list(records))
        records.close()
    order = np.argsort(keys, kind="stable")
    found = np.concatenate(parts)
    np.testing.assert_array_equal(found["key"], keys[order])
    assert sorted(map(tuple, found["value"])) == sorted(map(tuple, values))
    for key in np.unique(keys):
        assert sum((part["key"] == key).any() for part in parts) == 1
    np.testing.assert_array_equal(again, found)


def test_beyond_what_memory_takes_they_lie_in_a_file_that_nobody_sees(tmp_path, monkeypatch):
    monkeypatch.setattr(sorted_records, "AT_ONCE", 100)
    records = SortedRecords("key", tmp_path / "new")
    for k in range(5):
        records.add(to_records({"key": np.arange(101) + 50 * k}))
    assert len(parts := [len(part) for part in records]) > 2
    assert max(parts) <= 500
    records.close()
    assert not list((tmp_path / "new").iterdir())
