"""The types held to what KADIS-700k's own generator made of two photographs, with the draws that it was given.

`kadis_golden.npz` comes from the published MATLAB code (`imdist_generator`, its functions unchanged, the stretch before
and after included), run in GNU Octave 7.3; what Octave lacks was replaced by MATLAB's documented behavior:
`imgaussfilt`, `normr`, `fspecial('motion')` and bicubic `interp2`. For the photographs `china` (scikit-learn's) and
`catsk` (scikit-image's chelsea, CC0), each 256x192 from the middle, it holds

    PHOTO/input         the photograph, uint8 [192, 256, 3]
    PHOTO/TYPE/middle   rows 72..103 and columns 96..143 at each level: uint16 [5, 32, 48, 3], 65535 = 1; rounded to 11
                        bits, which moves a sample by 0.06/255 at most
    PHOTO/TYPE/corner   rows 0..15 and columns 0..23: [5, 16, 24, 3]
    PHOTO/angle         what motion_blur was given, degrees
    PHOTO/shift         the two uniform numbers of color_shift, along rows and along columns

Draws of jitter: in round k each pixel came from row y - level * d[k, y, x, 0], column x - level * d[k, y, x, 1].
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from ssl_iqa.distortions import NAMES, blur, color, distort, spatial

GOLDEN = np.load(Path(__file__).with_name("kadis_golden.npz"))
PHOTOGRAPHS = ("china", "catsk")
TYPES = sorted({name.split("/")[1] for name in GOLDEN} - {"input", "angle", "shift"})


def give_draws(monkeypatch: pytest.MonkeyPatch, photograph: str) -> None:
    """In place of their own draws the types get the generator's; those of jitter begin anew at each call of this."""
    angle, shift = (torch.from_numpy(GOLDEN[f"{photograph}/{name}"]) for name in ("angle", "shift"))
    rounds = iter(-np.random.default_rng(0).standard_normal((5, 192, 256, 2)).transpose(0, 3, 1, 2))
    monkeypatch.setattr(blur, "rand", lambda shape, like, generator: ((angle + 0.5) / 181).to(like).view(shape))
    monkeypatch.setattr(color, "rand", lambda shape, like, generator: shift.to(like).view(shape))
    monkeypatch.setattr(
        spatial, "randn", lambda shape, like, generator: torch.tensor(next(rounds)).to(like).view(shape)
    )


def test_fourteen_types_are_held_to_the_generator() -> None:
    assert len(TYPES) == 14 and set(TYPES) <= set(NAMES)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("photograph", PHOTOGRAPHS)
@pytest.mark.parametrize("name", TYPES)
def test_types_are_the_published_generators(
    monkeypatch: pytest.MonkeyPatch, name: str, photograph: str, dtype: torch.dtype
) -> None:
    image = torch.from_numpy(GOLDEN[f"{photograph}/input"] / 255).permute(2, 0, 1).to(dtype)
    for level in range(1, 6):
        give_draws(monkeypatch, photograph)
        out = distort(image, name, level).permute(1, 2, 0).double().numpy()
        middle, corner = (
            255 * np.abs(part - GOLDEN[f"{photograph}/{name}/{key}"][level - 1] / 65535)
            for part, key in ((out[72:104, 96:144], "middle"), (out[:16, :24], "corner"))
        )
        assert np.percentile(np.concatenate((middle, corner), axis=None), 99) < 0.3, level
        # the border that jitter's docstring speaks of differs by 5/255 at most
        assert max(middle.max(), corner[4:, 4:].max() if name == "jitter" else corner.max()) < 0.1, level
