"""The softmax regression against scikit-learn's."""

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from ssl_iqa.scoring import naming


def test_softmax_regression_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(5, 8)) * 0.7
    classes = rng.integers(5, size=300)
    z = (centers[classes] + rng.normal(size=(300, 8))) * rng.uniform(0.1, 30, size=8) + rng.normal(size=8)
    found = naming.fit_softmax(torch.from_numpy(z), torch.from_numpy(classes))
    logits = torch.from_numpy(z).float() @ found["weight"].T + found["bias"]
    # mean cross-entropy + decay / 2 |w|^2 is, times C N, scikit-learn's sum of cross-entropies times C and |w|^2 / 2
    other = LogisticRegression(C=1 / (naming.DECAY * len(z)), tol=1e-8, max_iter=10_000)
    x = StandardScaler().fit_transform(z) * np.sqrt((len(z) - 1) / len(z))  # by the standard deviation of N - 1
    wanted = other.fit(x, classes).predict_proba(x)
    np.testing.assert_allclose(logits.softmax(dim=1).numpy(), wanted, atol=2e-3)
    assert wanted.max(axis=1).mean() < 0.95  # nothing is so clear that decay would not matter
