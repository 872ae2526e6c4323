from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from landcue.codes.packing import check_codes, pack_bits, sign_bits, to_words, unpack_bits
from landcue.errors import UsageError

bit_arrays = hnp.arrays(np.bool_, st.tuples(st.integers(0, 6), st.integers(0, 70)))


@given(bit_arrays)
def test_round_trip(bits):
    code = pack_bits(bits)
    assert code.dtype == np.uint8
    assert code.shape == (bits.shape[0], -(-bits.shape[1] // 8))
    np.testing.assert_array_equal(unpack_bits(code, bits.shape[1]), bits)


@given(bit_arrays)
def test_each_bit_lies_where_the_format_says(bits):
    code = pack_bits(bits)
    words = to_words(code)
    assert words.shape == (-(-code.shape[1] // 8), len(bits))
    for row in range(bits.shape[0]):
        value = sum(1 << i for i in range(bits.shape[1]) if bits[row, i])
        assert int.from_bytes(code[row].tobytes(), "little") == value
        assert sum(int(word) << (64 * w) for w, word in enumerate(words[:, row])) == value


def test_bit_0_is_the_least_significant_of_byte_0():
    bits = np.zeros((1, 11), int)
    bits[0, [0, 9]] = 1
    assert pack_bits(bits).tolist() == [[1, 2]]


def test_numbers_0_and_1_pack_like_bools():
    bits = np.array([[1, 0, 1], [0, 1, 1]])
    for dtype in (np.bool_, np.int64, np.uint8, np.float32):
        assert pack_bits(bits.astype(dtype)).tolist() == [[5], [6]]


@pytest.mark.parametrize("bad", [[[0, 2]], [[-1, 1]], [[0.5, 1.0]], [[np.nan, 1.0]]])
def test_packing_refuses_other_numbers(bad):
    with pytest.raises(UsageError, match="sign_bits"):
        pack_bits(np.array(bad))


def test_packing_refuses_one_dimension():
    with pytest.raises(UsageError, match=r"\[3\].*\[n, bits\]"):
        pack_bits(np.array([1, 0, 1]))


def test_sign_bits_cut_at_zero():
    values = np.array([[0.3, -0.2, 0.0, -0.0, np.inf, -np.inf]], np.float32)
    assert sign_bits(values).tolist() == [[True, False, False, False, True, False]]


def test_sign_bits_name_the_row_with_nan():
    values = np.zeros((4, 3), np.float32)
    values[2, 1] = np.nan
    with pytest.raises(UsageError, match="row 2"):
        sign_bits(values)


def test_sign_bits_refuse_one_dimension():
    with pytest.raises(UsageError, match=r"\[n, bits\]"):
        sign_bits(np.zeros(3))


@pytest.mark.parametrize(
    ("code", "n_bits", "message"),
    [
        (np.zeros((2, 2), np.int64), 16, "int64"),
        (np.zeros((2, 2), np.uint8), 17, r"need \[n, 3\] bytes"),
        (np.zeros((2, 2), np.uint8), 8, r"need \[n, 1\] bytes"),
        (np.zeros(2, np.uint8), 16, r"\[2\]"),
        (np.zeros((2, 0), np.uint8), -1, "-1 bits"),
        (np.array([[0], [128]], np.uint8), 7, r"past bit 6 \(first in row 1\)"),
        (np.array([[255, 2]], np.uint8), 9, "past bit 8"),
    ],
)
def test_codes_that_do_not_fit_are_refused(code, n_bits, message):
    with pytest.raises(UsageError, match=message):
        check_codes(code, n_bits)
    with pytest.raises(UsageError, match=message):
        unpack_bits(code, n_bits)


def test_full_padding_free_bytes_pass():
    check_codes(np.full((3, 2), 255, np.uint8), 16)
    check_codes(np.array([[255, 1]], np.uint8), 9)
    check_codes(np.empty((3, 0), np.uint8), 0)
