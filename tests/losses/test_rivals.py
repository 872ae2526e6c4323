"""Rival losses against plain float64 double loops, and what holds for all of them."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from landcue.errors import UsageError
from landcue.losses.asymmetric import AsymmetricOptions, asymmetric_loss
from landcue.losses.balance import balance_loss
from landcue.losses.classification import label_loss
from landcue.losses.dhcl import DhclOptions, dhcl_loss
from landcue.losses.msc import MscOptions, msc_loss
from landcue.losses.mulsupcon import MulSupConOptions, mulsupcon_loss
from landcue.losses.multisupcon import MultiSupConOptions, multisupcon_loss
from landcue.losses.proxy_anchor import ProxyAnchorOptions, proxy_anchor_loss
from landcue.losses.registry import LOSSES, create_loss
from landcue.losses.similarity_dissimilarity import (
    SimilarityDissimilarityOptions,
    similarity_dissimilarity_loss,
)
from landcue.losses.statistics import LabelStatistics
from landcue.losses.supcon import SupConOptions, supcon_loss

N, DIM, C = 12, 5, 4


def batch(seed=0, n=N, p=0.4):
    g = torch.Generator().manual_seed(seed)
    z = F.normalize(torch.randn(n, DIM, generator=g, dtype=torch.float64), dim=1)
    return z, (torch.rand(n, C, generator=g) < p).long()


def proxies(seed=3, scale=2.0):
    g = torch.Generator().manual_seed(seed)
    return scale * torch.randn(C, DIM, generator=g, dtype=torch.float64)


def sets(y):
    return [frozenset(row.nonzero().flatten().tolist()) for row in y]


def naive_weighted(z, tau, weights):
    """Sum over pairs of w_ip (log sum_{a != i} exp(s_ia / tau) - s_ip / tau)."""
    total = 0.0
    for (i, p), w in weights.items():
        others = [float(z[i] @ z[a]) / tau for a in range(len(z)) if a != i]
        total += w * (math.log(sum(map(math.exp, others))) - float(z[i] @ z[p]) / tau)
    return total


def naive_mulsupcon(z, y, o):
    labels, weights, counted = sets(y), {}, 0
    for i, own in enumerate(labels):
        carriers = {c: [p for p in range(len(z)) if p != i and c in labels[p]] for c in own}
        carriers = {c: found for c, found in carriers.items() if found}
        counted += len(carriers) if o.average == "label" else bool(carriers)
        share = 1 if o.average == "label" else 1 / max(len(carriers), 1)
        for found in carriers.values():
            for p in found:
                weights[i, p] = weights.get((i, p), 0) + share / len(found)
    return naive_weighted(z, o.temperature, weights) / counted


def naive_by_pair(z, y, tau, weight):
    """Mean over anchors of the mean over positives; ``weight`` is None for the others."""
    labels, weights, anchors = sets(y), {}, 0
    for i, own in enumerate(labels):
        found = {p: weight(own, labels[p]) for p in range(len(z)) if p != i}
        found = {p: w for p, w in found.items() if w is not None}
        anchors += bool(found)
        weights |= {(i, p): w / len(found) for p, w in found.items()}
    return naive_weighted(z, tau, weights) / anchors


def naive_multisupcon(z, y, o):
    def weight(a, b):
        overlap = len(a & b) / max(len(a | b), 1)
        return overlap if a & b and overlap >= o.threshold else None

    return naive_by_pair(z, y, o.temperature, weight)


def naive_similarity_dissimilarity(z, y, o):
    def weight(a, b):
        return len(a & b) / len(a) / (1 + len(b - a)) if a & b else None

    return naive_by_pair(z, y, o.temperature, weight)


def naive_msc(z, y, prototypes, o):
    labels, unit = sets(y), F.normalize(prototypes, dim=1)
    total, anchors = 0.0, 0
    for i, own in enumerate(labels):
        if not own:
            continue
        anchors += 1
        image = {j: float(z[i] @ z[j]) / o.temperature for j in range(len(z)) if j != i}
        proto = [float(z[i] @ unit[c]) / o.temperature for c in range(C)]
        norm = math.log(
            o.beta * sum(map(math.exp, image.values())) + sum(math.exp(v) for v in proto)
        )
        for c in own:
            weights = {j: o.alpha / len(own | labels[j]) for j in image if c in labels[j]}
            mass = 1 + sum(weights.values())
            pulled = (norm - proto[c]) + sum(w * (norm - image[j]) for j, w in weights.items())
            total += pulled / mass / len(own)
    return total / anchors


def naive_proxy(z, y, vectors, pull, push):
    """Proxy-Anchor's sums over exponents that ``pull`` and ``push`` give for a cosine."""
    unit, vectors = F.normalize(z, dim=1), F.normalize(vectors, dim=1)
    attraction, repulsion, present = 0.0, 0.0, 0
    for c in range(C):
        cosine = [float(unit[i] @ vectors[c]) for i in range(len(z))]
        near = [math.exp(pull(s)) for s, on in zip(cosine, y[:, c], strict=True) if on]
        far = [math.exp(push(s)) for s, on in zip(cosine, y[:, c], strict=True) if not on]
        present += bool(near)
        attraction += math.log1p(sum(near))
        repulsion += math.log1p(sum(far))
    return attraction / max(present, 1) + repulsion / C


def naive_proxy_anchor(z, y, vectors, o):
    return naive_proxy(
        z, y, vectors, lambda s: -o.alpha * (s - o.margin), lambda s: o.alpha * (s + o.margin)
    )


def naive_dhcl(z, y, vectors, o):
    g, m = o.scale, o.margin
    d_n, o_n = (m, -m) if o.negatives == "circle" else (-1 + m, -1 - m)
    return naive_proxy(
        z, y, vectors,
        lambda s: -g * max(1 + m - s, 0) * (s - (1 - m)),
        lambda s: g * max(s - o_n, 0) * (s - d_n),
    )  # fmt: skip


PAIRWISE = [
    (mulsupcon_loss, naive_mulsupcon, MulSupConOptions(0.2)),
    (mulsupcon_loss, naive_mulsupcon, MulSupConOptions(0.2, "anchor")),
    (multisupcon_loss, naive_multisupcon, MultiSupConOptions(0.3, 0.5)),
    (multisupcon_loss, naive_multisupcon, MultiSupConOptions(0.3, 1 / 3)),
    (multisupcon_loss, naive_multisupcon, MultiSupConOptions(0.3, 0.0)),
    (similarity_dissimilarity_loss, naive_similarity_dissimilarity,
     SimilarityDissimilarityOptions(0.3)),
]  # fmt: skip
PROXY = [
    (msc_loss, naive_msc, MscOptions(0.2)),
    (msc_loss, naive_msc, MscOptions(0.3, 0.4, 0.1)),
    (msc_loss, naive_msc, MscOptions(0.3, 0.0, 2.0)),
    (proxy_anchor_loss, naive_proxy_anchor, ProxyAnchorOptions()),
    (proxy_anchor_loss, naive_proxy_anchor, ProxyAnchorOptions(8.0, -0.2)),
    (dhcl_loss, naive_dhcl, DhclOptions()),
    (dhcl_loss, naive_dhcl, DhclOptions(8.0, 0.4)),
    (dhcl_loss, naive_dhcl, DhclOptions(16.0, 0.25, "opposite")),
]


def named(value):
    """Return a name that is the same in every process: a function's repr holds its address."""
    return getattr(value, "__name__", None) or repr(value)


@pytest.mark.parametrize(("loss", "naive", "options"), PAIRWISE, ids=named)
@pytest.mark.parametrize("seed", [0, 1])
def test_pairwise_loss_equals_double_loop(loss, naive, options, seed):
    z, y = batch(seed)
    y[0] = 0
    y[1], y[2] = y[3], torch.tensor([1, 0, 0, 0])
    assert float(loss(z, y, options)) == pytest.approx(naive(z, y, options), rel=1e-10)


@pytest.mark.parametrize(("loss", "naive", "options"), PROXY, ids=named)
@pytest.mark.parametrize("seed", [0, 1])
def test_proxy_loss_equals_double_loop(loss, naive, options, seed):
    z, y = batch(seed)
    y[0] = 0
    y[:, 3] = seed  # a label nobody, then everybody, carries
    y[0, 3] = 0
    got = loss(z, y, proxies(), options)
    assert float(got) == pytest.approx(naive(z, y, proxies(), options), rel=1e-10)


RIVALS = {
    "mulsupcon": mulsupcon_loss,
    "mulsupcon-anchor": lambda z, y: mulsupcon_loss(z, y, MulSupConOptions(average="anchor")),
    "multisupcon": multisupcon_loss,
    "similarity_dissimilarity": similarity_dissimilarity_loss,
    "msc": lambda z, y: msc_loss(z, y, proxies(), MscOptions(beta=0.5)),
    "proxy_anchor": lambda z, y: proxy_anchor_loss(z, y, proxies()),
    "dhcl": lambda z, y: dhcl_loss(z, y, proxies()),
}
NEED_A_PAIR = ["mulsupcon", "mulsupcon-anchor", "multisupcon", "similarity_dissimilarity"]


@pytest.mark.parametrize("name", RIVALS)
def test_permuting_the_batch_changes_nothing(name):
    z, y = batch(5)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(1))
    assert float(RIVALS[name](z[order], y[order])) == pytest.approx(
        float(RIVALS[name](z, y)), rel=1e-12
    )


@pytest.mark.parametrize("name", [name for name in RIVALS if name != "dhcl"])
def test_gradients_are_exact(name):
    z, y = batch(6, n=7)
    y[0], y[1], y[2] = y[1], y[1], 0
    y[:2, 0] = 1
    z.requires_grad_()
    assert torch.autograd.gradcheck(lambda v: RIVALS[name](v, y), (z,))


@pytest.mark.parametrize("loss", [msc_loss, proxy_anchor_loss])
def test_gradients_of_proxies_are_exact(loss):
    z, y = batch(6, n=7)
    assert torch.autograd.gradcheck(lambda v: loss(z, y, v), (proxies().requires_grad_(),))


@pytest.mark.parametrize("negatives", ["circle", "opposite"])
def test_dhcl_gradient_treats_the_weights_as_constants(negatives):
    """The gradient is that of the naive sums with the weights frozen at the point itself."""
    z, y = batch(4)
    o = DhclOptions(8.0, 0.25, negatives)
    m = o.margin
    d_n, o_n = (m, -m) if negatives == "circle" else (-1 + m, -1 - m)
    vectors = F.normalize(proxies(), dim=1)
    at = (F.normalize(z, dim=1) @ vectors.T).clone()

    def frozen(point):
        cosine = F.normalize(point, dim=1) @ vectors.T
        pull = torch.exp(-o.scale * (1 + m - at).clamp(min=0) * (cosine - (1 - m))) * y
        push = torch.exp(o.scale * (at - o_n).clamp(min=0) * (cosine - d_n)) * (1 - y)
        present = (y.sum(0) > 0).sum()
        return (1 + pull.sum(0)).log().sum() / present + (1 + push.sum(0)).log().mean()

    point = z.clone().requires_grad_()
    (got,) = torch.autograd.grad(dhcl_loss(point, y, proxies(), o), point)
    step = 1e-6
    for i in range(N):
        for k in range(DIM):
            moved = torch.zeros_like(z)
            moved[i, k] = step
            slope = (frozen(z + moved) - frozen(z - moved)) / (2 * step)
            assert float(got[i, k]) == pytest.approx(float(slope), abs=1e-6, rel=1e-5)


@pytest.mark.parametrize("name", RIVALS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_low_precision_computes_in_float32(name, dtype):
    z, y = batch(7)
    low = z.to(dtype)
    got = RIVALS[name](low, y)
    assert got.dtype == torch.float32
    assert float(got) == pytest.approx(float(RIVALS[name](low.double(), y)), rel=2e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_autocast_does_not_reach_a_loss(name):
    z, y = batch(7)
    y = F.one_hot(y.sum(1) % C, C)
    torch.manual_seed(0)
    loss = create_loss(name, {}, LabelStatistics.of(y), DIM)
    plain = loss(z.float(), y)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = loss(z.float(), y)
    assert got.dtype == torch.float32
    assert float(got.detach()) == float(plain.detach())


@pytest.mark.parametrize("name", NEED_A_PAIR)
@pytest.mark.parametrize(
    "y",
    [torch.zeros(4, C), torch.eye(4, C), torch.tensor([[1, 0, 0, 0]] + [[0] * 4] * 3)],
    ids=["no labels", "nothing shared", "one label once"],
)
def test_no_positive_pair_gives_zero_and_zero_gradient(name, y):
    z = F.normalize(torch.randn(4, DIM), dim=1).requires_grad_()
    loss = RIVALS[name](z, y)
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert float(z.grad.abs().sum()) == 0.0


def test_msc_without_labels_is_zero_and_moves_no_prototype():
    z = F.normalize(torch.randn(4, DIM), dim=1).requires_grad_()
    prototypes = proxies().requires_grad_()
    loss = msc_loss(z, torch.zeros(4, C), prototypes)
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert float(z.grad.abs().sum()) == float(prototypes.grad.abs().sum()) == 0.0


@pytest.mark.parametrize("loss", [proxy_anchor_loss, dhcl_loss])
def test_images_without_labels_are_pushed_from_every_proxy(loss):
    vectors = torch.eye(C, DIM, dtype=torch.float64)
    z = F.normalize(torch.ones(1, DIM, dtype=torch.float64), dim=1).requires_grad_()
    (gradient,) = torch.autograd.grad(loss(z, torch.zeros(1, C), vectors), z)
    assert bool((gradient[0, :C] > 0).all())  # a step down lowers every cosine


@pytest.mark.parametrize("name", [name for name in RIVALS if name in NEED_A_PAIR or name == "msc"])
def test_images_without_labels_are_negatives_only(name):
    z, y = batch(8)
    y[:, 0] = 1
    y[-1] = 0
    z.requires_grad_()
    whole = RIVALS[name](z, y)
    (gradient,) = torch.autograd.grad(whole, z)
    assert float(gradient[-1].abs().sum()) > 0
    assert float(whole.detach()) > float(RIVALS[name](z[:-1], y[:-1]).detach())


@pytest.mark.parametrize("name", RIVALS)
@pytest.mark.parametrize("n", [0, 1])
def test_batches_of_none_and_one_are_finite(name, n):
    z, y = batch(0, n=n)
    z.requires_grad_()
    loss = RIVALS[name](z, y)
    loss.backward()
    assert torch.isfinite(loss)
    assert bool(torch.isfinite(z.grad).all())
    if n == 0 or name in NEED_A_PAIR:
        assert float(loss.detach()) == 0.0


@pytest.mark.parametrize("name", NEED_A_PAIR)
def test_all_labels_everywhere_is_supcon(name):
    z, _ = batch(1)
    everywhere = torch.ones(N, C)
    assert float(RIVALS[name](z, everywhere)) == pytest.approx(float(supcon_loss(z, everywhere)))


@pytest.mark.parametrize("name", NEED_A_PAIR)
def test_single_labels_make_it_supcon(name):
    z, _ = batch(2)
    y = F.one_hot(torch.arange(N) % C, C)
    assert float(RIVALS[name](z, y)) == pytest.approx(float(supcon_loss(z, y)), rel=1e-12)


def test_msc_with_one_label_per_image_is_supcon_over_images_and_prototypes():
    """With alpha 1 and one label, the prototype is one more positive of weight 1."""
    z, _ = batch(2)
    y = F.one_hot(torch.arange(N) % C, C)
    unit = F.normalize(proxies(), dim=1)
    joint = torch.cat([z, unit])
    labels = torch.cat([y, torch.eye(C)])
    anchors = [
        naive_weighted(joint, 0.1, {(i, p): 1 / len(found) for p in found})
        for i in range(N)
        if (found := [p for p in range(len(joint)) if p != i and bool(labels[i] @ labels[p])])
    ]
    got = float(msc_loss(z, y, proxies(), MscOptions(0.1)))
    assert got == pytest.approx(sum(anchors) / N, rel=1e-10)


def test_extra_labels_lower_the_weight_of_a_positive():
    def pull(second):
        """How hard the first image pulls its only positive."""
        z = F.normalize(torch.tensor([[1.0, 0.2], [0.2, 1.0], [-1.0, 0.1]]), dim=1).double()
        y = torch.zeros(3, C)
        y[0, :2], y[1, second] = 1, 1
        return float(similarity_dissimilarity_loss(z, y))

    assert pull([0, 1]) > pull([0, 1, 2]) > pull([0, 1, 2, 3])
    assert pull([0, 1]) > pull([0])


@pytest.mark.parametrize("loss", [msc_loss, proxy_anchor_loss, dhcl_loss])
def test_proxies_of_other_shape_are_named(loss):
    z, y = batch()
    with pytest.raises(UsageError, match=r"\[4, 5\], got \[3, 5\]"):
        loss(z, y, torch.ones(3, DIM))


def naive_asymmetric(logits, y, o):
    total = 0.0
    for x, on in zip(logits.flatten().tolist(), y.flatten().tolist(), strict=True):
        p = 1 / (1 + math.exp(-x))
        q = max(p - o.clip, 0)
        if on:
            total -= (1 - p) ** o.gamma_positive * math.log(p)
        else:
            total -= q**o.gamma_negative * math.log(1 - q)
    return total / logits.numel()


@pytest.mark.parametrize(
    "options",
    [AsymmetricOptions(), AsymmetricOptions(1, 2, 0.2), AsymmetricOptions(2, 0, 0.0)],
    ids=repr,
)
def test_asymmetric_loss_equals_its_definition(options):
    logits = 3 * torch.randn(6, C, generator=torch.Generator().manual_seed(0)).double()
    _, y = batch(n=6)
    got = float(asymmetric_loss(logits, y, options))
    assert got == pytest.approx(naive_asymmetric(logits, y, options), rel=1e-10)
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda v: asymmetric_loss(v, y, options), (logits,))


def test_asymmetric_loss_without_options_on_is_cross_entropy():
    logits = torch.tensor([[80.0, -3.0, 0.5, -80.0]]).half().requires_grad_()
    y = torch.tensor([[0, 1, 0, 1]])
    got = asymmetric_loss(logits, y, AsymmetricOptions(0, 0, 0))
    assert got.dtype == torch.float32
    assert float(got.detach()) == pytest.approx(float(label_loss(logits, y).detach()), rel=1e-6)


@pytest.mark.parametrize("options", [AsymmetricOptions(), AsymmetricOptions(1, 1, 0)], ids=repr)
def test_asymmetric_loss_has_finite_gradients_when_saturated(options):
    logits = torch.tensor([[100.0, 100.0, -100.0, -100.0]]).requires_grad_()
    loss = asymmetric_loss(logits, torch.tensor([[0, 1, 0, 1]]), options)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert torch.isfinite(loss)
    assert bool(torch.isfinite(gradient).all())


def test_asymmetric_loss_refuses_other_shapes():
    with pytest.raises(UsageError, match="differ in shape"):
        asymmetric_loss(torch.zeros(2, 3), torch.zeros(2, 4))


def test_balance_loss_equals_its_definition():
    h = torch.tensor([[1.0, -0.5], [0.5, 0.5]])
    assert float(balance_loss(h)) == pytest.approx((0.75**2 + 0) / 2)
    assert balance_loss(h.half()).dtype == torch.float32


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: MulSupConOptions(average="image"), "average must be one of label, anchor"),
        (lambda: MulSupConOptions(0), "temperature must be above 0"),
        (lambda: SupConOptions(float("nan")), "temperature must be above 0"),
        (lambda: MultiSupConOptions(threshold=1.5), "threshold"),
        (lambda: SimilarityDissimilarityOptions(-1), "temperature"),
        (lambda: MscOptions(beta=0), "beta"),
        (lambda: MscOptions(alpha=-1), "alpha"),
        (lambda: ProxyAnchorOptions(alpha=0), "alpha"),
        (lambda: ProxyAnchorOptions(margin=2), "margin"),
        (lambda: DhclOptions(scale=0), "scale"),
        (lambda: DhclOptions(margin=-1), "margin"),
        (lambda: DhclOptions(negatives="authors"), "negatives must be one of circle, opposite"),
        (lambda: AsymmetricOptions(gamma_negative=0.5), "gamma_negative must be 0 or at least 1"),
        (lambda: AsymmetricOptions(clip=1), "clip"),
    ],
)
def test_bad_options_are_named(make, word):
    with pytest.raises(UsageError, match=word):
        make()


@pytest.mark.parametrize("name", ["msc", "proxy_anchor", "dhcl"])
def test_registry_gives_learned_proxies(name):
    _, y = batch()
    torch.manual_seed(3)
    loss = create_loss(name, {}, LabelStatistics.of(y), DIM)
    (learned,) = loss.parameters()
    assert tuple(learned.shape) == (C, DIM)
    z, y = batch(1)
    before = float(loss(z, y).detach())
    optimizer = torch.optim.SGD(loss.parameters(), lr=0.1)
    for _ in range(20):
        optimizer.zero_grad()
        loss(z, y).backward()
        optimizer.step()
    assert float(loss(z, y).detach()) < before
