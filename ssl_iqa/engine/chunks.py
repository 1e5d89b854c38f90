"""`--accumulate`: a step whose views do not fit into memory together.

Eq. 5 needs the projections of the whole batch, so that a step cannot be made of the gradients of smaller ones. Here
the views pass the encoder in chunks, of which only p is kept; when the gradient arrives there, each chunk passes the
encoder once more. It takes the time of one more forward pass and the memory of one chunk.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ssl_iqa.model import Encoder, Networks


class NetworksInChunks(Networks):
    """`Networks` with the graph of 1 / `chunks` of the views in memory.

    The gradients are the same, but for batch normalization, which has the statistics of a chunk.
    """

    def __init__(self, encoder: Encoder, mean_score: float, chunks: int) -> None:
        super().__init__(encoder, mean_score)
        self.chunks = chunks

    def project(self, x_d: Tensor) -> Tensor:
        def again() -> tuple:  # the contexts of a chunk's two passes
            return nullcontext(), running_statistics_kept(self)

        project, settings = super().project, {"use_reentrant": False, "preserve_rng_state": False, "context_fn": again}
        return torch.cat([checkpoint(project, chunk, **settings) for chunk in x_d.tensor_split(self.chunks)])


@contextmanager
def running_statistics_kept(module: nn.Module) -> Iterator[None]:
    """Forward passes within leave batch normalization's running statistics alone, in training mode too."""
    norms = [child for child in module.modules() if isinstance(child, nn.modules.batchnorm._BatchNorm)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count
