"""torch.hub: `torch.hub.load("OWNER/ssl_iqa", "quality_model").score("photo.jpg")`."""

dependencies = ["torch", "torchvision", "numpy", "scipy", "PIL", "tqdm"]

from ssl_iqa import load as quality_model  # noqa: E402, F401  (torch.hub reads `dependencies` first)
