"""Semi-supervised representation learning for blind image quality assessment, in pure PyTorch."""
