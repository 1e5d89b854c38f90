"""The synthetic image distortions of Section 3.1 and Appendix A: 25 types with 5 levels each, 125 classes.

Types, order and levels are those of KADIS-700k and KADID-10k (Lin, Hosu and Saupe, QoMEX 2019). Four classes leave the
image as it was, but for the stretch, and `unchanged` finds them: gaussian_blur at level 1, motion_blur at level 1,
color_saturation_2 at level 1 and mean_shift at level 3. The levels of mean_shift and contrast_change do not grow in
severity from 1 to 5.

    from ssl_iqa.distortions import distort, distort_batch
    worse = distort(image, "motion_blur", level=4)             # one type and level, an image or a batch
    mixed = distort_batch(images, classes, seed)               # a class for each image, on any device

Needs torch, numpy, scipy and Pillow, and nothing else of this package.
"""

from .apply import distort, distort_as, distort_batch, on_cpu_only
from .chosen import load_distortions, unchanged
from .table import DISTORTIONS, KADIS, NAMES, NUM_CLASSES, NUM_LEVELS, DistortionClass, distortion_class

__all__ = [
    "DISTORTIONS",
    "KADIS",
    "NAMES",
    "NUM_CLASSES",
    "NUM_LEVELS",
    "DistortionClass",
    "distort",
    "distort_as",
    "distort_batch",
    "distortion_class",
    "load_distortions",
    "on_cpu_only",
    "unchanged",
]
