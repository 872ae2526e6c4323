from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import landcue
from landcue.codes.hamming import CodeIndex, hamming_distances
from landcue.codes.packing import pack_bits, unpack_bits
from landcue.errors import UsageError

BITS = [1, 7, 8, 16, 48, 64, 65, 128, 200]
ENGINES = ["numba", "numpy"]


def random_codes(n, n_bits, seed, distinct=None):
    rng = np.random.default_rng(seed)
    codes = pack_bits(rng.integers(0, 2, (n, n_bits)))
    return codes if distinct is None else codes[rng.integers(0, min(n, distinct), n)]


def brute_force(codes, queries, n_bits, k, mask=None):
    """Sort every allowed row by (count of differing bits, row), one bit at a time."""
    bits, query_bits = unpack_bits(codes, n_bits), unpack_bits(queries, n_bits)
    answers = []
    for query in query_bits:
        distances = [int(np.sum(row != query)) for row in bits]
        allowed = [i for i in range(len(bits)) if mask is None or mask[i]]
        answers.append(sorted((distances[i], i) for i in allowed)[:k])
    return answers


def pairs(found):
    distances, rows = found
    assert distances.dtype == np.int32
    assert rows.dtype == np.int64
    assert distances.shape == rows.shape
    return [
        list(zip(d, r, strict=True)) for d, r in zip(distances.tolist(), rows.tolist(), strict=True)
    ]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("n_bits", BITS)
@pytest.mark.parametrize("n", [0, 1, 5, 1000])
def test_equals_brute_force_with_order(engine, n_bits, n):
    codes = random_codes(n, n_bits, seed=n_bits)
    queries = random_codes(3, n_bits, seed=n_bits + 1)
    index = CodeIndex(codes, n_bits, engine=engine)
    assert index.engine == engine
    assert len(index) == n
    for k in {1, max(n, 1), n + 5}:
        assert pairs(index.search(queries, k)) == brute_force(codes, queries, n_bits, k)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("n_bits", [7, 64, 128])
@pytest.mark.parametrize("k", [1, 10, 500])
def test_many_duplicates(engine, n_bits, k):
    codes = random_codes(1500, n_bits, seed=3, distinct=4)
    queries = codes[[5, 700]]
    index = CodeIndex(codes, n_bits, engine=engine)
    assert pairs(index.search(queries, k)) == brute_force(codes, queries, n_bits, k)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("share", [0.0, 0.002, 0.2, 0.6, 1.0])
def test_masks_filter_before_ranking(engine, share):
    codes = random_codes(1500, 48, seed=5, distinct=300)
    queries = random_codes(2, 48, seed=6)
    mask = np.random.default_rng(7).random(1500) < share
    found = pairs(CodeIndex(codes, 48, engine=engine).search(queries, 20, mask))
    assert found == brute_force(codes, queries, 48, 20, mask)
    assert {len(answer) for answer in found} == {min(20, int(mask.sum()))}


@pytest.mark.parametrize("engine", ENGINES)
def test_mask_leaving_one_row(engine):
    codes = random_codes(50, 65, seed=1)
    mask = np.arange(50) == 31
    distances, rows = CodeIndex(codes, 65, engine=engine).search(codes[:1], 5, mask)
    assert rows.tolist() == [[31]]
    assert distances.tolist() == hamming_distances(codes[:1], codes[31:32]).tolist()


@pytest.mark.parametrize("engine", ENGINES)
def test_mask_hiding_the_nearest_rows(engine):
    codes = random_codes(3000, 16, seed=8)
    distance = hamming_distances(codes[:1], codes)[0]
    mask = distance > 4
    found = pairs(CodeIndex(codes, 16, engine=engine).search(codes[:1], 30, mask))
    assert found == brute_force(codes, codes[:1], 16, 30, mask)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("step", [1, -1])
def test_rows_sorted_by_distance_either_way(engine, step):
    codes = random_codes(3000, 64, seed=9)
    query = random_codes(1, 64, seed=10)
    codes = codes[np.argsort(hamming_distances(query, codes)[0], kind="stable")[::step]]
    found = pairs(CodeIndex(codes, 64, engine=engine).search(query, 25))
    assert found == brute_force(codes, query, 64, 25)


@settings(max_examples=40)
@given(
    st.sampled_from(BITS),
    st.integers(1, 60),
    st.integers(1, 70),
    st.integers(0, 2**32 - 1),
    st.sampled_from(ENGINES),
)
def test_one_xor_mask_on_everything_changes_no_answer(n_bits, n, k, seed, engine):
    codes = random_codes(n, n_bits, seed, distinct=20)
    queries = random_codes(2, n_bits, seed + 1)
    flips = random_codes(1, n_bits, seed + 2)
    plain = CodeIndex(codes, n_bits, engine=engine).search(queries, k)
    flipped = CodeIndex(codes ^ flips, n_bits, engine=engine).search(queries ^ flips, k)
    assert pairs(plain) == pairs(flipped)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("n_query", [1, 2, 7, 150])
@pytest.mark.parametrize("filtered", [False, True])
def test_engines_agree_however_the_work_is_split(threads, n_query, filtered):
    codes = random_codes(5003, 70, seed=11, distinct=2000)
    queries = random_codes(n_query, 70, seed=12)
    # Nearly all allowed rows lie in the first third: parts find different numbers of rows.
    mask = (np.arange(5003) < 1600) | (np.arange(5003) == 5000) if filtered else None
    index = CodeIndex(codes, 70, engine="numba", threads=threads, words_per_thread=1000)
    compiled = index.search(queries, 40, mask)
    fallback = CodeIndex(codes, 70, engine="numpy").search(queries, 40, mask)
    assert pairs(compiled) == pairs(fallback)


def test_more_than_255_bits_do_not_overflow():
    codes = np.stack([np.zeros(100, np.uint8), np.full(100, 255, np.uint8)])
    for engine in ENGINES:
        found = pairs(CodeIndex(codes, 800, engine=engine).search(codes[:1], 2))
        assert found == [[(0, 0), (800, 1)]]


def test_read_only_strided_and_mapped_arrays(tmp_path):
    codes = random_codes(400, 64, seed=13)
    np.save(tmp_path / "codes.npy", codes)
    mapped = np.load(tmp_path / "codes.npy", mmap_mode="r")
    expected = brute_force(codes, codes[:3], 64, 9)
    assert pairs(CodeIndex(mapped, 64).search(mapped[:3], 9)) == expected
    wide = np.zeros((400, 16), np.uint8)
    wide[:, ::2] = codes
    assert pairs(CodeIndex(wide[:, ::2], 64).search(wide[:3, ::2], 9)) == expected


def test_no_queries():
    distances, rows = CodeIndex(random_codes(9, 8, seed=1), 8).search(np.empty((0, 1), np.uint8), 4)
    assert distances.shape == rows.shape == (0, 4)


def test_bad_inputs():
    codes = random_codes(9, 12, seed=1)
    index = CodeIndex(codes, 12)
    with pytest.raises(UsageError, match="0 bits"):
        CodeIndex(np.empty((2, 0), np.uint8), 0)
    with pytest.raises(UsageError, match=r"need \[n, 3\]"):
        CodeIndex(codes, 20)
    with pytest.raises(UsageError, match="past bit 3"):
        CodeIndex(np.array([[16]], np.uint8), 4)
    with pytest.raises(UsageError, match="unknown search engine"):
        CodeIndex(codes, 12, engine="cuda")
    with pytest.raises(UsageError, match="query codes"):
        index.search(codes[:, :1], 3)
    with pytest.raises(UsageError, match="query codes"):
        index.search(codes[0], 3)
    with pytest.raises(UsageError, match="k is 0"):
        index.search(codes, 0)
    with pytest.raises(UsageError, match="one bool per record"):
        index.search(codes, 3, np.ones(8, bool))


@pytest.mark.parametrize("n_bits", BITS)
def test_hamming_distances(n_bits):
    codes, queries = random_codes(40, n_bits, seed=1), random_codes(6, n_bits, seed=2)
    bits, query_bits = unpack_bits(codes, n_bits), unpack_bits(queries, n_bits)
    expected = (query_bits[:, None] != bits[None]).sum(axis=2)
    np.testing.assert_array_equal(hamming_distances(queries, codes), expected)


def test_hamming_distances_refuse_other_widths():
    with pytest.raises(UsageError, match="query codes"):
        hamming_distances(np.zeros((1, 2), np.uint8), np.zeros((1, 3), np.uint8))
    with pytest.raises(UsageError, match=r"\[n, bytes\]"):
        hamming_distances(np.zeros((1, 2), np.uint8), np.zeros(3, np.uint8))


SCRIPT = """
import sys
import numpy as np
from landcue.codes.hamming import CodeIndex
codes = np.random.default_rng(0).integers(0, 256, (200, 8), dtype=np.uint8)
index = CodeIndex(codes, 64)
print(index.engine, "numba" in sys.modules, index.search(codes[:2], 3)[1].tolist())
"""


def run_script(environment, script=SCRIPT):
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_environment_turns_numba_off():
    with_numba = run_script({"LANDCUE_NUMBA": "1"})
    without = run_script({"LANDCUE_NUMBA": "0"})
    assert with_numba.startswith("numba True [[0, ")
    assert without == with_numba.replace("numba True", "numpy False")


def test_disabled_compiler_falls_back():
    assert run_script({"NUMBA_DISABLE_JIT": "1"}).startswith("numpy ")


ONE_SCAN = """
import numpy as np
from landcue.codes import compiled
rows, query = np.arange(6, dtype=np.float32).reshape(3, 2), np.array([1, 10], np.float32)
for array in (rows, query):
    array.setflags(write=False)
out = np.empty(3, np.float32)
compiled.dots()(rows, 0, 3, query, out)
print(out.tolist())
"""


@pytest.mark.parametrize(
    ("script", "wanted"),
    [
        (ONE_SCAN, "[10.0, 32.0, 54.0]"),  # the scan that is compiled fastest
        pytest.param(SCRIPT, "numba True [[0, ", marks=pytest.mark.slow),
    ],
    ids=["one scan", "a search"],
)
def test_unwritable_cache_folder_still_searches(tmp_path, script, wanted):
    """A copy of the package and a home where plain files stand in the way of cache folders."""
    source = tmp_path / "src" / "landcue"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(landcue.__file__).parent, source, ignore=ignored)
    (source / "codes" / "__pycache__").write_text("in the way")
    (tmp_path / ".cache").write_text("in the way")
    environment = {
        "PYTHONPATH": str(tmp_path / "src"),
        "HOME": str(tmp_path),
        "XDG_CACHE_HOME": str(tmp_path / ".cache"),
        "NUMBA_CACHE_DIR": "",
    }
    assert run_script(environment, script).startswith(wanted)
    assert (source / "codes" / "__pycache__").read_text() == "in the way"
