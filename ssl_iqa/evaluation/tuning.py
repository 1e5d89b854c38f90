"""MEON's second step, its own finetuning: by the splits, epochs, batches and test crops of finetune.py."""

import sys
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Adam

from ssl_iqa.baselines import meon
from ssl_iqa.data.datasets import LabeledCrops, collate_crops, first_readable, name_skipped
from ssl_iqa.data.samplers import Draw
from ssl_iqa.data.views import random_view, to_float
from ssl_iqa.engine import console, distributed
from ssl_iqa.engine.workers import make_loader
from ssl_iqa.evaluation.features import encode_part, predict
from ssl_iqa.evaluation.metrics import srocc
from ssl_iqa.evaluation.task import Best, Task


class IndexedCrops(LabeledCrops):
    """`LabeledCrops` with an image's index in the set in place of its score."""

    def __getitem__(self, draw: Draw) -> tuple[Tensor, int, list[str]]:
        place, x, skipped = first_readable(self.read, self.paths, draw.index)
        view = to_float(random_view(x, self.size, torch.Generator().manual_seed(draw.seed)))
        return view, self.indices[place], skipped


class First(nn.Module):
    """The score among `meon.Scoring`'s outputs, [N, 1 + C] to [N]."""

    def forward(self, outputs: Tensor) -> Tensor:
        return outputs[:, 0]


def fit(network: meon.Scoring, rate: float, weight: float, best: Best, task: Task) -> None:
    """Trains the network with a learning rate and lambda; `best` takes an epoch that is better than all before."""
    labeled, settings = task.labeled, task.settings
    scores = torch.tensor(labeled.scores, dtype=torch.float32)
    names = labeled.distortions or [""] * len(scores)
    types = torch.tensor(
        [network.encoder.types.index(n) if n in network.encoder.types else meon.UNKNOWN for n in names]
    )
    train = task.parts["train"]
    sampler = task.sampler(len(train))
    crops = IndexedCrops(labeled, train, settings.crop)
    batches = make_loader(crops, task.workers, collate_crops, batch_sampler=sampler)
    optimizer, trained = Adam(network.parameters(), lr=rate), distributed.parallel(network, task.device)
    for epoch in console.bar(range(settings.epochs), f"MEON at {rate:g}, lambda {weight:g}"):
        sampler.epoch = epoch
        network.train()
        for x, indices, unreadable in batches:
            name_skipped(unreadable, task.skipped)
            places = indices.long()
            y, targets = scores[places].to(task.device), types[places].to(task.device)
            optimizer.zero_grad()
            meon.joint_loss(trained(x.to(task.device)), targets, y, weight).backward()
            optimizer.step()
        val, z = encode_part(network, task, task.parts["val"])
        y_hat = predict(First(), z)
        if y_hat.isfinite().all():
            residuals = (y_hat - scores[val]).abs().double()
            name = f"{epoch + 1} at {rate:g}, lambda {weight:g}"
            best.offer(srocc(y_hat, scores[val]), name, (network.encoder, network.score), residuals)


def tune_meon(file: str, task: Task) -> tuple[Best, meon.Scoring, list[int], np.ndarray]:
    """The best epoch by validation SROCC of all rates and lambdas, its network, the test images that can be read, and
    their y_hat [M]. `file` is encoder.pt of the first step; the task's crops are of meon.CROP pixels.
    """
    mean_score, best = float(np.mean([task.labeled.scores[i] for i in task.parts["train"]])), Best()
    for rate, weight in product(meon.RATES, meon.LAMBDAS):
        torch.manual_seed(task.settings.seed)  # of sub-network II
        network = meon.Scoring(meon.read(Path(file)), mean_score).to(task.device)
        fit(network, rate, weight, best, task)
    if not best.weights:
        sys.exit("error: the predictions of meon are not finite, at any learning rate")
    network.encoder.load_state_dict(best.weights["encoder"]["weights"])
    network.score.load_state_dict(best.weights["regressor"])
    test, z = encode_part(network, task, task.parts["test"])
    return best, network, test, predict(First(), z).numpy()
