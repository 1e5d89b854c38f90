"""Semi-supervised representation learning for blind image quality assessment, in pure PyTorch.

    model = ssl_iqa.load()          the model in the package; load("runs/finetune/model.pt"): another
    model.score("photo.jpg")        1 (worst) to 10 (best)
    print(model.card())             what that means

More: docs/scoring.md.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssl_iqa.scoring.quality import QualityModel, load

__all__ = ["QualityModel", "__version__", "load"]
__version__ = "0.1.0"  # setup.py reads this line


def __getattr__(name: str) -> Any:
    """`load` and `QualityModel`, imported when they are asked for: a part of the package alone needs less."""
    if name not in ("QualityModel", "load"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ssl_iqa.scoring import quality

    return getattr(quality, name)
