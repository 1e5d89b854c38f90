"""The image patches of CORNIA and HOSA, and the codebook that is learned from other images than are scored.

Patches are 7 x 7, normalized as in both authors' code, and ZCA-whitened with Coates's constant (Coates, Lee, Ng,
AISTATS 2011, whose normalization theirs is, too; they publish the matrix, not the constant). Their codebooks are
learned from CSIQ. Here it is the package's photographs, distorted by Section 3.1's module T: nothing is downloaded, and
no image of a scored set is among them. The set `demo` is the exception: it consists of the same photographs, which the
codebook sees without their scores, those of the test part, too.
"""

import torch
from torch import Tensor

from ssl_iqa.baselines.brisque import to_gray
from ssl_iqa.data.demo import demo_sources
from ssl_iqa.data.images import read_image
from ssl_iqa.distortions import KADIS, distort_as
from ssl_iqa.engine import console

SIDE = 7
IMAGES, PATCHES = 1000, 500  # a codebook is learned from; of each image
PASSES, BATCH = 2, 10_000  # of k-means, over all patches and in one step

Codebook = dict[str, Tensor]
"""float32: the patches' `mean` [49] and `whitening` matrix [49, 49], the `codewords` [K, 49]; HOSA's have more."""


def normalized(windows: Tensor) -> Tensor:
    """Windows of gray levels, 0 to 255, each about its mean and over its deviation: [n, 7, 7] -> [n, 49]."""
    x = windows.flatten(1)
    return (x - x.mean(dim=1, keepdim=True)) / (x.var(dim=1, keepdim=True) + 10).sqrt()


def random_patches(image: Tensor, count: int, seed: int) -> Tensor:
    """So many normalized patches of an image, RGB [3, H, W] in [0, 1], or all where it has fewer: float64 [n, 49]."""
    windows = to_gray(image[None])[0].unfold(0, SIDE, 1).unfold(1, SIDE, 1)  # [H - 6, W - 6, 7, 7]
    height, width = windows.shape[:2]
    places = torch.randperm(height * width, generator=torch.Generator().manual_seed(seed))[:count]
    return normalized(windows[places // width, places % width])


def learning_patches() -> Tensor:
    """Normalized patches of the package's photographs, each in many of the 125 distortion classes: float32 [N, 49]."""
    photographs = [*demo_sources()]
    patches = []
    for i in console.bar(range(IMAGES), "patches of the codebook"):
        x_u = read_image(photographs[i % len(photographs)]) / 255
        x_d = distort_as(x_u, KADIS[i % len(KADIS)], torch.Generator().manual_seed(i))
        patches.append(random_patches(x_d, PATCHES, seed=i).float())
    return torch.cat(patches)


def zca(x: Tensor) -> tuple[Tensor, Tensor]:
    """The mean [49] and the matrix [49, 49], float32, that whiten patches [N, 49]: (x - mean) @ matrix."""
    variances, directions = torch.linalg.eigh(torch.cov(x.T.double()))
    matrix = directions / (variances.clamp_min(0) + 0.1).sqrt() @ directions.T
    return x.double().mean(dim=0).float(), matrix.float()


def whitened(x: Tensor, codebook: Codebook) -> Tensor:
    """Normalized patches in their own type: [n, 49] -> [n, 49]."""
    return (x - codebook["mean"]) @ codebook["whitening"].to(x)


def learn_codebook(size: int) -> tuple[Codebook, Tensor]:
    """A codebook of so many codewords, always the same, and the whitened patches that it is of, float32 [N, 49]."""
    x = learning_patches()
    codebook = dict(zip(("mean", "whitening"), zca(x), strict=True))
    x = whitened(x, codebook)
    return codebook | {"codewords": k_means(x, size)}, x


def k_means(x: Tensor, size: int) -> Tensor:
    """Centers of clusters of patches, by mini-batches in a fixed random order: [N, 49] -> [size, 49]."""
    from sklearn.cluster import MiniBatchKMeans

    generator = torch.Generator().manual_seed(0)
    order = torch.cat([torch.randperm(len(x), generator=generator) for _ in range(PASSES)])
    clusters = MiniBatchKMeans(size, init="random", n_init=1, random_state=0)
    for places in console.bar(order.split(BATCH), "codebook"):
        clusters.partial_fit(x[places].numpy())
    return torch.from_numpy(clusters.cluster_centers_)
