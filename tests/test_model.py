"""The three networks: their layers and shapes, and the sources that an encoder is loaded from."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision
from scipy.fft import dctn
from torch import nn

from ssl_iqa.archs import ARCHS
from ssl_iqa.engine import run_folder
from ssl_iqa.engine.weights import encoder_from_state, encoder_state, load_encoder
from ssl_iqa.model import Encoder, ProjectionHead, Regressor

IMAGES = torch.rand(2, 3, 40, 50, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder("random", "resnet18", seed=1)


@pytest.fixture(scope="module")
def plain() -> nn.Module:
    """A torchvision ResNet-18 with its classifier, its BatchNorm statistics away from the start."""
    network = torchvision.models.resnet18()
    network(IMAGES)
    return network.eval()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Torch's folder of downloads, empty, and no network."""

    def no_network(*args: Any, **kwargs: Any) -> None:
        raise URLError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    return tmp_path / "hub" / "checkpoints"


def save(content: Any, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return path


def assert_same(a: nn.Module, b: nn.Module) -> None:
    for (name, x), (_, y) in zip(a.state_dict().items(), b.state_dict().items(), strict=True):
        assert torch.equal(x, y), name


def assert_one_line(error: pytest.ExceptionInfo[Exception]) -> None:
    assert "\n" not in str(error.value)


# The networks


@pytest.mark.parametrize(("arch", "dim"), [("resnet18", 512), ("resnet34", 512), ("resnet50", 2048)])
def test_encoder_gives_the_average_pooling_of_its_arch(arch: str, dim: int) -> None:
    encoder = Encoder(arch).eval()
    layers = nn.Sequential(*list(encoder.network.children())[:-1])  # all but fc, pooling is the last
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normalized = ((IMAGES.movedim(1, 3) - mean) / std).movedim(3, 1)
    with torch.no_grad():
        z = encoder(IMAGES)
        expected = layers(normalized)[:, :, 0, 0]
    assert (encoder.arch, encoder.dim, z.shape) == (arch, dim, (2, dim))
    torch.testing.assert_close(z, expected)


def test_stages_are_the_means_of_a_resnets_maps(plain: nn.Module, tmp_path: Path) -> None:
    encoder = load_encoder(save(plain.state_dict(), tmp_path / "plain.pth"), "resnet18-stages").eval()
    x, means = (IMAGES - encoder.mean) / encoder.std, []
    with torch.no_grad():
        for name, layer in list(plain.named_children())[:8]:
            x = layer(x)
            if name.startswith("layer"):
                means.append(x.flatten(2).mean(dim=2))
        torch.testing.assert_close(encoder(IMAGES), torch.cat(means, dim=1))
    assert encoder.dim == 64 + 128 + 256 + 512
    with torch.device("meta"):
        assert Encoder("resnet50-stages").dim == 256 + 512 + 1024 + 2048


def test_moments_are_the_standard_deviations_and_means_of_a_resnets_maps(plain: nn.Module, tmp_path: Path) -> None:
    encoder = load_encoder(save(plain.state_dict(), tmp_path / "plain.pth"), "resnet18-moments").eval()
    x, means, deviations = (IMAGES - encoder.mean) / encoder.std, [], []
    with torch.no_grad():
        for name, layer in list(plain.named_children())[:8]:
            x = layer(x)
            if name.startswith("layer"):
                maps = x.double().numpy().reshape(*x.shape[:2], -1)
                means.append(maps.mean(axis=2))
                deviations.append(np.sqrt(maps.var(axis=2) + 1e-6))
        expected = torch.from_numpy(np.concatenate([*deviations, *means], axis=1)).float()
        torch.testing.assert_close(encoder(IMAGES), expected, rtol=1e-4, atol=1e-5)
    flat = torch.zeros(1, 3, 32, 32, requires_grad=True)  # whose maps in a single place do not vary
    encoder(flat).sum().backward()
    assert flat.grad.isfinite().all()
    with torch.device("meta"):
        assert Encoder("resnet50-moments").dim == 2 * Encoder("resnet50-stages").dim


def test_a_resnets_file_gives_other_features_of_the_same_weights(tmp_path: Path) -> None:
    encoder = load_encoder("random", "resnet18")
    encoder.seen = [{"data": "own"}]
    path = save(encoder_state(encoder), tmp_path / "encoder.pt")
    for arch in ("resnet18-stages", "resnet18-moments"):
        found = load_encoder(path, arch)
        assert found.arch == arch and found.seen == encoder.seen
        assert torch.equal(found.network.conv1.weight, encoder.network.conv1.weight)
        back = load_encoder(save(encoder_state(found), tmp_path / "other.pt"), "resnet18")
        torch.testing.assert_close(back.eval()(IMAGES), encoder.eval()(IMAGES))
    with pytest.raises(ValueError, match="arch must be resnet34-stages, got resnet18"):
        load_encoder(path, "resnet34-stages")


def test_encoder_agrees_with_torchvision_at_its_own_preprocessing(plain: nn.Module, tmp_path: Path) -> None:
    encoder = load_encoder(save(plain.state_dict(), tmp_path / "plain.pth"), "resnet18").eval()
    preset = torchvision.models.ResNet18_Weights.IMAGENET1K_V1.transforms()
    normalized = torchvision.transforms.functional.normalize(IMAGES, preset.mean, preset.std)
    with torch.no_grad():
        torch.testing.assert_close(plain.fc(encoder(IMAGES)), plain(normalized))


def test_encoder_has_no_classifier_and_keeps_its_normalization_out_of_the_weights(encoder: Encoder) -> None:
    names = set(encoder.state_dict())
    assert not [name for name in names if "fc" in name or name in ("mean", "std")]
    assert encoder.half().mean.dtype == torch.float16  # but it moves with the module
    encoder.float()


@pytest.mark.parametrize("images", [IMAGES[0, :, :3], IMAGES[:, :1], (255 * IMAGES).byte()])
def test_images_of_another_kind_are_refused(encoder: Encoder, images: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"images must be floating point \[B, 3, H, W\], got .*\]"):
        encoder(images)


def test_unknown_arch_is_refused() -> None:
    with pytest.raises(
        ValueError, match="arch must be one of dct-mlp, resnet18, resnet34, .*, inception_resnet_v2, got 'vgg19'"
    ):
        Encoder("vgg19")


def test_another_arch_is_one_line_in_the_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    block = torchvision.models.resnet.BasicBlock
    monkeypatch.setitem(ARCHS, "tiny", lambda: torchvision.models.ResNet(block, [1, 1, 1, 1]))
    encoder = load_encoder("random", "tiny")
    again = load_encoder(save(encoder_state(encoder), tmp_path / "encoder.pt"))
    assert again.arch == "tiny" and again.dim == 512
    assert_same(again, encoder)
    with pytest.raises(ValueError, match="no ImageNet weights for arch 'tiny'"):
        load_encoder("imagenet", "tiny")


def test_projector_is_2048_2048_relu_128() -> None:
    projector = ProjectionHead(2048)
    z = torch.randn(3, 2048, generator=torch.Generator().manual_seed(0))
    (w1, b1, w2, b2) = projector.parameters()
    assert (w1.shape, w2.shape) == ((2048, 2048), (128, 2048))
    torch.testing.assert_close(projector(z), (z @ w1.T + b1).clamp(min=0) @ w2.T + b2)
    assert not list(projector.buffers())  # no BatchNorm
    assert ProjectionHead(8, out_dim=4)(torch.zeros(3, 8)).shape == (3, 4)


def test_regressor_is_2048_512_relu_1() -> None:
    regressor = Regressor(2048)
    z = torch.randn(3, 2048, generator=torch.Generator().manual_seed(0))
    (w1, b1, w2, b2) = regressor.parameters()
    assert (w1.shape, w2.shape) == ((512, 2048), (1, 512))
    y_hat = regressor(z)
    assert y_hat.shape == (3,)
    torch.testing.assert_close(y_hat, ((z @ w1.T + b1).clamp(min=0) @ w2.T + b2)[:, 0])
    assert not list(regressor.buffers())
    assert Regressor(8, hidden_dim=4)(torch.zeros(1, 8)).shape == (1,)  # a batch of one stays a batch


@pytest.mark.parametrize(("settings", "level"), [({}, 5.5), ({"mean_score": 3.25}, 3.25)])
def test_regressor_starts_at_the_mean_score(settings: dict[str, float], level: float) -> None:
    assert Regressor(16, **settings)[-1].bias.item() == level


# Where an encoder comes from


def test_random_encoder_is_that_of_its_seed_and_leaves_the_random_state() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again, other = (load_encoder("random", "resnet18", seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert_same(first, again)
    assert not torch.equal(first.network.conv1.weight, other.network.conv1.weight)


@pytest.mark.parametrize("holder", [lambda state: state, lambda state: {"epoch": 3, "encoder": state}])
@pytest.mark.parametrize("arch", ["resnet18", None])
def test_encoder_survives_a_file(
    encoder: Encoder, arch: str | None, holder: Callable[[dict], dict], tmp_path: Path
) -> None:
    path = save(holder(encoder_state(encoder)), tmp_path / "encoder.pt")
    for spec in (path, str(path)):
        assert_same(load_encoder(spec, arch), encoder)


def test_state_is_tensors_and_plain_values(encoder: Encoder) -> None:
    state = encoder_state(encoder)
    assert (state["format"], state["version"], state["arch"]) == ("ssl_iqa.encoder", 1, "resnet18")
    assert_same(encoder_from_state(state, "memory"), encoder)


def test_plain_torchvision_file_needs_the_arch(plain: nn.Module, tmp_path: Path) -> None:
    path = save(plain.state_dict(), tmp_path / "plain.pth")
    with pytest.raises(ValueError, match=r"plain.pth: arch is required") as error:
        load_encoder(path)
    assert_one_line(error)


def test_plain_file_without_classifier_and_batch_counts_is_read(plain: nn.Module, tmp_path: Path) -> None:
    # The files of torchvision before 0.3 have no num_batches_tracked.
    old = plain.state_dict()
    for name in list(old):
        if "num_batches_tracked" in name or name.startswith("fc."):
            del old[name]
    encoder = load_encoder(save(old, tmp_path / "old.pth"), "resnet18")
    assert torch.equal(encoder.network.bn1.running_mean, plain.bn1.running_mean)
    assert torch.equal(encoder.network.layer4[1].conv2.weight, plain.layer4[1].conv2.weight)


class Projector(nn.Module):
    """An encoder with its projection head, as contrastive projects write it."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = nn.Sequential(nn.Linear(512, 512, bias=False), nn.BatchNorm1d(512), nn.Linear(512, 128))


def prefixed(state: dict, prefix: str) -> dict:
    return {prefix + name: tensor for name, tensor in state.items()}


def contrique(network: nn.Module) -> dict:
    """As CONTRIQUE's files: a Sequential of the children up to layer4, in a DataParallel."""
    return nn.DataParallel(Projector(nn.Sequential(*list(network.children())[:-2]))).state_dict()


FORMS: dict[str, Callable[[nn.Module], Any]] = {
    "state_dict": lambda n: {"state_dict": n.state_dict(), "epoch": 3, "arch": "resnet18"},
    "model": lambda n: {"model": n.state_dict()},
    "net": lambda n: {"net": n.state_dict(), "optimizer": {"state": {}}},
    "encoder": lambda n: {"encoder": n.state_dict()},
    "nested": lambda n: {"model": {"state_dict": prefixed(n.state_dict(), "backbone.")}},
    "module.": lambda n: nn.DataParallel(n).state_dict(),
    "_orig_mod.": lambda n: prefixed(n.state_dict(), "_orig_mod."),  # torch.compile's
    "module._orig_mod.": lambda n: prefixed(n.state_dict(), "module._orig_mod."),
    "encoder.": lambda n: Projector(n).state_dict(),
    "backbone.": lambda n: prefixed(n.state_dict(), "backbone."),
    "module.encoder.": lambda n: {"state_dict": nn.DataParallel(Projector(n)).state_dict()},
    "encoder.4": contrique,
    "model.4": lambda n: prefixed(nn.Sequential(*list(n.children())[:-1]).state_dict(), "model."),  # ARNIQA's
    "9": lambda n: nn.Sequential(*n.children()).state_dict(),  # the classifier, too
}


@pytest.mark.parametrize("form", FORMS)
def test_encoder_of_other_projects_gives_torchvisions_features(form: str, plain: nn.Module, tmp_path: Path) -> None:
    encoder = load_encoder(save(FORMS[form](plain), tmp_path / "other.pth"), "resnet18").eval()
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    images = torchvision.transforms.functional.normalize(IMAGES, mean.tolist(), std.tolist())
    with torch.no_grad():
        torch.testing.assert_close(plain.fc(encoder(IMAGES)), plain(images))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s | {"temperature": torch.ones(1)}, "must be conv1.weight, .* and so on, got .temperature.$"),
        (lambda s: s | prefixed(s, "module.encoder_q."), r"got .module.encoder_q.conv1.weight., "),
        (lambda s: s | prefixed(s, "backbone."), "conv1.weight must be given once, got .backbone.conv1.weight."),
        (lambda s: s | {"layer5.0.conv1.weight": torch.ones(1)}, "got .layer5.0.conv1.weight."),
        (lambda s: s | {"layer4.9.conv1.weight": torch.ones(1)}, "do not fit: .*Unexpected.*layer4.9.conv1.weight"),
        (lambda s: {name: w for name, w in s.items() if name != "bn1.weight"}, 'do not fit: .*Missing.*"bn1.weight"'),
        (lambda s: s | {"10.weight": torch.ones(1)}, "got .10.weight."),
        (
            lambda s: {name: w for name, w in s.items() if name.startswith("fc.")},
            "got .fc.weight., .fc.bias.",
        ),
        (lambda s: s | {7: torch.ones(1)}, "got 7"),
        (lambda s: s | {"conv1.weight": "text"}, "do not fit: .*conv1.weight.*expected torch.Tensor"),
    ],
)
def test_encoder_of_other_projects_is_never_read_in_part(
    change: Callable[[dict], dict], message: str, plain: nn.Module, tmp_path: Path
) -> None:
    path = save({"state_dict": change(dict(plain.state_dict()))}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=f"^{path}.*: .*{message}") as error:
        load_encoder(path, "resnet18")
    assert_one_line(error)


@pytest.fixture
def vgg(monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """A torchvision VGG-16 with its classifier. All VGGs keep their layers' first weights, which is quicker."""
    monkeypatch.setattr(nn.init, "normal_", lambda weights, *_: weights)
    return torchvision.models.vgg16().eval()


def test_vgg16_is_torchvisions_up_to_its_last_layer(
    vgg: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = {"state_dict": prefixed(vgg.state_dict(), "module.")}
    monkeypatch.setattr(run_folder, "load", lambda path: content)  # half a gigabyte is not written
    path = save({}, tmp_path / "vgg.pth")
    encoder = load_encoder(path, "vgg16")
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    images = torchvision.transforms.functional.normalize(IMAGES, mean.tolist(), std.tolist())
    with torch.no_grad():
        z = encoder(IMAGES)  # in training mode: without dropout
        torch.testing.assert_close(vgg.classifier[6](z), vgg(images))
    assert encoder.dim == z.shape[1] == 4096
    content["state_dict"]["module.conv1.weight"] = torch.ones(1)
    with pytest.raises(ValueError, match="a VGG-16's names must be features.0.weight .*, got 'module.conv1.weight'$"):
        load_encoder(path, "vgg16")


def test_a_file_that_holds_itself_ends(tmp_path: Path) -> None:
    content: dict = {}
    content["model"] = content
    with pytest.raises(ValueError, match="not an encoder of ssl_iqa"):
        load_encoder(save(content, tmp_path / "self.pt"), "resnet18")


def test_an_encoder_file_may_hold_more(encoder: Encoder, tmp_path: Path) -> None:
    path = save(encoder_state(encoder) | {"distortions": ["a"]}, tmp_path / "encoder.pt")
    assert_same(load_encoder(path), encoder)
    model = save({"format": "ssl_iqa.model", "encoder": encoder_state(encoder), "model": {}}, tmp_path / "model.pt")
    assert_same(load_encoder(model), encoder)


@pytest.mark.parametrize("arch", ["resnet18", "resnet18-stages"])
def test_imagenet_weights_are_found_in_torch_home(plain: nn.Module, hub: Path, arch: str) -> None:
    save(plain.state_dict(), hub / "resnet18-f37072fd.pth")
    encoder = load_encoder("imagenet", arch)
    assert torch.equal(encoder.network.layer4[1].conv2.weight, plain.layer4[1].conv2.weight)
    assert torch.equal(encoder.network.bn1.running_var, plain.bn1.running_var)


@pytest.mark.parametrize(
    ("arch", "name"),
    [("resnet18", "resnet18-f37072fd"), ("resnet34", "resnet34-b627a593"), ("resnet50", "resnet50-0676ba61")],
)
def test_imagenet_weights_are_torchvisions_v1_with_their_hash_checked(
    arch: str, name: str, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(url: str, destination: str, hash_prefix: str | None, progress: bool) -> None:
        assert url == f"https://download.pytorch.org/models/{name}.pth"
        assert name.endswith(f"-{hash_prefix}") and len(hash_prefix) == 8
        torch.save(ARCHS[arch]().state_dict(), destination)

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    assert load_encoder("imagenet", arch).arch == arch
    assert [path.name for path in hub.iterdir()] == [f"{name}.pth"]


@pytest.mark.parametrize("failure", [URLError("no route to host"), RuntimeError("invalid hash value")])
def test_imagenet_weights_that_cannot_be_fetched(
    failure: Exception, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise failure

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    with pytest.raises(ValueError, match="could not be read") as error:
        load_encoder("imagenet", "resnet18")
    message = str(error.value)
    for part in (str(failure), "'random' or a file", f"/resnet18-f37072fd.pth into {hub}"):
        assert part in message
    assert_one_line(error)


@pytest.mark.parametrize("spec", ["imagenet", "random"])
def test_arch_is_needed_where_no_file_names_it(spec: str) -> None:
    with pytest.raises(ValueError, match=f"arch must be one of .* with '{spec}', got None"):
        load_encoder(spec)


@pytest.mark.parametrize("spec", ["imagenet", "random"])
def test_arch_must_be_known(spec: str) -> None:
    with pytest.raises(ValueError, match="'vgg19'"):
        load_encoder(spec, "vgg19")


@pytest.mark.parametrize("name", ["imagnet", ""])  # not there; a folder
def test_missing_file_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=f"{tmp_path / name}: no such file .*'imagenet', 'random' or a file"):
        load_encoder(tmp_path / name, "resnet18")


@pytest.mark.parametrize("part", [0, 3, 1000, -50])
def test_damaged_file_is_named(encoder: Encoder, part: int, tmp_path: Path) -> None:
    path = save(encoder_state(encoder), tmp_path / "encoder.pt")
    path.write_bytes(path.read_bytes()[:part])
    with pytest.raises(ValueError, match="encoder.pt: damaged, or no checkpoint") as error:
        load_encoder(path)
    assert_one_line(error)


def test_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    path = save({"encoder": Path("x")}, tmp_path / "pickle.pt")
    with pytest.raises(ValueError, match="pickle.pt: damaged, or no checkpoint") as error:
        load_encoder(path)
    assert_one_line(error)


def test_checkpoint_of_another_arch_is_named(encoder: Encoder, plain: nn.Module, tmp_path: Path) -> None:
    ours = save(encoder_state(encoder), tmp_path / "ours.pt")
    with pytest.raises(ValueError, match=r"ours.pt: arch must be resnet34, got resnet18") as error:
        load_encoder(ours, "resnet34")
    assert_one_line(error)
    torchvisions = save(plain.state_dict(), tmp_path / "plain.pth")
    with pytest.raises(ValueError, match=r"plain.pth as resnet50: the weights do not fit: .*Missing.* \.\.$") as error:
        load_encoder(torchvisions, "resnet50")
    assert_one_line(error)


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, {"encoder": 5}, torch.zeros(3), {"format": "other"}])
def test_file_of_something_else_is_named(content: Any, tmp_path: Path) -> None:
    path = save(content, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="other.pt: not an encoder of ssl_iqa") as error:
        load_encoder(path, "resnet18")
    assert_one_line(error)


def without(state: dict, name: str) -> dict:
    return state | {"weights": {k: v for k, v in state["weights"].items() if k != name}}


def replaced(state: dict, name: Any, value: Any) -> dict:
    return state | {"weights": state["weights"] | {name: value}}


CONV1 = "network.conv1.weight"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda s: s | {"version": 2}, "version must be 1, got 2"),
        (lambda s: s | {"arch": "vgg19"}, "arch must be one of .*, got 'vgg19'"),
        (lambda s: s | {"arch": ["resnet18"]}, r"arch must be one of .*, got \['resnet18'\]"),
        (lambda s: s | {"weights": None}, "do not fit: 'NoneType'"),
        (lambda s: without(s, CONV1), f'do not fit: .*Missing.*"{CONV1}"'),
        (lambda s: replaced(s, CONV1, torch.zeros(2, 2)), f"do not fit: .*size mismatch for {CONV1}: .*.2, 2."),
        (lambda s: replaced(s, CONV1, "x"), f"do not fit: .*{CONV1}.*expected torch.Tensor"),
        (lambda s: replaced(s, "more", torch.zeros(1)), "do not fit: .*Unexpected.*more"),
        (lambda s: replaced(s, 7, torch.zeros(1)), "do not fit: 'int'"),
    ],
)
def test_state_that_does_not_fit_is_named(encoder: Encoder, damage: Callable[[dict], dict], message: str) -> None:
    with pytest.raises(ValueError, match=f"^a/file.pt.*: .*{message}") as error:
        encoder_from_state(damage(encoder_state(encoder)), "a/file.pt")
    assert_one_line(error)


def test_wrong_state_builds_nothing(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssl_iqa.engine.weights.Encoder", None)  # would raise a TypeError
    with pytest.raises(ValueError, match="version"):
        encoder_from_state(encoder_state(encoder) | {"version": 2}, "file")


def test_the_demo_encoders_statistics_are_those_of_scipys_dct() -> None:
    network = load_encoder("random", "dct-mlp").network.double()
    images = torch.rand(2, 3, 32, 41, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    images[1] = images[1].mean(dim=0)  # gray: no color in it
    found = network.statistics(images).numpy()

    jfif = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
    for image, statistics in zip(images.numpy(), found, strict=True):
        half = image[:, :, :40].reshape(3, 16, 2, 20, 2).mean(axis=(2, 4))
        expected = [*(jfif @ image.reshape(3, -1)).mean(axis=1), *(jfif @ image.reshape(3, -1)).std(axis=1)]
        for size in (image, half):
            ycbcr = np.tensordot(jfif, size, 1)
            places = [(i, j) for i in range(0, ycbcr.shape[1] - 7, 8) for j in range(0, ycbcr.shape[2] - 7, 8)]
            patches = np.stack([ycbcr[:, i : i + 8, j : j + 8] for i, j in places])  # [places, 3, 8, 8]
            strength = np.abs(dctn(patches, axes=(2, 3), norm="ortho")).reshape(len(places), 3, 64)[:, :, 1:]
            expected += np.log(strength.mean(axis=0) + 1 / 1024).ravel().tolist()
            expected += np.log(strength + 1 / 512).mean(axis=0).ravel().tolist()
        np.testing.assert_allclose(statistics, expected, rtol=0, atol=1e-4)  # the filters are float32's
    assert found.shape == (2, 762)


def test_the_demo_encoder_is_a_residual_network_of_its_statistics() -> None:
    encoder = load_encoder("random", "dct-mlp", seed=0)
    assert encoder.dim == 256
    with torch.no_grad():
        encoder(torch.rand(4, 3, 32, 32))  # BatchNorm's statistics away from the start
        network = encoder.eval().network
        x = network.norm(network.statistics(IMAGES))
        h = network.layer1[1](x @ network.layer1[0].weight.T).clamp(min=0)
        inner = network.layer2[1](h @ network.layer2[0].weight.T).clamp(min=0)
        z = (h + network.layer2[4](inner @ network.layer2[3].weight.T)).clamp(min=0)
        torch.testing.assert_close(encoder(IMAGES), z)
    learned = {name for name, _ in encoder.named_parameters()}
    assert all(name.startswith(("network.norm", "network.layer")) for name in learned)


def test_the_demo_encoder_takes_images_as_they_are() -> None:
    encoder = load_encoder("random", "dct-mlp", seed=0).eval()
    with torch.no_grad():
        torch.testing.assert_close(encoder(IMAGES), encoder.network(IMAGES))
