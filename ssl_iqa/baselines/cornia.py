"""CORNIA, one of the conventional methods of Table 3: 20,000 numbers of a codebook, for `regressor` to learn from.

Ye, Kumar, Kang, Doermann, "Unsupervised Feature Learning Framework for No-reference Image Quality Assessment", CVPR
2012; what it leaves open is as in its authors' MATLAB code. Otherwise here: the codebook's images (see `patches`), the
same places of patches for every image of a size, where that code draws anew, and C of the regressor.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_iqa.baselines import usable
from ssl_iqa.baselines.patches import Codebook, learn_codebook, random_patches, whitened

CODEWORDS, PATCHES = 10_000, 10_000  # the latter of each image
AT_ONCE = 1000  # patches, of which each has a product with every codeword: 40 MB


def learn() -> Codebook:
    return learn_codebook(CODEWORDS)[0]


def cornia_features(codebook: Codebook, image: Tensor) -> Tensor:
    """Of an image, RGB [3, H, W] in [0, 1], on the CPU: float32 [2 K] for K codewords.

    With patches x and codewords d of length 1, the maximum over patches of max(0, d.x), then of max(0, -d.x).
    """
    x = whitened(random_patches(image, PATCHES, seed=0).float(), codebook)
    d = F.normalize(codebook["codewords"])  # [K, 49]
    highest, lowest = torch.zeros(2, len(d))
    for part in x.split(AT_ONCE):
        low, high = (part @ d.T).aminmax(dim=0)
        highest, lowest = highest.maximum(high), lowest.minimum(low)
    return torch.cat((highest, -lowest))


def usable_features(codebook: Codebook, image: Tensor | None) -> Tensor:
    return usable(partial(cornia_features, codebook), 2 * len(codebook["codewords"]), image)
