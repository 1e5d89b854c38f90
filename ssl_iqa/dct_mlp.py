"""The demo's encoder."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class DctMlp(nn.Module):
    """The demo's encoder, for two CPU cores and few photographs: classical statistics, and layers that learn from them.

    A distortion changes how much of each frequency an image holds, by a factor that depends little on what it shows.
    So this looks where classical quality measures look, and at logarithms, in which a factor is a shift: the first
    layer's 8x8 filters are the DCT's patterns in Y, Cb and Cr, and z comes, by a layer and a residual block, from the
    mean strength of their answers. The filters are fixed, the layers learn.
    """

    def __init__(self, dim: int = 256) -> None:
        super().__init__()
        n = torch.arange(8)
        waves = torch.cos(torch.pi * (2 * n + 1) * n[:, None] / 16)  # [frequency, position]
        waves /= waves.norm(dim=1, keepdim=True)
        patterns = torch.einsum("ui,vj->uvij", waves, waves).flatten(0, 1)[1:]  # [63, 8, 8], without the constant one
        ycbcr = torch.tensor(((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312)))
        filters = torch.einsum("yc,nij->yncij", ycbcr, patterns).flatten(0, 1)  # [189, 3, 8, 8]
        self.register_buffer("ycbcr", ycbcr, persistent=False)
        self.register_buffer("filters", filters, persistent=False)

        statistics = 2 * 3 + 2 * 2 * len(filters)  # 762
        self.norm = nn.BatchNorm1d(statistics)
        self.layer1 = nn.Sequential(nn.Linear(statistics, dim, bias=False), nn.BatchNorm1d(dim), nn.ReLU())
        self.layer2 = nn.Sequential(
            nn.Linear(dim, dim, bias=False),
            nn.BatchNorm1d(dim),
            nn.ReLU(),
            nn.Linear(dim, dim, bias=False),
            nn.BatchNorm1d(dim),
        )
        self.fc = nn.Linear(dim, 1)  # as torchvision's networks have one; the encoder ends before
        for module in (*self.layer1, *self.layer2):
            if isinstance(module, nn.Linear):  # as torchvision starts a ResNet's convolutions
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def statistics(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] in [0, 1], H and W at least 16, to [B, 762].

        Mean and standard deviation of Y, Cb, Cr; then, at full and at half size, of each filter's answers r over all
        blocks of 8x8 pixels log(mean |r|), which sees edges, and mean log |r|, which sees plain surfaces. What is
        added to |r| is a quarter and half a level of 8 bits: less than that cannot be told.
        """
        with torch.autocast(images.device.type, enabled=False):  # half precision cannot tell so little
            colors = torch.einsum("yc,bchw->byhw", self.ycbcr, images).flatten(2)  # [B, 3, HW]
            mean = colors.mean(dim=2)  # [B, 3]
            deviation = colors.sub_(mean[..., None]).square_().mean(dim=2).sqrt_()  # torch's std is five times as slow
            found = [mean, deviation]
            for size in (images, F.avg_pool2d(images, 2)):
                strength = F.conv2d(size, self.filters, stride=8).abs_()  # [B, 189, h, w]
                found.append((strength.mean(dim=(2, 3)) + 1 / 1024).log())
                found.append(strength.add_(1 / 512).log_().mean(dim=(2, 3)))
            return torch.cat(found, dim=1)

    def forward(self, images: Tensor) -> Tensor:
        h = self.layer1(self.norm(self.statistics(images)))
        return self.fc(F.relu(h + self.layer2(h)))
