"""LARS against timm's Lars.

timm's ratio is trust_coeff * ||w|| / (||g|| + weight_decay * ||w|| + eps); ours is divided by ||g + weight_decay * w||.
With eps=0 the two are equal without weight decay (always_adapt=True then keeps timm adapting), and with it where g
points along w. timm also adapts and decays one-dimensional parameters; the weights here have two and four dimensions.
"""

import pytest
import torch
from torch import Tensor, nn

from ssl_iqa.lars import LARS

optim = pytest.importorskip("timm.optim")


@pytest.mark.parametrize("along", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_steps_are_those_of_timm(momentum: float, along: bool) -> None:
    generator = torch.Generator().manual_seed(0)

    def randn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    ours = [nn.Parameter(randn(4, 3)), nn.Parameter(randn(2, 3, 3, 3)), nn.Parameter(torch.zeros_like(randn(2, 2)))]
    theirs = [nn.Parameter(w.detach().clone()) for w in ours]
    weight_decay = 0.1 if along else 0.0
    optimizer = LARS(ours, lr=0.5, momentum=momentum, weight_decay=weight_decay, trust_coefficient=0.02)
    expected = optim.Lars(
        theirs, 0.5, momentum, weight_decay=weight_decay, trust_coeff=0.02, eps=0.0, always_adapt=True
    )
    for _ in range(5):
        for a, b in zip(ours, theirs, strict=True):
            g = (2 + randn(1).abs()) * b.detach() if along else randn(*b.shape)
            a.grad, b.grad = g.clone(), g.clone()
        optimizer.step()
        expected.step()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-13, atol=1e-15)
