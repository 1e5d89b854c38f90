"""The finetunings that methods of Table 3 have of their own, on finetune.py's splits, batches and test crops."""

import copy
import math
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Adam

from ssl_iqa import baselines
from ssl_iqa.baselines.finetuning import Finetuning, Fit
from ssl_iqa.data.datasets import LabeledCrops, collate_crops, first_readable, name_skipped
from ssl_iqa.data.samplers import Draw
from ssl_iqa.data.views import to_float
from ssl_iqa.engine import console, distributed
from ssl_iqa.engine.device import autocast
from ssl_iqa.engine.workers import make_loader
from ssl_iqa.evaluation.features import encode_part, predict
from ssl_iqa.evaluation.metrics import srocc
from ssl_iqa.evaluation.task import Best, Task, read_epoch, restore, save_epoch


class Views(LabeledCrops):
    """`LabeledCrops` with a method's view, and an image's index in the set in place of its score."""

    def __init__(self, task: Task, method: Finetuning) -> None:
        super().__init__(task.labeled, task.parts["train"], task.settings.crop)
        self.view = method.view

    def __getitem__(self, draw: Draw) -> tuple[Tensor, int, list[str]]:
        place, x, skipped = first_readable(self.read, self.paths, draw.index)
        view = to_float(self.view(x, self.size, torch.Generator().manual_seed(draw.seed)))
        return view, self.indices[place], skipped


class First(nn.Module):
    """y_hat among a network's outputs, [N, 1 + ..] to [N]."""

    def forward(self, outputs: Tensor) -> Tensor:
        return outputs[:, 0]


def fit(network: nn.Module, stage: Fit, method: Finetuning, best: Best, task: Task) -> None:
    """One fit, or what is left of it where the task was saved amid it. Leaves the network as it was in the epoch with
    the least validation loss, the mean of (y_hat - y)^2; `best` takes an epoch whose SROCC is better than all before.
    """
    settings, scores = task.settings, torch.tensor(task.labeled.scores, dtype=torch.float32)
    targets = method.targets(task.labeled, network.encoder)
    sampler = task.sampler(len(task.parts["train"]))
    places = {"persistent_workers": task.workers > 0, "pin_memory": task.device.type == "cuda"}
    batches = make_loader(Views(task, method), task.workers, collate_crops, batch_sampler=sampler, **places)
    optimizer, trained = Adam(network.parameters(), lr=stage.rate), distributed.parallel(network, task.device)
    first, least, weights = 0, math.inf, network.state_dict()
    if task.saved.get("phase") == stage.name:
        first, least, weights = (task.saved[name] for name in ("epochs", "least", "weights"))
        optimizer.load_state_dict(task.saved["optimizer"])
    for epoch in console.bar(range(first, stage.epochs), f"epochs at {stage.name}", stage.epochs, first):
        sampler.epoch = epoch
        torch.manual_seed(settings.seed + epoch)  # of dropout, so that a resumed run draws it again
        network.train()
        for x, indices, unreadable in batches:
            name_skipped(unreadable, task.skipped)
            with autocast(task.device, settings.amp):
                outputs = trained(x.to(task.device))
            optimizer.zero_grad()
            stage.loss(outputs.float(), targets[indices.long()].to(task.device)).backward()
            optimizer.step()
        val, z = encode_part(network, task, task.parts["val"])
        y_hat = predict(First(), z)
        parts, residuals = (network.encoder, network.score), (y_hat - scores[val]).abs().double()
        if y_hat.isfinite().all():
            best.offer(srocc(y_hat, scores[val]), f"{epoch + 1} at {stage.name}", parts, residuals)
        loss = residuals.square().mean().item()
        if loss < least:
            least, weights = loss, copy.deepcopy(network.state_dict())
        if task.is_save_due:
            save_epoch(stage.name, epoch + 1, (*parts, optimizer), best, task, least=least, weights=weights)
    network.load_state_dict(weights)


def start(method: Finetuning, task: Task) -> nn.Module:
    """A method's network before its first fit."""
    settings = task.settings
    mean_score = float(np.mean([task.labeled.scores[i] for i in task.parts["train"]]))
    torch.manual_seed(settings.seed)
    network = method.make_network(method.load(settings.encoder, settings.arch, settings.seed), mean_score)
    return distributed.synchronize(network.to(task.device, memory_format=torch.channels_last), task.device)


def tune(name: str, task: Task, last: Path) -> tuple[Best, nn.Module, list[int], np.ndarray]:
    """The best epoch by validation SROCC of all fits of a method of `baselines.FINETUNED`, its network, the test images
    that can be read, and their y_hat [M]. The task's set and settings are as the method takes them; `last` is the file
    in which epochs are saved.
    """
    method = baselines.finetuning_of(name)
    network, fits = start(method, task), method.fits(task.settings.epochs)
    with console.clear_errors():
        read_epoch(last, network.encoder, task)
    best = restore(network.encoder, network.score, task)
    names = [stage.name for stage in fits]
    left = fits[names.index(task.saved.get("phase", names[0])) :]
    for stage in left:
        if not stage.goes_on and stage is not left[0]:
            network = start(method, task)
        fit(network, stage, method, best, task)
    if not best.weights:
        sys.exit(f"error: the predictions of {name} are not finite, at any learning rate")
    network.encoder.load_state_dict(best.weights["encoder"]["weights"])
    network.score.load_state_dict(best.weights["regressor"])
    test, z = encode_part(network, task, task.parts["test"])
    return best, network, test, predict(First(), z).numpy()
