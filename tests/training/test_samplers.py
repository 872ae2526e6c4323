"""Samplers: what each promises, on random label matrices, and in a training that is cut."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from landcue.data.datasets import load_dataset
from landcue.data.imageset import label_matrix
from landcue.data.splits import apply_split
from landcue.errors import DataError, UsageError
from landcue.training.config import SamplerSection, make_config
from landcue.training.images import create_sampler
from landcue.training.label_aware import LabelAware
from landcue.training.loop import train
from landcue.training.samplers import (
    ClassBalanced,
    Shares,
    Shuffle,
    classes_of,
    epoch_seed,
)


def epoch_of(sampler, epoch=0):
    return list(sampler.batches(epoch))


def draws_of(batches, n):
    return np.bincount(np.concatenate(batches), minlength=n)


@st.composite
def problems(draw):
    """A label matrix, sparse, dense or single-label, with empty rows and rare labels; settings."""
    n, n_labels = draw(st.integers(4, 50)), draw(st.integers(1, 8))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    often = rng.random(n_labels) ** draw(st.sampled_from([0.5, 2, 4]))
    labels = (rng.random((n, n_labels)) < often).astype(np.uint8)
    if draw(st.booleans()):
        labels[np.arange(n_labels) != rng.choice(n_labels, (n, 1), p=often / often.sum())] = 0
    batch = draw(st.integers(2, n))
    needed, cap = draw(st.integers(2, min(batch, 4))), draw(st.integers(1, 4))
    return labels, batch, needed, cap, draw(st.integers(0, 9))


def label_aware(problem, **shares):
    labels, batch, needed, cap, seed = problem
    try:
        return LabelAware(
            labels, Shares(len(labels), batch, **shares), seed, min_count=needed, cap=cap
        )
    except (UsageError, DataError):
        assume(False)


def lonely(labels, rows):
    """The labeled images of a batch that share no label with another of it."""
    y = labels[rows].astype(int)
    shared = (y @ y.T > 0).sum(1)
    return rows[(y.sum(1) > 0) & (shared == 1)]


@given(problems(), st.integers(0, 3))
@settings(max_examples=300)
def test_label_aware_keeps_its_promises(problem, epoch):
    labels, batch, needed, cap, _ = problem
    sampler = label_aware(problem)
    batches = epoch_of(sampler, epoch)
    draws = draws_of(batches, len(labels))
    assert len(batches) == len(sampler) == len(labels) // batch
    assert all(len(set(rows.tolist())) == len(rows) == batch for rows in batches)
    assert all((np.diff(rows) > 0).all() for rows in batches)
    assert draws.max() <= cap
    assert draws[labels.sum(1) == 0].max(initial=0) <= 1
    counts = np.array([labels[rows].sum(0, dtype=int) for rows in batches])
    for c, n in enumerate(labels.sum(0, dtype=int).tolist()):
        assert (sampler.windows[c] == 0) == (n < 2)
        if n < 2:
            continue
        window = int(sampler.windows[c])
        runs = len(batches) // window
        assert 1 <= window <= len(batches)
        for run in range(runs):
            stop = (run + 1) * window if run + 1 < runs else len(batches)
            assert counts[run * window : stop, c].max() >= min(needed, n)


def check_company(sampler, labels, cap, epoch):
    batches = epoch_of(sampler, epoch)
    draws = draws_of(batches, len(labels))
    for rows in batches:
        alone = lonely(labels, rows)
        offered = labels[np.setdiff1d(rows, alone)].any(0)
        left = np.setdiff1d(np.flatnonzero(draws < cap), rows)
        if len(alone):
            assert not labels[left][:, offered].any()
        if len(alone) > 1 or not offered.any():
            # There was room for two, and no two were left that share a label.
            assert labels[np.union1d(left, alone)].sum(0, dtype=int).max() <= 1


@given(problems(), st.integers(0, 3))
@settings(max_examples=500)
def test_an_anchor_is_alone_only_where_no_image_with_draws_left_would_fit(problem, epoch):
    check_company(label_aware(problem), problem[0], problem[3], epoch)


def test_the_last_places_of_a_batch_go_to_images_that_fit():
    held = [(2, 3), (2,), (1, 3), (0, 3), (1,), (0,), (0, 3), (0,), (2,)]
    labels = np.array([[c in has for c in range(4)] for has in held])
    sampler = LabelAware(labels, Shares(9, 4), 0, cap=1)
    for epoch in range(40):
        check_company(sampler, labels, 1, epoch)


@given(problems(), st.integers(0, 3))
@settings(max_examples=200)
def test_no_anchor_is_alone_when_every_label_is_covered_in_every_batch(problem, epoch):
    labels = problem[0]
    counts = labels.sum(0, dtype=int)
    sampler = label_aware(problem)
    assume((sampler.windows[counts > 0] == 1).all())
    assert (counts != 1).all()
    for rows in epoch_of(sampler, epoch):
        assert not len(lonely(labels, rows))


def test_an_image_whose_every_label_occurs_once_is_alone():
    labels = np.zeros((12, 3), np.uint8)
    labels[:11, 0] = labels[11, 1] = 1
    sampler = LabelAware(labels, Shares(12, 12), 0)
    assert sampler.windows.tolist() == [1, 0, 0]
    assert lonely(labels, epoch_of(sampler)[0]).tolist() == [11]


def test_images_without_labels_are_negatives_drawn_once_at_most():
    labels = np.zeros((60, 2), np.uint8)
    labels[:20, 0] = labels[20:30, 1] = 1
    sampler = LabelAware(labels, Shares(60, 15), 0, min_count=4)
    draws = sum(draws_of(epoch_of(sampler, e), 60) for e in range(8))
    assert draws[30:].min() > 0
    assert draws[30:].max() <= 8


def long_tail():
    rng = np.random.default_rng(0)
    labels = np.zeros((600, 12), np.uint8)
    for c, n in enumerate([400, 300, 200, 100, 60, 40, 30, 20, 12, 8, 5, 3]):
        labels[rng.choice(600, n, replace=False), c] = 1
    return labels


def test_rare_labels_are_seen_more_often_than_under_shuffle():
    labels, shares = long_tail(), Shares(600, 30)
    seen = {}
    for name, sampler in (
        ("aware", LabelAware(labels, shares, 0)),
        ("shuffle", Shuffle(shares, 0)),
    ):
        draws = sum(draws_of(epoch_of(sampler, epoch), 600) for epoch in range(10))
        seen[name] = draws @ labels
    assert (seen["aware"][8:] > 1.5 * seen["shuffle"][8:]).all()
    assert seen["aware"].sum() < 1.2 * seen["shuffle"].sum()


def test_sparse_labels_still_give_every_batch_a_positive_pair():
    labels = np.zeros((400, 20), np.uint8)
    labels[np.arange(60), np.arange(60) // 3] = 1  # 20 labels on three images each
    for cap in (1, 2):
        sampler = LabelAware(labels, Shares(400, 10), 0, cap=cap)
        pairs = [labels[rows].sum(0, dtype=int).max() > 1 for rows in epoch_of(sampler)]
        assert sum(pairs) == 20 * cap


def test_a_rare_label_out_of_draws_shortens_no_other_window():
    # Three labels on two of three images each: every pair spends a draw of two labels.
    labels = np.ones((20, 4), np.uint8)
    labels[:3, :3] -= np.eye(3, dtype=np.uint8)
    labels[3:, :3] = 0
    sampler = LabelAware(labels, Shares(20, 2), 0)
    assert sorted(sampler.windows[:3].tolist()) == [4, 6, 6]  # two runs of an epoch, one, one
    assert sampler.windows[3] == 1


def test_more_labels_than_fit_share_the_epoch():
    labels = np.repeat(np.eye(50, dtype=np.uint8), 8, 0)
    sampler = LabelAware(labels, Shares(400, 20), 0)
    assert len(sampler) == 20
    assert sampler.windows.min() >= 5
    assert sampler.windows.max() <= 10
    # The cap, not the batch, is what binds a label on three images.
    labels = np.concatenate([np.repeat(np.eye(2, 3, dtype=np.uint8), 98, 0), np.eye(3)[[2] * 3]])
    sampler = LabelAware(labels, Shares(199, 10), 0)
    assert sampler.windows.tolist() == [1, 1, 5]  # 3 x 3 draws make four pairs in 19 batches


def test_a_plan_that_luck_does_not_find_is_the_known_one():
    labels, shares = long_tail(), Shares(600, 30)
    sampler = LabelAware(labels, shares, 3, attempts=0)
    counts = [labels[rows].sum(0, dtype=int) for rows in epoch_of(sampler, 1)]
    assert (np.array(counts)[:, sampler.windows == 1] >= 2).all()
    assert draws_of(epoch_of(sampler, 1), 600).max() <= 3
    assert any((a != b).any() for a, b in zip(epoch_of(sampler, 1), epoch_of(sampler, 2),
                                              strict=True))  # fmt: skip


def every_sampler(seed=0, **shares):
    labels = long_tail()
    part = Shares(600, 24, **shares)
    return [
        Shuffle(part, seed),
        LabelAware(labels, part, seed),
        ClassBalanced(np.arange(600) % 9, part, seed, per_class=4),
    ]


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_epochs_follow_from_seed_and_epoch_alone(kind):
    one, two, other = every_sampler()[kind], every_sampler()[kind], every_sampler(1)[kind]
    epoch_of(two, 7)  # what was drawn before does not matter
    assert np.array_equal(epoch_of(one, 2), epoch_of(two, 2))
    assert not np.array_equal(epoch_of(one, 2), epoch_of(one, 3))
    assert not np.array_equal(epoch_of(one, 2), epoch_of(other, 2))
    assert all(rows.dtype == np.int64 for rows in one.batches(0))


@pytest.mark.parametrize("kind", [0, 1, 2])
@pytest.mark.parametrize("world_size", [2, 3, 8])
def test_ranks_share_the_batches_of_a_single_process(kind, world_size):
    whole = every_sampler()[kind]
    ranks = [every_sampler(rank=r, world_size=world_size)[kind] for r in range(world_size)]
    assert {len(sampler) for sampler in ranks} == {len(whole)} == {25}
    for epoch in (0, 5):
        shares = np.array([epoch_of(sampler, epoch) for sampler in ranks])
        assert shares.shape == (world_size, 25, 24 // world_size)
        together = np.sort(shares.swapaxes(0, 1).reshape(25, 24), axis=1)
        assert np.array_equal(together, epoch_of(whole, epoch))


@pytest.mark.parametrize("n", [2, 3, 97, 1470])
def test_shuffle_is_the_order_of_torch(n):
    batch = max(1, n // 4)
    sampler = Shuffle(Shares(n, batch), 11)
    for epoch in (0, 1):
        generator = torch.Generator().manual_seed(epoch_seed(11, epoch))
        order = torch.randperm(n, generator=generator).numpy()
        wanted = [np.sort(order[i * batch : (i + 1) * batch]) for i in range(n // batch)]
        assert np.array_equal(epoch_of(sampler, epoch), wanted)


@given(
    st.lists(st.integers(3, 20), min_size=2, max_size=9), st.integers(1, 3), st.integers(1, 9),
    st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=150)
def test_class_balanced_takes_classes_and_images_in_turn(sizes, per_class, n_classes, seed):
    classes = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    n_classes = min(n_classes, len(sizes))
    batch = per_class * n_classes
    assume(batch <= len(classes))
    sampler = ClassBalanced(classes, Shares(len(classes), batch), seed, per_class=per_class)
    batches = epoch_of(sampler, seed)
    assert len(batches) == len(sampler) == len(classes) // batch
    batches_of = np.zeros(len(sizes), int)
    for rows in batches:
        assert len(set(rows.tolist())) == batch
        counts = np.bincount(classes[rows], minlength=len(sizes))
        assert sorted(counts[counts > 0].tolist()) == [per_class] * n_classes
        batches_of += counts > 0
    assert np.ptp(batches_of) <= 1
    draws = draws_of(batches, len(classes))
    assert max(np.ptp(draws[classes == c]) for c in range(len(sizes))) <= 1


def test_classes_are_the_only_label_or_else_the_group():
    assert classes_of(np.eye(3)[[2, 0, 2]], [None] * 3).tolist() == [2, 0, 2]
    many = np.array([[1, 1], [1, 0], [0, 0]])
    assert classes_of(many, ["sea", "city", "sea"]).tolist() == [1, 0, 1]
    with pytest.raises(DataError, match="group column"):
        classes_of(many, ["sea", None, "sea"])


ALL_ONE = np.ones((8, 1))
CROSSED = np.array([[1, 0, 1], [1, 0, 0], [0, 1, 1], [0, 1, 0], *[[0, 0, 0]] * 4])


@pytest.mark.parametrize(
    ("make", "kind", "word"),
    [
        (lambda: Shares(8, 9), UsageError, "choose 1 to 8"),
        (lambda: Shares(8, 4, 2, 2), UsageError, "rank 2 of 2"),
        (lambda: Shares(8, 4, 0, 3), UsageError, "multiple of 3"),
        (lambda: LabelAware(ALL_ONE, Shares(8, 4), 0, min_count=1), UsageError, "at least 2"),
        (lambda: LabelAware(ALL_ONE, Shares(8, 4), 0, cap=0), UsageError, r"sampler\.cap is 0"),
        (lambda: LabelAware(ALL_ONE, Shares(8, 2), 0, min_count=3), UsageError, "cannot hold 3"),
        (lambda: LabelAware(np.eye(4), Shares(4, 4), 0), DataError, "no label occurs on two"),
        (lambda: LabelAware(CROSSED, Shares(8, 2), 0, cap=1), UsageError, r"raise sampler\.cap"),
        (
            lambda: LabelAware(np.repeat(np.eye(9), 2, 0), Shares(18, 10), 0, names="abcdefghi"),
            UsageError,
            r"label 'f' into one batch of 10; raise optimizer\.batch_size",
        ),
        (lambda: ClassBalanced(np.arange(8) % 2, Shares(8, 6), 0), UsageError, "no multiple"),
        (lambda: ClassBalanced(np.arange(8) % 2, Shares(8, 8), 0, per_class=2), UsageError,
         "there are 2"),
        (lambda: ClassBalanced(np.arange(8) % 4, Shares(8, 4), 0), UsageError,
         "a class has only 2"),
    ],
)  # fmt: skip
def test_impossible_requests_are_one_line(make, kind, word):
    with pytest.raises(kind, match=word) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_settings_choose_the_sampler():
    labels, groups, names = long_tail(), ["a", "b"] * 300, [f"l{c}" for c in range(12)]

    def made(**section):
        shares = Shares(600, 24)
        return create_sampler(SamplerSection(**section), shares, 4, labels, groups, names)[0]

    alike = [
        (made(), Shuffle(Shares(600, 24), 4)),
        (made(name="label_aware", min_count=4, cap=2),
         LabelAware(labels, Shares(600, 24), 4, min_count=4, cap=2)),
        (made(name="class_balanced", per_class=12),
         ClassBalanced(np.arange(600) % 2, Shares(600, 24), 4, per_class=12)),
    ]  # fmt: skip
    for one, two in alike:
        assert np.array_equal(epoch_of(one, 1), epoch_of(two, 1))


class Cut(Exception):
    pass


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    root = tmp_path_factory.mktemp("colors")
    rng = np.random.default_rng(0)
    names = ("blue", "green", "red")
    lines = ["path,labels"]
    for i in range(36):
        has = [names[(i % 9) // 4]] + ["red"] * (i % 3 == 1)
        pixels = rng.integers(0, 60, (40, 40, 3))
        for name in set(has):
            pixels[..., 2 - names.index(name)] += 150
        Image.fromarray(pixels.astype(np.uint8)).save(root / f"{i:02}.png")
        lines.append(f"{i:02}.png," + ";".join(sorted(set(has))))
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return root


def test_a_label_aware_training_cut_after_an_epoch_ends_as_if_it_had_not_been(images, tmp_path):
    values = {
        "data": {"root": str(images), "split": "files-80-20"},
        "model": {"backbone": "mobilenetv3_small_050", "init": "none", "image_size": 32,
                  "dim": 16, "n_bits": 8},
        "optimizer": {"epochs": 2, "batch_size": 8},
        "sampler": {"name": "label_aware"},
        "loggers": ["csv"],
    }  # fmt: skip
    config = make_config(values)
    whole = train(config, tmp_path / "whole")

    def cut(line):
        if line.startswith("epoch 1"):
            raise Cut

    with pytest.raises(Cut):
        train(config, tmp_path / "cut", message=cut)
    resumed = train(config, tmp_path / "cut")
    assert resumed.resumed_from == 1
    assert resumed.fingerprint == whole.fingerprint
    shuffled = train(make_config(values | {"sampler": {"name": "shuffle"}}), tmp_path / "shuffled")
    assert shuffled.fingerprint != whole.fingerprint


@pytest.mark.real_data
def test_every_label_of_uc_merced_stands_in_every_batch(real_data):
    source = load_dataset("ucmerced", real_data / "uc_merced")
    part = apply_split(source, "per-class-70-10-20-seed42").part("train")
    labels = label_matrix([record.labels for record in part.records], part.label_names)
    shares = Shares(len(labels), 96)
    sampler = LabelAware(labels, shares, 0)
    assert sampler.windows.tolist() == [1] * 17

    def least(sampler):
        batches = [rows for epoch in range(5) for rows in sampler.batches(epoch)]
        return min(labels[rows].sum(0, dtype=int).min() for rows in batches)

    assert least(sampler) >= 2
    assert least(Shuffle(shares, 0)) < 2


@pytest.mark.parametrize(
    ("losses", "kind"), [(("marc", None), LabelAware), (("supcon", "marc"), LabelAware),
                         (("supcon", None), Shuffle), ((), Shuffle)]
)  # fmt: skip
def test_marc_draws_label_aware_batches_unless_told_otherwise(losses, kind):
    labels = np.eye(3, dtype=bool)[np.arange(24) % 3]

    def made(section):
        return create_sampler(section, Shares(24, 8), 0, labels, [None] * 24, list("abc"), losses)

    sampler, note = made(SamplerSection())
    assert type(sampler) is kind
    assert note == ""
    assert type(made(SamplerSection(name="shuffle"))[0]) is Shuffle


def test_labels_without_any_pair_are_drawn_in_random_order_with_a_note():
    labels = np.eye(6, dtype=bool)
    arguments = (Shares(6, 3), 0, labels, [None] * 6, list("abcdef"), ("marc",))
    sampler, note = create_sampler(SamplerSection(), *arguments)
    assert type(sampler) is Shuffle
    assert "no label occurs on two training images" in note
    with pytest.raises(DataError, match="no label occurs on two"):
        create_sampler(SamplerSection(name="label_aware"), *arguments)
