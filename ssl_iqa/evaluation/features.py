"""Features of a labeled set's images by an encoder, and where they are kept; a `task` is finetune.py's."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssl_iqa.data import views
from ssl_iqa.data.datasets import image_batches, name_skipped
from ssl_iqa.data.seen import contents
from ssl_iqa.engine import console, distributed, run_folder
from ssl_iqa.engine.device import autocast
from ssl_iqa.model import Encoder


@dataclass
class Features:
    """z of the test crops of all of a set's pictures by a frozen encoder, [M, crops, d]; which could be read, [M]."""

    z: Tensor
    readable: Tensor


@torch.no_grad()
def encode(encoder: Encoder, batches: Iterable, crop: Callable[[Tensor], Tensor], amp: str) -> tuple[list[int], Tensor]:
    """z of the test crops of every picture that can be read: (their indices [M], z [M, crops, d])."""
    device = next(encoder.parameters()).device
    encoder.eval()
    indices, z = [], []
    for batch in batches:
        readable = [(index, crop(picture / 255)) for index, picture in batch if picture is not None]
        for _, group in groupby(readable, key=lambda item: item[1].shape):  # whole pictures may differ in size
            group_indices, crops = zip(*group, strict=True)
            x = torch.stack(crops).to(device)  # [m, crops, 3, h, w]
            with autocast(device, amp):
                z.append(encoder(x.flatten(0, 1)).float().unflatten(0, x.shape[:2]))  # [m, crops, d]
            indices += group_indices
    return indices, torch.cat(z) if z else torch.empty(0)


def encode_part(encoder: Encoder, task: Any, part: list[int]) -> tuple[list[int], Tensor]:
    """`encode` for some pictures of the set: each process encodes its share, and all have all."""
    process, processes = distributed.rank(), distributed.size()
    batches = image_batches(task.labeled, part[process::processes], task.workers)
    crop = partial(views.test_crops, mode=task.settings.crops, size=task.settings.crop)
    indices, z = encode(encoder, console.bar(batches, "features"), crop, task.settings.amp)
    shares = distributed.every((indices, z.cpu()))
    indices = sum((share[0] for share in shares), [])
    name_skipped((task.labeled.paths[i] for i in {*part} - {*indices}), task.skipped)
    return indices, torch.cat([share[1].to(task.device) for share in shares if share[0]])


def frozen_features(encoder: Encoder, task: Any, folder: Path | None) -> Features:
    """What LP trains and is tested on: the encoder passes each picture once, and not in every epoch.

    With a folder they are kept there, for other splits and modes, under a name that says what they were made of.
    """
    path = folder / f"{digest(encoder, task)}.pt" if folder else None
    if path and distributed.every(path.is_file())[0]:
        return Features(**{name: value.to(task.device) for name, value in run_folder.load(path).items()})
    pictures = len(task.labeled.paths)
    indices, z = encode_part(encoder, task, list(range(pictures)))
    features = Features(z.new_zeros(pictures, *z.shape[1:]), torch.zeros(pictures, dtype=torch.bool, device=z.device))
    features.z[indices], features.readable[indices] = z, True
    if path and distributed.is_main():
        path.parent.mkdir(exist_ok=True)
        run_folder.save(vars(features), path)
    return features


def digest(encoder: Encoder, task: Any) -> str:
    """Names features by all that they depend on: the encoder's weights, the images, and how these are cropped."""
    settings, labeled = task.settings, task.labeled
    cropped: tuple = (encoder.arch, settings.crop, settings.crops, settings.amp, labeled.classes)
    if labeled.long_side != run_folder.saved_long_side({"data": labeled.name}):  # else as before there was --long-side
        cropped += (labeled.long_side,)
    known = hashlib.sha256(repr(cropped).encode())
    known.update(repr(contents(labeled)).encode())  # wherever they lie
    for tensor in encoder.state_dict().values():
        known.update(tensor.cpu().contiguous().numpy().tobytes())
    return known.hexdigest()[:32]
