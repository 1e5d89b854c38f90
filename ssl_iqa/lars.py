"""The optimizer of Section 4.2: LARS (You, Gitman and Ginsburg, "Large Batch Training of Convolutional Networks")."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


class LARS(torch.optim.Optimizer):
    """SGD with momentum whose step is scaled, tensor by tensor, to the length of the weights.

    For weights w with gradient g and momentum buffer v (0 at the start):

        d = g + weight_decay * w
        v = momentum * v + ratio * d,    ratio = trust_coefficient * ||w|| / ||d||
        w = w - lr * v

    The ratio is 1, not adapted, where either norm is 0, and in a group with `adapt=False`. One-dimensional parameters
    (biases, BatchNorm) are neither adapted nor decayed in any group. Norms and d are float32 at least. The defaults
    are weight decay 1e-6 (Section 4.2), and the momentum 0.9 and trust coefficient 0.001 of the LARS paper.

    Args:
        params: tensors, or groups `{"params": ..., "lr": ..., "adapt": ...}`; a group may set any argument below.
        lr: learning rate, >= 0; in Section 4.2 1e-2 for encoder and projector, 1e-4 for the regressor.
        momentum: in [0, 1).
        weight_decay: L2 penalty, >= 0.
        trust_coefficient: length of a step at lr 1 without momentum, as a part of ||w||, > 0.

    Raises:
        ValueError: for an argument out of its range.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 1e-6,
        trust_coefficient: float = 1e-3,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "adapt": True}
        defaults["trust_coefficient"] = trust_coefficient
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        settings = self.defaults | param_group
        if not settings["lr"] >= 0:
            raise ValueError(f"lr must be at least 0, got {settings['lr']}")
        if not 0 <= settings["momentum"] < 1:
            raise ValueError(f"momentum must be in [0, 1), got {settings['momentum']}")
        if not settings["weight_decay"] >= 0:
            raise ValueError(f"weight_decay must be at least 0, got {settings['weight_decay']}")
        if not settings["trust_coefficient"] > 0:
            raise ValueError(f"trust_coefficient must be positive, got {settings['trust_coefficient']}")
        super().add_param_group(param_group)

    @torch.no_grad()
    def step(self) -> None:
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            for w in group["params"]:
                if w.grad is None:
                    continue
                if not self.state[w]:
                    self.state[w]["momentum_buffer"] = torch.zeros_like(w)
                v, d, ratio = self.state[w]["momentum_buffer"], w.grad, 1.0
                if w.ndim > 1:
                    dtype = torch.promote_types(w.dtype, torch.float32)
                    d = w.grad.to(dtype).add(w.to(dtype), alpha=group["weight_decay"])
                    if group["adapt"]:
                        w_norm, d_norm = w.to(dtype).norm(), d.norm()
                        is_adapted = (w_norm > 0) & (d_norm > 0)
                        ratio = torch.where(is_adapted, group["trust_coefficient"] * w_norm / d_norm, 1.0)
                v.mul_(group["momentum"]).add_(ratio * d)
                w.sub_(v, alpha=group["lr"])
