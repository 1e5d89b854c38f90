"""A labeled set's images whole and in order: to extract features, to predict, to draw."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from torch import Tensor
from torch.utils.data import Dataset

from ssl_iqa.data.datasets import labeled_image
from ssl_iqa.data.images import UnreadableImage
from ssl_iqa.data.labeled import LabeledSet
from ssl_iqa.engine import console
from ssl_iqa.engine.workers import make_loader


class LabeledImages(Dataset):
    """Images of a labeled set, each with its index in the set: (index, bytes [3, H, W] or None where unreadable)."""

    def __init__(self, labeled: LabeledSet, indices: Sequence[int]) -> None:
        self.labeled, self.indices = labeled, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, place: int) -> tuple[int, Tensor | None]:
        index = self.indices[place]
        try:
            return index, labeled_image(self.labeled, index)
        except (UnreadableImage, OSError):
            return index, None


def make_all(labeled: LabeledSet, indices: Sequence[int], workers: int) -> None:
    """Distorts the demo's labeled photographs once, for the set to keep; nothing for sets of files."""
    if labeled.classes is not None:
        batches = image_batches(replace(labeled, size=None), indices, workers)  # as all copies can use them
        for batch in console.bar(batches, "distorting the demo's labeled photographs"):
            # clones: a tensor that a worker sends keeps a file open
            labeled.kept.update((index, image.clone()) for index, image in batch)


def image_batches(
    labeled: LabeledSet, indices: Sequence[int], workers: int
) -> Iterable[list[tuple[int, Tensor | None]]]:
    """Images of a labeled set in order, in batches of (index, bytes [3, H, W] or None where unreadable)."""
    return make_loader(LabeledImages(labeled, indices), 0 if labeled.kept else workers, list, batch_size=25)
