"""Eq. 5 against pytorch-metric-learning's SupConLoss, which averages over the anchors that have a positive."""

import pytest
import torch

from ssl_iqa.losses import supervised_nt_xent

losses = pytest.importorskip("pytorch_metric_learning.losses")


@pytest.mark.parametrize("max_similarities", [2**24, 5 * 48])  # all at once, and five anchors at a time
@pytest.mark.parametrize("temperature", [0.05, 0.5])
@pytest.mark.parametrize("n_classes", [2, 12, 40])  # at 40 classes for 48 views, many anchors have no positive
def test_value_and_gradient_are_those_of_supcon(n_classes: int, temperature: float, max_similarities: int) -> None:
    generator = torch.Generator().manual_seed(n_classes)
    ours = torch.randn(48, 16, generator=generator, dtype=torch.float64).requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    classes = torch.randint(n_classes, (48,), generator=generator)
    loss = supervised_nt_xent(ours, classes, temperature, max_similarities=max_similarities)
    expected = losses.SupConLoss(temperature=temperature)(theirs, classes)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-12, atol=1e-12)
