from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest

from landcue.codes.packing import code_statistics, pack_bits
from landcue.errors import UsageError


def test_hand_made_codes():
    bits = [[1, 0, 1], [1, 0, 0], [1, 1, 0], [1, 0, 0]]
    found = code_statistics(pack_bits(bits), 3)
    assert found.bit_means == (1.0, 0.25, 0.25)
    assert found.imbalance == pytest.approx((1.0 + 0.5 + 0.5) / 3)
    assert found.n_distinct == 3
    assert found.collision_rate == 0.5
    assert (found.n_codes, found.n_bits) == (4, 3)


@pytest.mark.parametrize("n_bits", [5, 64, 70, 200])
def test_equals_counting(n_bits):
    rng = np.random.default_rng(n_bits)
    bits = rng.random((500, n_bits)) < 0.3
    bits = bits[rng.integers(0, 300, 500)]
    # Codes that differ in the last bit only are still different.
    bits[0], bits[1] = bits[2], bits[2]
    bits[1, -1] ^= True
    found = code_statistics(pack_bits(bits), n_bits)
    counts = Counter(map(bytes, bits))
    assert found.n_distinct == len(counts)
    shared = sum(c for c in counts.values() if c > 1)
    assert found.collision_rate == pytest.approx(shared / 500)
    assert found.bit_means == pytest.approx(bits.mean(axis=0))
    assert found.imbalance == pytest.approx(np.abs(2 * bits.mean(axis=0) - 1).mean())


def test_more_rows_than_are_unpacked_at_once():
    bits = np.random.default_rng(0).random((103, 9)) < 0.5
    whole = code_statistics(pack_bits(bits), 9)
    assert code_statistics(pack_bits(bits), 9, block=10) == whole


def test_one_code():
    found = code_statistics(pack_bits([[0, 1]]), 2)
    assert (found.n_distinct, found.collision_rate, found.imbalance) == (1, 0.0, 1.0)


def test_json():
    found = code_statistics(pack_bits([[0, 1], [0, 1]]), 2)
    assert json.loads(json.dumps(found.to_json())) == {
        "n_codes": 2,
        "n_bits": 2,
        "bit_means": [0.0, 1.0],
        "imbalance": 1.0,
        "n_distinct": 1,
        "collision_rate": 1.0,
    }


def test_nothing_to_describe():
    with pytest.raises(UsageError, match="at least one"):
        code_statistics(np.empty((0, 2), np.uint8), 16)
    with pytest.raises(UsageError, match="at least one"):
        code_statistics(np.empty((3, 0), np.uint8), 0)
    with pytest.raises(UsageError, match="need"):
        code_statistics(np.empty((3, 2), np.uint8), 8)
