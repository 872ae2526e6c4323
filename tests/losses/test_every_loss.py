"""What every metric loss of the registry must do, whatever it computes."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from landcue.errors import UsageError
from landcue.losses import (
    DHCL,
    LOSSES,
    MARC,
    MSC,
    Asymmetric,
    LabelStatistics,
    MulSupCon,
    MultiSupCon,
    ProxyAnchor,
    SimilarityDissimilarity,
    SupCon,
    create_loss,
)

N, DIM, C = 12, 5, 4


SINGLE = ("triplet", "multi_similarity", "n_pair", "contrastive", "proxy_nca")


MULTI = [name for name in LOSSES if name not in SINGLE]


PROXIES = ("msc", "proxy_anchor", "dhcl")


def batch(name, seed=0):
    g = torch.Generator().manual_seed(seed)
    z = F.normalize(torch.randn(N, DIM, generator=g, dtype=torch.float64), dim=1)
    if name in SINGLE:
        return z, F.one_hot(torch.randint(0, C, (N,), generator=g), C)
    y = (torch.rand(N, C, generator=g) < 0.4).long()
    y[0], y[1] = 0, 1
    return z, y


def made(name, c=C, **options):
    torch.manual_seed(0)
    return create_loss(name, options, LabelStatistics.from_labels(torch.eye(c)), DIM).double()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_embeddings_that_are_not_finite_are_refused(name, value):
    z, y = batch(name)
    z[3, 1] = z[7, 0] = value
    with pytest.raises(UsageError, match=r"must be finite; 2 of 12 rows .* first is row 3"):
        made(name)(z, y)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("value", [2.0, -1.0, 0.5, float("nan"), float("inf")])
def test_labels_other_than_0_and_1_are_refused(name, value):
    z, y = batch(name)
    y = y.double()
    y[5, 2] = value
    with pytest.raises(UsageError, match="labels must be 0 or 1"):
        made(name)(z, y)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(
    ("z", "y"),
    [((N, DIM), (N - 1, C)), ((N,), (N, C)), ((N, DIM), (N,)), ((N, DIM, 1), (N, C))],
    ids=str,
)
def test_wrong_shapes_are_refused_with_both(name, z, y):
    with pytest.raises(UsageError) as caught:
        made(name)(torch.ones(z), torch.ones(y))
    assert "[n, d]" in str(caught.value)
    assert f"{list(z)} and {list(y)}" in str(caught.value)


@pytest.mark.parametrize("name", ["marc", *PROXIES])
def test_labels_of_another_vocabulary_are_refused(name):
    z, _ = batch(name)
    with pytest.raises(UsageError, match=r"statistics 4|one proxy per label"):
        made(name)(z, torch.ones(N, C + 1))


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "n_pair"])
def test_order_of_the_batch_does_not_matter(name):
    z, y = batch(name)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(1))
    loss = made(name)
    one, two = (float(loss(a, b).detach()) for a, b in ((z, y), (z[order], y[order])))
    assert one == pytest.approx(two, rel=1e-12)
    assert one > 0


@pytest.mark.parametrize("name", MULTI)
@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float32])
def test_labels_may_have_any_type(name, dtype):
    z, y = batch(name)
    loss = made(name)
    assert float(loss(z, y.to(dtype)).detach()) == float(loss(z, y).detach())


@pytest.mark.parametrize("name", MULTI)
def test_one_label_in_all_is_learned_from(name):
    z, _ = batch(name)
    z.requires_grad_()
    y = (torch.arange(N) % 2)[:, None]
    loss = made(name, c=1)(z, y)
    (gradient,) = torch.autograd.grad(loss, z)
    assert torch.isfinite(loss)
    assert bool(torch.isfinite(gradient).all())
    assert float(gradient.abs().sum()) > 0


@pytest.mark.parametrize("name", MULTI)
@pytest.mark.parametrize("fill", ["all labels", "no labels", "one row empty"])
def test_extreme_label_matrices_are_finite(name, fill):
    z, _ = batch(name)
    z.requires_grad_()
    y = torch.zeros(N, C) if fill == "no labels" else torch.ones(N, C)
    if fill == "one row empty":
        y[4] = 0
    loss = made(name)(z, y)
    (gradient,) = torch.autograd.grad(loss, z)
    assert torch.isfinite(loss)
    assert bool(torch.isfinite(gradient).all())
    if fill == "no labels" and name not in ("proxy_anchor", "dhcl"):  # these push from proxies
        assert float(loss.detach()) == float(gradient.abs().sum()) == 0
    else:
        assert float(loss.detach()) > 0


@pytest.mark.parametrize("name", LOSSES)
def test_without_gradients_the_value_is_the_same(name):
    z, y = batch(name)
    loss = made(name)
    with_gradient = loss(z.clone().requires_grad_(), y).detach()
    with torch.no_grad():
        assert float(loss(z, y)) == float(with_gradient)


@pytest.mark.parametrize("name", ["marc", "supcon", "msc"])
def test_gradients_scale_with_what_is_made_of_the_loss(name):
    z, y = batch(name)
    loss = made(name)
    plain, scaled = (z.clone().requires_grad_() for _ in range(2))
    loss(plain, y).backward()
    (loss(scaled, y) * 3 + scaled.sum()).backward()
    torch.testing.assert_close(scaled.grad, 3 * plain.grad + 1)


@pytest.mark.parametrize("name", LOSSES)
def test_class_indices_are_one_hot_labels(name):
    z, _ = batch(name)
    classes = torch.tensor([0, 1, 2, 3, 3, 1, 0, 0, 1, 3, 0, 1])
    loss = made(name)
    one_hot = float(loss(z, F.one_hot(classes, C)).detach())
    assert one_hot > 0
    assert float(loss(z, classes).detach()) == pytest.approx(one_hot, rel=1e-12)


@pytest.mark.parametrize("name", ["marc", *PROXIES])
@pytest.mark.parametrize("wrong", [-1, C])
def test_class_indices_out_of_range_are_refused(name, wrong):
    classes = torch.zeros(N, dtype=torch.long)
    classes[5] = wrong
    with pytest.raises(UsageError, match=rf"0..3; row 5 has {wrong}"):
        made(name)(torch.randn(N, DIM), classes)


PAIR_CLASSES = [MARC, SupCon, MulSupCon, MultiSupCon, SimilarityDissimilarity]
MULTI_CLASSES = [*PAIR_CLASSES, MSC, ProxyAnchor, DHCL]


@pytest.mark.parametrize("kind", MULTI_CLASSES)
def test_embeddings_of_any_length_are_scaled_to_unit_norm(kind):
    z, y = batch("marc")
    torch.manual_seed(0)
    loss = kind().eval()
    lengths = torch.linspace(0.1, 30, N, dtype=torch.float64)[:, None]
    unit, scaled = (float(loss(v, y).detach()) for v in (z, z * lengths))
    assert unit > 0
    assert scaled == pytest.approx(unit, rel=1e-9)


@pytest.mark.parametrize("kind", PAIR_CLASSES)
def test_without_normalization_unit_vectors_give_the_same(kind):
    z, y = batch("marc")
    plain, given = kind().eval(), kind().eval()
    given.normalize = False
    assert float(given(z, y)) == pytest.approx(float(plain(z, y)), rel=1e-12)
    assert float(given(2 * z, y)) != pytest.approx(float(plain(2 * z, y)), rel=1e-3)


@pytest.mark.parametrize(
    ("loss", "shown"),
    [
        (SupCon(temperature=0.2), "SupCon(temperature=0.2, positives='any')"),
        (MARC(gamma=2.0), "MARC(temperature=0.1, reweighting='cooccurrence', gamma=2.0, "),
        (ProxyAnchor(3, 4), "ProxyAnchor(alpha=32.0, margin=0.1)"),
        (Asymmetric(clip=0.1), "Asymmetric(gamma_positive=0.0, gamma_negative=4.0, clip=0.1)"),
    ],
)
def test_a_loss_shows_its_options(loss, shown):
    assert repr(loss).startswith(shown)


def test_the_package_loads_no_torch():
    code = "import sys, landcue.losses; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
