"""BLAS on one thread while anybody asks for it."""

from __future__ import annotations

import contextlib

import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits

from landcue.search.vectors import one_blas_thread


def threads():
    return {lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"}


def test_overlapping_users_leave_the_limit_as_they_found_it():
    np.eye(2) @ np.eye(2)
    with threadpool_limits(2, "blas"):
        before = threads()
        first, second = contextlib.ExitStack(), contextlib.ExitStack()
        first.enter_context(one_blas_thread())
        second.enter_context(one_blas_thread())
        assert threads() == {1}
        first.close()
        assert threads() == {1}
        second.close()
        assert threads() == before == {2}
