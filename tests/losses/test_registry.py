"""Losses by the names of a configuration: options, mistakes."""

from __future__ import annotations

import pytest
import torch

from landcue.errors import UsageError
from landcue.losses import (
    DHCL,
    LOSSES,
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
from loss_batches import DIM, C, batch, statistics


@pytest.mark.parametrize(
    ("name", "options", "word"),
    [
        ("mark", {}, "'marc'"),
        ("marc", {"gama": 1}, "'gamma'"),
        ("marc", {"plr": "frequency"}, "plr must be one of"),
        ("marc", {"temperature": -1}, "temperature"),
        ("marc", {"temperature": "hot"}, "finite number"),
        ("supcon", {"positives": "some"}, "positives must be one of any, all"),
    ],
)
def test_registry_names_the_mistake(name, options, word):
    with pytest.raises(UsageError) as caught:
        create_loss(name, options, statistics(), DIM)
    assert word in str(caught.value)


def test_registry_binds_options():
    z, y = batch()
    loss = create_loss("supcon", {"temperature": 0.3}, statistics(), DIM)
    assert float(loss(z, y)) == float(SupCon(temperature=0.3)(z, y))


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


@pytest.mark.parametrize("name", LOSSES)
def test_an_unknown_option_is_named(name):
    with pytest.raises(UsageError, match=f"loss {name} has no option 'temprature'"):
        create_loss(name, {"temprature": 1}, statistics(), DIM)
