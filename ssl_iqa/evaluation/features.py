"""Features of a labeled set's images by an encoder, where they are kept, and the scores predicted from them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path

import torch
from torch import Tensor

from ssl_iqa.data import views
from ssl_iqa.data.datasets import name_skipped
from ssl_iqa.data.in_order import image_batches
from ssl_iqa.engine import console, distributed, run_folder
from ssl_iqa.engine.device import autocast
from ssl_iqa.evaluation.task import Task
from ssl_iqa.model import Encoder, Regressor


@dataclass
class Features:
    """z of the test crops of all of a set's images by a frozen encoder, [M, crops, d]; which could be read, [M]."""

    z: Tensor
    readable: Tensor


@torch.no_grad()
def encode(encoder: Encoder, batches: Iterable, crop: Callable[[Tensor], Tensor], amp: str) -> tuple[list[int], Tensor]:
    """z of the test crops of every image that can be read: (their indices [M], z [M, crops, d])."""
    device = next(encoder.parameters()).device
    encoder.eval()
    indices, z = [], []
    for batch in batches:
        readable = [(index, views.to_float(crop(image))) for index, image in batch if image is not None]
        for _, group in groupby(readable, key=lambda item: item[1].shape):  # whole images may differ in size
            group_indices, crops = zip(*group, strict=True)
            x = torch.stack(crops).to(device)  # [m, crops, 3, h, w]
            with autocast(device, amp):
                z.append(encoder(x.flatten(0, 1)).float().unflatten(0, x.shape[:2]))  # [m, crops, d]
            indices += group_indices
    return indices, torch.cat(z) if z else torch.empty(0)


def encode_part(encoder: Encoder, task: Task, part: list[int]) -> tuple[list[int], Tensor]:
    """`encode` for a part of the set: each process encodes its share and receives those of the others."""
    process, processes = distributed.rank(), distributed.size()
    batches = image_batches(task.labeled, part[process::processes], task.workers)
    crop = partial(views.test_crops, mode=task.settings.crops, size=task.settings.crop)
    indices, z = encode(encoder, console.bar(batches, "features"), crop, task.settings.amp)
    shares = distributed.every((indices, z.cpu()))
    indices = sum((share[0] for share in shares), [])
    name_skipped((task.labeled.paths[i] for i in {*part} - {*indices}), task.skipped)
    return indices, torch.cat([share[1].to(task.device) for share in shares if share[0]])


def frozen_features(encoder: Encoder, task: Task, folder: Path) -> Features:
    """z of all images, which LP is trained and tested on: the frozen encoder sees each image once, not in each epoch.

    They are kept in the folder, for other splits and modes, under a name that says what they were made of.
    """

    def make() -> dict[str, Tensor]:
        images = len(task.labeled.paths)
        indices, z = encode_part(encoder, task, list(range(images)))
        all_z, readable = z.new_zeros(images, *z.shape[1:]), torch.zeros(images, dtype=torch.bool)
        all_z[indices], readable[indices] = z, True
        return {"z": all_z, "readable": readable}

    features = kept(folder / f"{task.digest(encoder)}.pt", make)
    return Features(**{name: value.to(task.device) for name, value in features.items()})


def kept(path: Path, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """What an earlier cell has kept in a file, else what `make` returns, which is kept there for later ones."""
    if distributed.every(path.is_file())[0]:
        return run_folder.load(path)
    tensors = make()
    if distributed.is_main():
        path.parent.mkdir(exist_ok=True)
        run_folder.save(tensors, path)
    return tensors


@torch.no_grad()
def predict(regressor: Regressor, z: Tensor) -> Tensor:
    """y_hat of each image, the mean over its crops: z [M, crops, d] -> [M] on the CPU."""
    regressor.eval()
    return regressor(z.flatten(0, 1)).view(z.shape[:2]).mean(dim=1).cpu()
