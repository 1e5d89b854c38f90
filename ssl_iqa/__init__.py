"""Semi-supervised representation learning for blind image quality assessment, in pure PyTorch.

    model = ssl_iqa.load("runs/finetune/model.pt")
    model.score("photo.jpg")        1 (worst) to 10 (best)
    print(model.card())             what that means

More: README.md, "Scoring pictures".
"""

__version__ = "0.1.0"

from ssl_iqa.quality import QualityModel, load

__all__ = ["QualityModel", "load"]
