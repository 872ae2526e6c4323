"""What holds for every loss of images with several labels."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from landcue.errors import UsageError
from landcue.losses import (
    DHCL,
    LOSSES,
    MARC,
    MSC,
    LabelStatistics,
    MulSupCon,
    MultiSupCon,
    ProxyAnchor,
    SimilarityDissimilarity,
    SupCon,
    create_loss,
)
from loss_batches import DIM, C, N, batch, item, proxies, statistics, with_proxies

VARIANTS = {
    "supcon": SupCon(),
    "supcon-all": SupCon(positives="all"),
    "marc": MARC(statistics(), alpha=0.5, beta=0.5),
    "marc-row": MARC(statistics(), alpha=0.5, mode="row"),
    "marc-label": MARC(statistics(), weighting="label"),
    "mulsupcon": MulSupCon(),
    "mulsupcon-anchor": MulSupCon(average="anchor"),
    "multisupcon": MultiSupCon(),
    "similarity_dissimilarity": SimilarityDissimilarity(),
    "msc": with_proxies(MSC, beta=0.5),
    "proxy_anchor": with_proxies(ProxyAnchor),
    "dhcl": with_proxies(DHCL),
}


NEED_A_PAIR = [name for name in VARIANTS if name not in ("msc", "proxy_anchor", "dhcl")]


@pytest.mark.parametrize("name", VARIANTS)
def test_permuting_the_batch_changes_nothing(name):
    z, y = batch(5)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(1))
    assert item(VARIANTS[name](z[order], y[order])) == pytest.approx(
        item(VARIANTS[name](z, y)), rel=1e-12
    )


@pytest.mark.parametrize("name", [name for name in VARIANTS if name != "dhcl"])
def test_gradients_are_exact(name):
    z, y = batch(6, n=7)
    y[0], y[1], y[2] = y[1], y[1], 0
    y[:2, 0] = 1
    z.requires_grad_()
    assert torch.autograd.gradcheck(lambda v: VARIANTS[name](v, y), (z,))


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_low_precision_computes_in_float32(name, dtype):
    z, y = batch(7)
    low = z.to(dtype)
    got = VARIANTS[name](low, y)
    assert got.dtype == torch.float32
    assert item(got) == pytest.approx(item(VARIANTS[name](low.double(), y)), rel=2e-5)


@pytest.mark.parametrize("name", NEED_A_PAIR)
@pytest.mark.parametrize(
    "y",
    [torch.zeros(4, C), torch.eye(4, C), torch.tensor([[1, 0, 0, 0]] + [[0] * 4] * 3)],
    ids=["no labels", "nothing shared", "one label once"],
)
def test_no_positive_pair_gives_zero_and_zero_gradient(name, y):
    z = F.normalize(torch.randn(4, DIM), dim=1).requires_grad_()
    loss = VARIANTS[name](z, y)
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert float(z.grad.abs().sum()) == 0.0


@pytest.mark.parametrize(
    "name", [name for name in VARIANTS if name in NEED_A_PAIR or name == "msc"]
)
def test_images_without_labels_are_negatives_only(name):
    z, y = batch(8)
    y[:, 0] = 1
    y[-1] = 0
    z.requires_grad_()
    whole = VARIANTS[name](z, y)
    (gradient,) = torch.autograd.grad(whole, z)
    assert float(gradient[-1].abs().sum()) > 0
    assert float(whole.detach()) > float(VARIANTS[name](z[:-1], y[:-1]).detach())


@pytest.mark.parametrize("loss", [MSC, ProxyAnchor])
def test_gradients_of_proxies_are_exact(loss):
    z, y = batch(6, n=7)
    made = with_proxies(loss)
    made(z, y).backward()
    step, vectors = 1e-6, proxies()
    for at in ((c, k) for c in range(C) for k in range(DIM)):
        values = []
        for sign in (1, -1):
            moved = vectors.clone()
            moved[at] += sign * step
            with torch.no_grad():
                made.proxies.copy_(moved)
            values.append(item(made(z, y)))
        slope = (values[0] - values[1]) / (2 * step)
        assert float(made.proxies.grad[at]) == pytest.approx(slope, abs=1e-6, rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_autocast_does_not_reach_a_loss(name):
    z, y = batch(7)
    y = F.one_hot(y.sum(1) % C, C)
    torch.manual_seed(0)
    loss = create_loss(name, {}, LabelStatistics.from_labels(y), DIM)
    plain = loss(z.float(), y)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = loss(z.float(), y)
    assert got.dtype == torch.float32
    assert float(got.detach()) == float(plain.detach())


@pytest.mark.parametrize("loss", [ProxyAnchor, DHCL])
def test_images_without_labels_are_pushed_from_every_proxy(loss):
    made = loss(C, DIM).double()
    made.load_state_dict({"proxies": torch.eye(C, DIM)})
    z = F.normalize(torch.ones(1, DIM, dtype=torch.float64), dim=1).requires_grad_()
    (gradient,) = torch.autograd.grad(made(z, torch.zeros(1, C)), z)
    assert bool((gradient[0, :C] > 0).all())  # a step down lowers every cosine


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("n", [0, 1])
def test_batches_of_none_and_one_are_finite(name, n):
    z, y = batch(0, n=n)
    z.requires_grad_()
    loss = VARIANTS[name](z, y)
    loss.backward()
    assert torch.isfinite(loss)
    assert bool(torch.isfinite(z.grad).all())
    if n == 0 or name in NEED_A_PAIR:
        assert float(loss.detach()) == 0.0


@pytest.mark.parametrize("loss", [MSC, ProxyAnchor, DHCL])
def test_proxies_of_other_shape_are_named(loss):
    z, y = batch()
    with pytest.raises(UsageError, match=r"\[4, 5\], got \[3, 5\]"):
        loss(3, DIM)(z, y)


@pytest.mark.parametrize(
    ("z", "y", "word"),
    [
        (torch.ones(3, 2), torch.ones(4, 2), "[3, 2] and [4, 2]"),
        (torch.ones(3), torch.ones(3, 2), "[3]"),
        (torch.ones(3, 2).long(), torch.ones(3, 2), "floating point"),
        (torch.ones(3, 2), torch.full((3, 2), 0.5), "0 or 1"),
        (torch.ones(3, 2), torch.full((3, 2), float("nan")), "0 or 1"),
    ],
)
def test_wrong_inputs_are_named(z, y, word):
    with pytest.raises(UsageError) as caught:
        SupCon()(z, y)
    assert word in str(caught.value)


LIKE_SUPCON = ["mulsupcon", "mulsupcon-anchor", "multisupcon", "similarity_dissimilarity"]


@pytest.mark.parametrize("name", LIKE_SUPCON)
def test_all_labels_everywhere_is_supcon(name):
    z, _ = batch(1)
    everywhere = torch.ones(N, C)
    assert float(VARIANTS[name](z, everywhere)) == pytest.approx(float(SupCon()(z, everywhere)))


@pytest.mark.parametrize("name", LIKE_SUPCON)
def test_single_labels_make_it_supcon(name):
    z, _ = batch(2)
    y = F.one_hot(torch.arange(N) % C, C)
    assert float(VARIANTS[name](z, y)) == pytest.approx(float(SupCon()(z, y)), rel=1e-12)


def pairs_among(rows):
    """Return an ``indices_tuple`` of all pairs of two images among some rows."""
    first, second = torch.cartesian_prod(rows, rows).T
    other = first != second
    return first[other], second[other], first[other], second[other]


@pytest.mark.parametrize("name", [*NEED_A_PAIR, "msc"])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_reference_of_equal_images_without_oneself_is_the_batch(name, seed):
    z, y = batch(seed)
    loss, everything = VARIANTS[name], pairs_among(torch.arange(N))
    own, given = (z.clone().requires_grad_() for _ in range(2))
    value = loss(own, y)
    same = loss(given, y, everything, ref_emb=given.clone(), ref_labels=y)
    torch.testing.assert_close(same, value, rtol=1e-10, atol=0)
    (one,), (two,) = torch.autograd.grad(value, own), torch.autograd.grad(same, given)
    torch.testing.assert_close(two, one, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("name", NEED_A_PAIR)
@pytest.mark.parametrize("seed", [0, 1])
def test_images_in_no_pair_are_as_if_they_were_absent(name, seed):
    z, y = batch(seed)
    rows = torch.tensor([0, 2, 3, 5, 6, 9, 10])
    value = VARIANTS[name](z, y, pairs_among(rows))
    assert item(value) == pytest.approx(item(VARIANTS[name](z[rows], y[rows])), rel=1e-10)


def test_a_half_of_the_batch_against_the_other_is_a_plain_loop():
    z, y = batch(2)
    loss = MultiSupCon(temperature=0.3, threshold=0.2)
    total, anchors = 0.0, 0
    for i in range(6):
        s = {a: float(z[i] @ z[a]) / 0.3 for a in range(6, N)}
        norm = math.log(sum(map(math.exp, s.values())))
        overlap = {p: int((y[i] & y[p]).sum()) / max(int((y[i] | y[p]).sum()), 1) for p in s}
        positives = {p: j for p, j in overlap.items() if j >= 0.2}
        anchors += bool(positives)
        total += sum(j * (norm - s[p]) for p, j in positives.items()) / max(len(positives), 1)
    got = loss(z[:6], y[:6], ref_emb=z[6:], ref_labels=y[6:])
    assert float(got) == pytest.approx(total / anchors, rel=1e-10)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"ref_emb": torch.ones(3, DIM)}, "given together"),
        ({"ref_emb": torch.ones(3, 2), "ref_labels": torch.ones(3, C)}, "need ref_emb .m, 5"),
        ({"ref_emb": torch.ones(3, DIM), "ref_labels": torch.ones(2, C)}, "ref_labels of m"),
        ({"ref_emb": torch.ones(3, DIM), "ref_labels": torch.arange(3)}, "of one kind"),
        ({"indices_tuple": (torch.arange(3),) * 2}, "3 tensors .triplets. or 4"),
        ({"indices_tuple": (torch.tensor([N]),) * 3}, "does not fit 12 x 12 pairs"),
    ],
)
def test_wrong_pairs_are_named(arguments, word):
    z, y = batch()
    with pytest.raises(UsageError, match=word):
        SupCon()(z, y, **arguments)
