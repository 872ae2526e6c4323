"""Rival losses against plain float64 double loops, and what holds for all of them."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from landcue.errors import UsageError
from landcue.losses import (
    BCE,
    DHCL,
    LOSSES,
    MSC,
    Asymmetric,
    BitBalance,
    LabelStatistics,
    MulSupCon,
    MultiSupCon,
    ProxyAnchor,
    SimilarityDissimilarity,
    SupCon,
    create_loss,
)

N, DIM, C = 12, 5, 4


def batch(seed=0, n=N, p=0.4):
    g = torch.Generator().manual_seed(seed)
    z = F.normalize(torch.randn(n, DIM, generator=g, dtype=torch.float64), dim=1)
    return z, (torch.rand(n, C, generator=g) < p).long()


def proxies(seed=3, scale=2.0):
    g = torch.Generator().manual_seed(seed)
    return scale * torch.randn(C, DIM, generator=g, dtype=torch.float64)


def with_proxies(loss, **options):
    """Return a loss whose proxies are :func:`proxies`."""
    made = loss(C, DIM, **options).double()
    with torch.no_grad():
        made.proxies.copy_(proxies())
    return made


def item(loss):
    return float(loss.detach())


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
    (MulSupCon, naive_mulsupcon, {"temperature": 0.2, "average": "label"}),
    (MulSupCon, naive_mulsupcon, {"temperature": 0.2, "average": "anchor"}),
    (MultiSupCon, naive_multisupcon, {"temperature": 0.3, "threshold": 0.5}),
    (MultiSupCon, naive_multisupcon, {"temperature": 0.3, "threshold": 1 / 3}),
    (MultiSupCon, naive_multisupcon, {"temperature": 0.3, "threshold": 0.0}),
    (SimilarityDissimilarity, naive_similarity_dissimilarity, {"temperature": 0.3}),
]
PROXY = [
    (MSC, naive_msc, {"temperature": 0.2, "alpha": 1.0, "beta": 1.0}),
    (MSC, naive_msc, {"temperature": 0.3, "alpha": 0.4, "beta": 0.1}),
    (MSC, naive_msc, {"temperature": 0.3, "alpha": 0.0, "beta": 2.0}),
    (ProxyAnchor, naive_proxy_anchor, {"alpha": 32.0, "margin": 0.1}),
    (ProxyAnchor, naive_proxy_anchor, {"alpha": 8.0, "margin": -0.2}),
    (DHCL, naive_dhcl, {"scale": 32.0, "margin": 0.25, "negatives": "circle"}),
    (DHCL, naive_dhcl, {"scale": 8.0, "margin": 0.4, "negatives": "circle"}),
    (DHCL, naive_dhcl, {"scale": 16.0, "margin": 0.25, "negatives": "opposite"}),
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
    expected = naive(z, y, SimpleNamespace(**options))
    assert float(loss(**options)(z, y)) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(("loss", "naive", "options"), PROXY, ids=named)
@pytest.mark.parametrize("seed", [0, 1])
def test_proxy_loss_equals_double_loop(loss, naive, options, seed):
    z, y = batch(seed)
    y[0] = 0
    y[:, 3] = seed  # a label nobody, then everybody, carries
    y[0, 3] = 0
    expected = naive(z, y, proxies(), SimpleNamespace(**options))
    assert item(with_proxies(loss, **options)(z, y)) == pytest.approx(expected, rel=1e-10)


RIVALS = {
    "mulsupcon": MulSupCon(),
    "mulsupcon-anchor": MulSupCon(average="anchor"),
    "multisupcon": MultiSupCon(),
    "similarity_dissimilarity": SimilarityDissimilarity(),
    "msc": with_proxies(MSC, beta=0.5),
    "proxy_anchor": with_proxies(ProxyAnchor),
    "dhcl": with_proxies(DHCL),
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


@pytest.mark.parametrize("negatives", ["circle", "opposite"])
def test_dhcl_gradient_treats_the_weights_as_constants(negatives):
    """The gradient is that of the naive sums with the weights frozen at the point itself."""
    z, y = batch(4)
    scale, m = 8.0, 0.25
    d_n, o_n = (m, -m) if negatives == "circle" else (-1 + m, -1 - m)
    vectors = F.normalize(proxies(), dim=1)
    at = (F.normalize(z, dim=1) @ vectors.T).clone()

    def frozen(point):
        cosine = F.normalize(point, dim=1) @ vectors.T
        pull = torch.exp(-scale * (1 + m - at).clamp(min=0) * (cosine - (1 - m))) * y
        push = torch.exp(scale * (at - o_n).clamp(min=0) * (cosine - d_n)) * (1 - y)
        present = (y.sum(0) > 0).sum()
        return (1 + pull.sum(0)).log().sum() / present + (1 + push.sum(0)).log().mean()

    point = z.clone().requires_grad_()
    (got,) = torch.autograd.grad(
        with_proxies(DHCL, scale=scale, margin=m, negatives=negatives)(point, y), point
    )
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
    loss = create_loss(name, {}, LabelStatistics.from_labels(y), DIM)
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
    msc = with_proxies(MSC)
    loss = msc(z, torch.zeros(4, C))
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert float(z.grad.abs().sum()) == float(msc.proxies.grad.abs().sum()) == 0.0


@pytest.mark.parametrize("loss", [ProxyAnchor, DHCL])
def test_images_without_labels_are_pushed_from_every_proxy(loss):
    made = loss(C, DIM).double()
    made.load_state_dict({"proxies": torch.eye(C, DIM)})
    z = F.normalize(torch.ones(1, DIM, dtype=torch.float64), dim=1).requires_grad_()
    (gradient,) = torch.autograd.grad(made(z, torch.zeros(1, C)), z)
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
    assert float(RIVALS[name](z, everywhere)) == pytest.approx(float(SupCon()(z, everywhere)))


@pytest.mark.parametrize("name", NEED_A_PAIR)
def test_single_labels_make_it_supcon(name):
    z, _ = batch(2)
    y = F.one_hot(torch.arange(N) % C, C)
    assert float(RIVALS[name](z, y)) == pytest.approx(float(SupCon()(z, y)), rel=1e-12)


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
    got = item(with_proxies(MSC)(z, y))
    assert got == pytest.approx(sum(anchors) / N, rel=1e-10)


def test_extra_labels_lower_the_weight_of_a_positive():
    def pull(second):
        """How hard the first image pulls its only positive."""
        z = F.normalize(torch.tensor([[1.0, 0.2], [0.2, 1.0], [-1.0, 0.1]]), dim=1).double()
        y = torch.zeros(3, C)
        y[0, :2], y[1, second] = 1, 1
        return float(SimilarityDissimilarity()(z, y))

    assert pull([0, 1]) > pull([0, 1, 2]) > pull([0, 1, 2, 3])
    assert pull([0, 1]) > pull([0])


@pytest.mark.parametrize("loss", [MSC, ProxyAnchor, DHCL])
def test_proxies_of_other_shape_are_named(loss):
    z, y = batch()
    with pytest.raises(UsageError, match=r"\[4, 5\], got \[3, 5\]"):
        loss(3, DIM)(z, y)


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
    [(0, 4, 0.05), (1, 2, 0.2), (2, 0, 0.0)],
    ids=repr,
)
def test_asymmetric_loss_equals_its_definition(options):
    logits = 3 * torch.randn(6, C, generator=torch.Generator().manual_seed(0)).double()
    _, y = batch(n=6)
    named = dict(zip(("gamma_positive", "gamma_negative", "clip"), options, strict=True))
    loss = Asymmetric(**named)
    expected = naive_asymmetric(logits, y, SimpleNamespace(**named))
    assert float(loss(logits, y)) == pytest.approx(expected, rel=1e-10)
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda v: loss(v, y), (logits,))


def test_asymmetric_loss_without_options_on_is_cross_entropy():
    logits = torch.tensor([[80.0, -3.0, 0.5, -80.0]]).half().requires_grad_()
    y = torch.tensor([[0, 1, 0, 1]])
    got = Asymmetric(gamma_positive=0, gamma_negative=0, clip=0)(logits, y)
    assert got.dtype == torch.float32
    assert float(got.detach()) == pytest.approx(item(BCE()(logits, y)), rel=1e-6)


@pytest.mark.parametrize(
    "asymmetric", [Asymmetric(), Asymmetric(gamma_positive=1, gamma_negative=1, clip=0)]
)
def test_asymmetric_loss_has_finite_gradients_when_saturated(asymmetric):
    logits = torch.tensor([[100.0, 100.0, -100.0, -100.0]]).requires_grad_()
    loss = asymmetric(logits, torch.tensor([[0, 1, 0, 1]]))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert torch.isfinite(loss)
    assert bool(torch.isfinite(gradient).all())


def test_asymmetric_loss_refuses_other_shapes():
    with pytest.raises(UsageError, match="differ in shape"):
        Asymmetric()(torch.zeros(2, 3), torch.zeros(2, 4))


def test_balance_loss_equals_its_definition():
    h = torch.tensor([[1.0, -0.5], [0.5, 0.5]])
    assert float(BitBalance()(h)) == pytest.approx((0.75**2 + 0) / 2)
    assert BitBalance()(h.half()).dtype == torch.float32


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: MulSupCon(average="image"), "average must be one of label, anchor"),
        (lambda: MulSupCon(temperature=0), "temperature must be above 0"),
        (lambda: SupCon(temperature=float("nan")), "temperature must be above 0"),
        (lambda: MultiSupCon(threshold=1.5), "threshold"),
        (lambda: SimilarityDissimilarity(temperature=-1), "temperature"),
        (lambda: MSC(beta=0), "beta"),
        (lambda: MSC(alpha=-1), "alpha"),
        (lambda: ProxyAnchor(alpha=0), "alpha"),
        (lambda: ProxyAnchor(margin=2), "margin"),
        (lambda: DHCL(scale=0), "scale"),
        (lambda: DHCL(margin=-1), "margin"),
        (lambda: DHCL(negatives="authors"), "negatives must be one of circle, opposite"),
        (lambda: Asymmetric(gamma_negative=0.5), "gamma_negative must be 0 or at least 1"),
        (lambda: Asymmetric(clip=1), "clip"),
    ],
)
def test_bad_options_are_named(make, word):
    with pytest.raises(UsageError, match=word):
        make()


@pytest.mark.parametrize("name", ["msc", "proxy_anchor", "dhcl"])
def test_registry_gives_learned_proxies(name):
    _, y = batch()
    torch.manual_seed(3)
    loss = create_loss(name, {}, LabelStatistics.from_labels(y), DIM)
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
