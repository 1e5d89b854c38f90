import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent

setup(
    name="ssl_iqa",
    version=re.search(r'^__version__ = "(.+?)"', (ROOT / "ssl_iqa" / "__init__.py").read_text("utf-8"), re.M)[1],
    description="Semi-supervised representation learning for blind image quality assessment, in pure PyTorch",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11",
    packages=find_packages(include=["ssl_iqa", "ssl_iqa.*"]),
    package_data={"": ["demo_photos/*", "model.pt", "figures.mplstyle", "page.html", "paper.csv"]},
    install_requires=[
        "torch>=2.4",
        "torchvision>=0.19",
        "numpy>=1.24",
        "scipy>=1.10",
        "pillow>=10.1",
        "tqdm>=4.60",
    ],
    entry_points={"console_scripts": ["ssl-iqa = ssl_iqa.__main__:main"]},
    extras_require={
        "imgaug": ["imaug>=0.4.3"],
        "sets": ["openpyxl>=3.1"],
        "heif": ["pillow-heif>=0.22"],
        "shards": ["braceexpand>=0.1.7"],
        "figures": ["matplotlib>=3.7", "scikit-learn>=1.2"],
        "koncept": ["timm>=1.0"],
        "baselines": ["scikit-learn>=1.2", "PyWavelets>=1.4", "piq>=0.8"],
        "export": ["onnx>=1.17", "onnxscript>=0.5", "onnxruntime>=1.20", "safetensors>=0.4.3"],
        "test": [
            *(
                "pytest>=7",
                "pytest-xdist>=3.3",
                "hypothesis>=6.80",
                "scikit-image>=0.21",
                "pytorch-metric-learning>=2.3",
                "timm>=1.0",
            ),
            *("imagehash>=4.3", "imaug>=0.4.3", "openpyxl>=3.1", "pillow-heif>=0.22", "braceexpand>=0.1.7"),
            *("matplotlib>=3.7", "piq>=0.8", "PyWavelets>=1.4", "scikit-learn>=1.2", "selenium>=4.20", "ruff>=0.6"),
            *("onnx>=1.17", "onnxscript>=0.5", "onnxruntime>=1.20", "safetensors>=0.4.3", "pyrtools>=1.1"),
        ],
    },
)
