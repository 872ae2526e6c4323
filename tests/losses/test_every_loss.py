"""What every metric loss of the registry owes its caller, whatever it computes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from landcue.errors import UsageError
from landcue.losses import LOSSES, LabelStatistics, create_loss

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


@pytest.mark.parametrize("name", LOSSES)
def test_an_unknown_option_is_named(name):
    with pytest.raises(UsageError, match=f"loss {name} has no option 'temprature'"):
        made(name, temprature=1)


# n_pair takes the first pair of each class.
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


@pytest.mark.parametrize("power", [0, 1, 2])
def test_only_power_0_makes_all_positives_of_marc_equal(power):
    z, y = batch("marc")
    got = float(made("marc", power=power, weighting="jaccard", alpha=0.0)(z, y))
    assert (got == pytest.approx(float(made("supcon")(z, y)))) == (power == 0)
