from __future__ import annotations

import threading
import warnings

from hrnet.io.warnings import suppress_warnings


def test_a_thread_that_leaves_lets_nothing_through_of_another() -> None:
    # Oracle: what Python's warnings machinery shows, and its list of filters before and after.
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        before = list(warnings.filters)
        entered, leave = threading.Event(), threading.Event()

        def other() -> None:
            with suppress_warnings:
                entered.set()
                leave.wait(10)

        thread = threading.Thread(target=other)
        thread.start()
        assert entered.wait(10)
        with suppress_warnings:
            leave.set()
            thread.join(10)
            warnings.warn("inside", stacklevel=1)
        assert not shown
        assert list(warnings.filters) == before
        warnings.warn("outside", stacklevel=1)
    assert [str(one.message) for one in shown] == ["outside"]


def test_an_error_inside_ends_it() -> None:
    # Oracle: the filters before.
    before = list(warnings.filters)
    try:
        with suppress_warnings:
            raise KeyError
    except KeyError:
        pass
    assert list(warnings.filters) == before
