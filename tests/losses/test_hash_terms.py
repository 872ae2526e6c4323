"""Terms of the hash head against plain float64 loops."""

from __future__ import annotations

import pytest
import torch

from landcue.losses import BitBalance, Quantization


def naive_quantization(h):
    return sum((abs(v) - 1) ** 2 for v in h.flatten().tolist()) / h.numel()


def naive_balance(h):
    return sum((sum(bit) / len(bit)) ** 2 for bit in h.T.tolist()) / h.shape[1]


def codes(seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.tanh(3 * torch.randn(6, 4, generator=g, dtype=torch.float64))


@pytest.mark.parametrize("seed", range(3))
def test_terms_equal_plain_loops(seed):
    h = codes(seed)
    assert float(Quantization()(h)) == pytest.approx(naive_quantization(h), rel=1e-12)
    assert float(BitBalance()(h)) == pytest.approx(naive_balance(h), rel=1e-12)


@pytest.mark.parametrize("term", [Quantization(), BitBalance()])
def test_gradients_are_exact(term):
    assert torch.autograd.gradcheck(term, (codes().requires_grad_(),))


@pytest.mark.parametrize("term", [Quantization(), BitBalance()])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_low_precision_computes_in_float32(term, dtype):
    low = codes().to(dtype)
    got = term(low)
    assert got.dtype == torch.float32
    assert float(got) == pytest.approx(float(term(low.double())), rel=2e-5)


def test_quantization_loss_equals_its_definition():
    assert float(Quantization()(torch.tensor([[1.0, -0.5]]))) == pytest.approx(0.125)
    assert float(Quantization()(torch.tensor([[1.0, -1.0]]).half())) == 0.0


def test_balance_loss_equals_its_definition():
    h = torch.tensor([[1.0, -0.5], [0.5, 0.5]])
    assert float(BitBalance()(h)) == pytest.approx((0.75**2 + 0) / 2)
    assert BitBalance()(h.half()).dtype == torch.float32
