"""CONTRIQUE-syn: Eq. 5 of the patches, what the patches and color spaces are, and the class of pristine images."""

import math

import numpy as np
import pytest
import skimage.color
import torch
from scipy.ndimage import correlate1d
from torch import Tensor, nn

from ssl_iqa.baselines import contrique_syn
from ssl_iqa.data.samplers import draw_classes
from ssl_iqa.distortions import KADIS, distort_as
from ssl_iqa.engine.weights import load_encoder


def images(count: int, side: int = 64, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_loss_is_eq_5_of_all_patches_at_temperature_0_1() -> None:
    """Two views of three images, four patches each: an anchor's positives are all other patches of its class."""
    p = torch.randn(24, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    of_views = [3, 125, 3] * 2
    classes, unit = of_views * 4, [row / row.norm() for row in p]
    losses = []
    for i in range(24):
        similarities = [math.exp((unit[i] @ unit[k]).item() / 0.1) for k in range(24)]
        others = sum(similarities) - similarities[i]
        positives = [j for j in range(24) if j != i and classes[j] == classes[i]]
        losses.append(-sum(math.log(similarities[j] / others) for j in positives) / len(positives))
    loss, _ = contrique_syn.measure(p, torch.tensor(of_views), KADIS)
    assert loss.item() == pytest.approx(sum(losses) / 24, rel=1e-12)


def test_right_is_a_nearest_patch_of_another_image_and_the_same_class() -> None:
    p = torch.zeros(24, 2)
    p[:, 0] = 1
    for image, angle in enumerate((0.0, 0.1, 1.0)):  # images 0 and 1 are near, 2 is nearest to 1; i % 3 is the image
        p[image::3] = torch.tensor([math.cos(angle), math.sin(angle)])
    for classes, share in (([7, 7, 8], 2 / 3), ([7, 7, 7], 1), ([7, 8, 8], 1 / 3)):
        assert contrique_syn.measure(p, torch.tensor(classes * 2), KADIS)[1].item() == pytest.approx(share)


class Means(nn.Module):
    """An encoder whose features are the means of the three channels, which tell images and quarters apart."""

    dim, network = 3, nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3))


def test_patches_stand_2b_apart_and_the_second_view_is_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contrique_syn, "in_any_color_space", lambda x: sides.append(x.shape[2]) or x)
    sides: list[int] = []
    network = contrique_syn.Projections(Means())
    network.projector = nn.Identity()
    x_d = images(6)
    p = network(x_d)  # three images, two views
    assert p.shape == (24, 3) and sides == [64, 32]
    for patch, (rows, columns) in enumerate(((0, 0), (0, 32), (32, 0), (32, 32))):
        for view in range(6):
            mean = x_d[view, :, rows : rows + 32, columns : columns + 32].mean(dim=(1, 2))
            torch.testing.assert_close(p[6 * patch + view], mean / mean.norm())


def test_the_patches_of_a_resnet_are_the_quarters_of_its_last_map() -> None:
    """Their mean is the encoder's average pooling; one is that of a quarter of the map."""
    encoder = load_encoder("random", "resnet18").eval().double()
    network = contrique_syn.Projections(encoder)
    x = images(2, side=128)
    maps: list[Tensor] = []
    encoder.network.layer4.register_forward_hook(lambda layer, inputs, output: maps.append(output))
    with torch.no_grad():
        patches = network.patches(x)
        torch.testing.assert_close(patches.mean(dim=0), encoder(x))
    assert patches.shape == (4, 2, 512) and maps[0].shape[2:] == (4, 4)
    stages = contrique_syn.Projections(load_encoder("random", "resnet18-stages"))
    assert stages.patches(x.float()).shape == (4, 2, 960)  # of the quarters one by one
    torch.testing.assert_close(patches[1], maps[0][:, :, :2, 2:].mean(dim=(2, 3)))


def test_color_spaces_are_those_of_scikit_image() -> None:
    x = images(2)
    x[0, :, :4] = x[0, :1, :4]  # gray
    x[0, :, 5] = 0
    of_images = x.movedim(1, 3).numpy()
    lab = skimage.color.rgb2lab(of_images) * (2.55, 1, 1) + (0, 128, 128)
    np.testing.assert_allclose(contrique_syn.lab(x).movedim(1, 3), lab / 255, atol=2e-4)
    np.testing.assert_allclose(contrique_syn.hsv(x).movedim(1, 3), skimage.color.rgb2hsv(of_images), atol=1e-9)
    gray = (of_images @ (0.2989, 0.587, 0.114))[..., None].repeat(3, axis=3)
    np.testing.assert_allclose(contrique_syn.gray(x).movedim(1, 3), gray, atol=1e-9)


def test_the_local_mean_is_that_of_a_gaussian_window() -> None:
    x = images(1, side=20)
    window = np.exp(-(np.arange(-3, 4) ** 2) / (2 * (7 / 6) ** 2))
    window /= window.sum()
    for channel, ours in zip(x[0].numpy(), contrique_syn.less_local_mean(x)[0].numpy(), strict=True):
        mean = correlate1d(correlate1d(channel, window, 0, mode="mirror"), window, 1, mode="mirror")
        less = channel - mean
        np.testing.assert_allclose(ours, (less - less.min()) / (np.ptp(less) + 1e-3), rtol=1e-9)


def test_each_image_has_a_color_space_of_its_own_by_the_seed() -> None:
    x = images(60, side=16)
    torch.manual_seed(0)
    converted = contrique_syn.in_any_color_space(x)
    torch.manual_seed(0)
    assert torch.equal(contrique_syn.in_any_color_space(x), converted)
    spaces = [convert(x) for convert in contrique_syn.COLOR_SPACES]
    matching = [[torch.allclose(space[i], converted[i]) for space in spaces].index(True) for i in range(60)]
    assert {*matching} == {0, 1, 2, 3, 4}


def test_pristine_images_are_a_class_and_a_sixth_of_all() -> None:
    classes = contrique_syn.with_pristine(KADIS)
    assert len(classes) == 126 and classes[:125] == KADIS
    x = images(1)[0]
    assert torch.equal(distort_as(x, classes[125], torch.Generator(), stretch=False), x)
    drawn = draw_classes(6000, 0, np.array([distortion.weight for distortion in classes]), np.random.default_rng(0))
    assert abs((drawn == 125).sum() - 1000) < 120  # 1000 +- 29
