"""Section 4.2's schedule: a run's progress, its plateaus and early stopping, and its learning rate."""

import math
from dataclasses import dataclass, field


@dataclass
class Progress:
    """A run's progress: whole epochs, and the counts of plateaus and early stopping (Section 4.2).

    Within an epoch `step` counts its steps; `sums` and `counts` give their means at its end.
    """

    epochs: int = 0
    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    best_loss: float = math.inf
    since_best: int = 0
    plateaus: int = 0

    def add(self, values: dict[str, float]) -> None:
        """Counts a step. Values that are not finite, as the norm of a gradient beyond fp16, are left out."""
        self.step += 1
        for name, value in values.items():
            if math.isfinite(value):
                self.sums[name] = self.sums.get(name, 0.0) + value
                self.counts[name] = self.counts.get(name, 0) + 1

    def means(self) -> dict[str, float]:
        return {name: total / self.counts[name] for name, total in self.sums.items()}

    def update(self, val_loss: float, patience: int) -> bool:
        """Counts an epoch by its validation loss; True if that is the best so far."""
        self.epochs += 1
        self.step, self.sums, self.counts = 0, {}, {}
        if val_loss < self.best_loss:
            self.best_loss, self.since_best = val_loss, 0
            return True
        self.since_best += 1
        self.plateaus += self.since_best % patience == 0
        return False

    def __str__(self) -> str:
        return f"epoch {self.epochs + 1}, step {self.step}" if self.step else f"epoch {self.epochs}"


def lr_factor(step: int, total_steps: int, plateaus: int, warmup: int, schedule: str) -> float:
    """The learning-rate multiplier at a step: a pure function of the run's progress."""
    warm = min(1.0, (step + 1) / warmup) if warmup else 1.0
    if schedule == "linear":
        return warm * (1 - step / total_steps)
    return warm * 0.1**plateaus  # Section 4.2: "a decay factor of 10^-1 whenever learning stagnates"
