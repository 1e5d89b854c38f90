"""DIIVINE's steerable pyramid against pyrtools', from the authors of the one in MATLAB that DIIVINE's authors use.

Even sides alone: of odd ones pyrtools takes frequencies that lie half a step beside the transform's, loses energy and
warns. It looks its filters up in tables, which is the difference that is left.
"""

import numpy as np
import pytest
import torch

from ssl_iqa.baselines.brisque import to_gray
from ssl_iqa.baselines.diivine import steerable_pyramid
from ssl_iqa.data.demo import DEMO_FOLDER
from ssl_iqa.data.images import read_image

pyramids = pytest.importorskip("pyrtools.pyramids")


@pytest.mark.parametrize(("height", "width"), [(128, 128), (126, 100), (98, 128)])  # halves even, odd, and both
def test_subbands_of_a_photograph(height: int, width: int) -> None:
    gray = to_gray(read_image(DEMO_FOLDER / "chelsea.jpg")[None, :, :height, :width] / 255)[0]
    theirs = pyramids.SteerablePyramidFreq(gray.numpy(), height=2, order=5).pyr_coeffs
    high_pass, *scales = steerable_pyramid(gray)
    np.testing.assert_allclose(high_pass, theirs["residual_highpass"], atol=1e-3)
    for scale, bands in enumerate(scales):
        for orientation, band in enumerate(bands):
            np.testing.assert_allclose(band, theirs[scale, orientation], atol=1e-3 * torch.std(band).item() + 1e-3)
