"""Learned proxies: when they are drawn, and what they are loaded from."""

from __future__ import annotations

import pytest
import torch

from landcue.errors import UsageError
from landcue.losses import DHCL, MSC, ProxyAnchor
from loss_batches import DIM, C, batch, item

KINDS = [MSC, ProxyAnchor, DHCL]


@pytest.mark.parametrize("kind", KINDS)
def test_proxies_without_lengths_are_drawn_at_the_first_batch(kind):
    z, y = batch()
    loss = kind()
    optimizer = torch.optim.SGD(loss.parameters(), lr=0.01)
    torch.manual_seed(1)
    first = loss(z, y)
    torch.manual_seed(1)
    assert item(kind(C, DIM)(z, y)) == item(first)
    first.backward()
    optimizer.step()
    assert tuple(loss.proxies.shape) == (C, DIM)
    assert item(loss(z, y)) < item(first)


@pytest.mark.parametrize("kind", KINDS)
def test_proxies_without_lengths_take_those_of_a_state(kind):
    z, y = batch()
    saved, loss = kind(C, DIM), kind()
    loss.load_state_dict(saved.state_dict())
    assert item(loss(z, y)) == item(saved(z, y))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("labels", [torch.eye(C), torch.arange(C), torch.arange(C).numpy()])
def test_labels_of_a_split_give_their_number(kind, labels):
    assert tuple(kind.from_labels(labels, DIM).proxies.shape) == (C, DIM)
    z, y = batch()
    later = kind.from_labels(labels)
    later(z, y)
    assert tuple(later.proxies.shape) == (C, DIM)


@pytest.mark.parametrize("kind", KINDS)
def test_class_indices_need_the_number_of_classes(kind):
    with pytest.raises(UsageError, match="pass n_classes and dim"):
        kind()(torch.randn(4, DIM), torch.arange(4))


@pytest.mark.parametrize("kind", [ProxyAnchor, DHCL])
@pytest.mark.parametrize("argument", ["indices_tuple", "ref_emb", "ref_labels"])
def test_images_are_not_compared_with_each_other(kind, argument):
    z, y = batch()
    with pytest.raises(UsageError, match="compares images with proxies"):
        kind(C, DIM)(z, y, **{argument: z})


@pytest.mark.parametrize("labels", [torch.zeros(0, 3), torch.zeros(3)])
def test_other_labels_of_a_split_are_refused(labels):
    with pytest.raises(UsageError, match="need labels"):
        ProxyAnchor.from_labels(labels, DIM)
