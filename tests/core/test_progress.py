import pytest

from cellscribble.core.progress import Stopped, Work


def test_what_is_done_of_a_part_adds_up():
    heard = []
    work = Work(lambda *told: heard.append(told))
    work.done(5)  # of nothing
    with work.part("reading", 10):
        work.done(4)
        work.done(6)
    work.done(1)
    assert heard == [("reading", 0, 10), ("reading", 4, 10), ("reading", 10, 10)]


def test_more_than_was_expected_is_all():
    heard = []
    work = Work(lambda *told: heard.append(told))
    with work.part("reading", 10):
        work.done(25)
    assert heard[-1] == ("reading", 10, 10)


def test_a_part_ends_where_it_is_asked_to():
    heard = []
    work = Work(lambda *told: heard.append(told))

    def read():
        with work.part("reading", 10, lambda: len(heard) > 2):
            for _ in range(10):
                work.done(1)

    with pytest.raises(Stopped, match="reading"):
        read()
    assert heard[-1] == ("reading", 2, 10)
    work.done(1)
    assert len(heard) == 3


def test_work_that_nobody_hears_of_is_done_all_the_same():
    work = Work()
    with work.part("reading", 2):
        work.done(1)
