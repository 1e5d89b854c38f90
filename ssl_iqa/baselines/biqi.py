"""BIQI, one of the conventional methods of Table 3: 18 numbers of wavelet coefficients, for `regressor` to learn from.

Moorthy, Bovik, "A Two-Step Framework for Constructing Blind Image Quality Indices", IEEE Signal Processing Letters,
2010. There a classifier first names the distortion, of five, and a regressor for each of them gives the score; here, as
in the comparison that the paper quotes (DeepFL-IQA's), one regressor serves all.
"""

import warnings

import torch
from torch import Tensor

from ssl_iqa.baselines.brisque import SMALLEST, fit_gaussian, to_gray

SCALES = 3


def biqi_features(image: Tensor) -> Tensor:
    """The statistics of an image, RGB [3, H, W] in [0, 1], on the CPU: float64 [18].

    The gray image, 0 to 255, is decomposed by Daubechies' wavelet with nine vanishing moments over three scales. The
    coefficients of each subband, the coarsest scale first, and in it horizontal, vertical, diagonal, are fitted with a
    generalized Gaussian: its shape (0.2 to 10) and its variance about their mean.
    """
    import pywt

    gray = to_gray(image[None])[0].numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that in a small image all coefficients feel the border
        _, *scales = pywt.wavedec2(gray, "db9", mode="symmetric", level=SCALES)
    bands = [torch.from_numpy(band)[None] for scale in scales for band in scale]  # [1, h, w] each
    return torch.cat([torch.cat(fit_gaussian(band - band.mean())) for band in bands])


def usable_features(image: Tensor | None) -> Tensor:
    """`biqi_features` of bytes [3, H, W]; NaN for None, which could not be read, and where too few pixels are."""
    if image is None or min(image.shape[1:]) < SMALLEST:
        return torch.full((6 * SCALES,), torch.nan, dtype=torch.float64)
    return biqi_features(image / 255)
