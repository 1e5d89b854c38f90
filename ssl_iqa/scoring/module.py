"""A finetuned model as a plain torch.nn.Module, for a loss or a metric of other programs, and for export."""

import torch
from torch import Tensor, nn

from ssl_iqa.data import views


class Quality(nn.Module):
    """Eq. 6, the mean over the test crops: images [B, 3, H, W], RGB in [0, 1], to y_hat [B], 1 (worst) to 10 (best).

    It is differentiable, and not clipped at the ends of the scale, where a loss would have no gradient. `crops` and
    `crop` are finetune.py's settings; images larger than `long_side` are averaged down to it first (0: as they are). It
    stays in eval mode within a network that trains: batch normalization keeps its statistics, and no image's score
    depends on others in the batch. Sides that are not known, as when it is traced, are fine: crops are taken by the
    places of their pixels, in tensors.
    """

    def __init__(self, encoder: nn.Module, regressor: nn.Module, crops: str, crop: int, long_side: int) -> None:
        super().__init__()
        self.encoder, self.regressor = encoder, regressor
        self.crops, self.crop, self.long_side = crops, crop, long_side

    def train(self, mode: bool = True) -> "Quality":
        return super().train(False)

    def forward(self, images: Tensor) -> Tensor:
        images = images.to(next(self.regressor.parameters()).dtype)
        x = [views.area_means(images, self.long_side)]
        if self.crops in views.PLACES:
            height, width = x[0].shape[2:]
            places = views.PLACES[self.crops]
            pixels = [(self.pixels(height, down), self.pixels(width, across)) for down, across in places]
            x = [x[0].index_select(2, rows).index_select(3, columns) for rows, columns in pixels]
        crops = torch.cat(x)  # [crops * B, 3, h, w]
        return self.regressor(self.encoder(crops)).view(len(x), -1).mean(dim=0)

    def pixels(self, side: int, place: int) -> Tensor:
        """The pixels along a side that a crop at a place of `views.PLACES` takes; beyond its end, reflected ones."""
        room = torch.sym_max(side, self.crop) - self.crop
        places = views.turned_back(torch.arange(self.crop) + room * place // 2, side)
        return places.to(next(self.regressor.parameters()).device)
