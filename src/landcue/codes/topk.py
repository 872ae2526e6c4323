"""What every exact search shares: checked arguments, and the order (distance, row)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from landcue.errors import UsageError

_GROUP = 64


def check_k(k: object) -> int:
    """Return ``k`` as a plain int.

    Raises:
        UsageError: ``k`` is not a whole number of at least 1.
    """
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise UsageError(f"k is {k!r}: ask for a whole number of hits, 1 or more")
    return int(k)


def check_mask(mask: npt.NDArray[np.bool_] | None, n: int) -> int:
    """Return how many of ``n`` rows the filter ``mask`` allows (all of them without one).

    Raises:
        UsageError: ``mask`` is not bool ``[n]``.
    """
    check_mask_shape(mask, n)
    return n if mask is None else int(np.count_nonzero(mask))


def check_mask_shape(mask: npt.NDArray[np.bool_] | None, n: int) -> None:
    """Refuse a filter that is not one bool for each of ``n`` rows.

    Raises:
        UsageError: ``mask`` is not bool ``[n]``.
    """
    if mask is not None and (mask.dtype != np.bool_ or mask.shape != (n,)):
        raise UsageError(
            f"the filter is {mask.dtype} {list(mask.shape)}: give one bool per record, [{n}]"
        )


def reach(distances: npt.NDArray[Any], k: int) -> float:
    """Return a value that at least k of ``[n]`` distances do not exceed, k <= n.

    It is the k-th smallest, or a little more where that is much cheaper to find.
    """
    n_groups = distances.size // _GROUP
    if n_groups >= 8 * k:
        # The least of k groups are k distances, and far fewer of them need to be ordered.
        distances = distances[: n_groups * _GROUP].reshape(_GROUP, n_groups).min(axis=0)
    return np.partition(distances, k - 1)[k - 1].item()


def smallest(distances: npt.NDArray[Any], k: int) -> npt.NDArray[np.int64]:
    """Return the positions int64 ``[min(k, n)]`` of the smallest of ``[n]`` distances.

    They are ordered by (distance, position), also where a tie straddles the k-th place.
    """
    if k < distances.size:
        near = np.flatnonzero(distances <= reach(distances, k))
    else:
        near = np.arange(distances.size)
    order = np.argsort(distances[near], kind="stable")[:k]
    return near[order].astype(np.int64, copy=False)
