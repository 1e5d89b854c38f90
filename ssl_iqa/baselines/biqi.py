"""BIQI, one of the conventional methods of Table 3: 18 numbers of wavelet coefficients, for `regressor` to learn from.

Moorthy, Bovik, "A Two-Step Framework for Constructing Blind Image Quality Indices", IEEE Signal Processing Letters,
2010. There a classifier first names the distortion, of five, and a regressor for each of them gives the score; here, as
in the comparison that the paper quotes (DeepFL-IQA's), one regressor serves all.
"""

import warnings
from functools import partial

import torch
from torch import Tensor

from ssl_iqa.baselines import usable
from ssl_iqa.baselines.brisque import fit_gaussian, to_gray

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


usable_features = partial(usable, biqi_features, 6 * SCALES)
