"""Labeled sets beside the paper's two: TID2013, LIVE, CSIQ, LIVE In the Wild and SPAQ (`sets.load_labeled`)."""

from pathlib import Path

from ssl_iqa.data.images import in_any_case
from ssl_iqa.data.labeled import (
    LEVELS,
    LabeledSet,
    Table,
    find_file,
    find_folder,
    labeled_set,
    not_empty,
    paths_in_any_case,
    read_mat,
    read_sheet,
    types_and_levels,
)

# TID2013's 24 types in the order of their numbers (its readme, Table I), by Appendix A's names where they are among its
# 25, otherwise by their own.
TID2013_TYPES = (
    *("white_noise", "white_noise_color_component", "spatially_correlated_noise", "masked_noise"),
    *("high_frequency_noise", "impulse_noise", "quantization_noise", "gaussian_blur", "denoise", "jpeg", "jpeg2000"),
    *("jpeg_transmission_errors", "jpeg2000_transmission_errors", "non_eccentricity_patch"),
    *("local_block_wise_distortions", "mean_shift", "contrast_change", "change_of_color_saturation"),
    *("multiplicative_noise", "comfort_noise", "lossy_compression_of_noisy_images", "color_quantization"),
    *("chromatic_aberrations", "sparse_sampling_and_reconstruction"),
)

# LIVE's folders in the order of its arrays, each with the type in it and its number of images (its readme).
LIVE_FOLDERS = {
    "jp2k": ("jpeg2000", 227),
    "jpeg": ("jpeg", 233),
    "wn": ("white_noise", 174),
    "gblur": ("gaussian_blur", 174),
    "fastfading": ("fast_fading", 174),
}

# CSIQ's types as its sheet calls them, each with the type's name here and in the names of its files.
CSIQ_TYPES = {
    "noise": ("white_noise", "AWGN"),
    "blur": ("gaussian_blur", "BLUR"),
    "contrast": ("contrast", "contrast"),
    "fnoise": ("fnoise", "fnoise"),
    "jpeg": ("jpeg", "JPEG"),
    "jpeg 2000": ("jpeg2000", "jpeg2000"),
}
CLIVE_PRACTICE = 7  # its first images, on which observers were trained: its papers leave them out (1162 of 1169)


def load_tid2013(spec: str, folder: Path) -> LabeledSet:
    path = find_file(folder, "mos_with_names.txt", "TID2013")
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        cells = line.split()
        if cells and len(cells) != 2:
            raise ValueError(f"{path}, line {number}: must be a score and an image, got {line.strip()!r}")
        if cells:
            rows.append((f"line {number}", {"MOS": cells[0], "image": cells[1]}))
    table = not_empty(path, rows)
    pattern = r"[iI]\d\d_(?P<type>\d\d)_(?P<level>[1-5])\.(bmp|BMP)"
    types = types_and_levels(table, "image", pattern, TID2013_TYPES)
    names = table.column("image")
    paths = paths_in_any_case([find_folder(folder, "distorted_images", "TID2013")], names)
    return labeled_set(spec, table, "MOS", (0, 9), paths, [f"I{name[1:3]}" for name in names], **types)


def load_live(spec: str, folder: Path) -> LabeledSet:
    path = find_file(folder, "dmos_realigned.mat", "LIVE")
    dmos, is_reference = read_mat(path, "dmos_new"), read_mat(path, "orgs")
    references = read_mat(find_file(folder, "refnames_all.mat", "LIVE"), "refnames_all")
    images = []
    for kind, (distortion, number) in LIVE_FOLDERS.items():
        names = [f"img{i}.bmp" for i in range(1, number + 1)]
        images += [(path, distortion) for path in paths_in_any_case([in_any_case(folder, kind)], names)]
    counts = len(dmos), len(is_reference), len(references)
    if {*counts} != {len(images)}:
        raise ValueError(f"{path}: dmos_new, orgs and refnames_all must have {len(images)} entries each, got {counts}")
    kept = [i for i in range(len(images)) if not is_reference[i]]
    return labeled_set(
        spec,
        Table(path, [(f"entry {i + 1}", {"dmos_new": str(dmos[i])}) for i in kept]),
        "dmos_new",
        (112, -3),
        [images[i][0] for i in kept],
        [str(references[i]) for i in kept],
        distortions=[images[i][1] for i in kept],
    )


def load_csiq(spec: str, folder: Path) -> LabeledSet:
    table = read_sheet(
        find_file(folder, "csiq.DMOS.xlsx", "CSIQ"), "all_by_image", ("image", "dst_type", "dst_lev", "dmos")
    )
    names, types, levels = [], [], []
    for place, row in table.rows:
        kind, level = row["dst_type"], row["dst_lev"]
        if kind not in CSIQ_TYPES or level not in tuple("12345"):
            distortions = f"{', '.join(CSIQ_TYPES)} at 1 to {LEVELS}"
            raise ValueError(f"{table.path}, {place}: distortion must be {distortions}, got {kind!r} at {level!r}")
        types.append(CSIQ_TYPES[kind][0])
        levels.append(int(level))
        names.append(f"{row['image']}.{CSIQ_TYPES[kind][1]}.{level}.png")
    images = find_folder(folder, "dst_imgs", "CSIQ")
    paths = paths_in_any_case([images, *images.iterdir()], names)
    references = [f"{name}.png" for name in table.column("image")]
    return labeled_set(spec, table, "dmos", (1, 0), paths, references, distortions=types, levels=levels)


def load_clive(spec: str, folder: Path) -> LabeledSet:
    data = in_any_case(folder, "Data")
    path = find_file(data, "AllMOS_release.mat", "LIVE In the Wild")
    mos = read_mat(path, "AllMOS_release")
    names = read_mat(find_file(data, "AllImages_release.mat", "LIVE In the Wild"), "AllImages_release")
    if len(mos) != len(names) or len(mos) <= CLIVE_PRACTICE:
        scores = f"a score of each image, the first {CLIVE_PRACTICE} for practice"
        raise ValueError(f"{path}: must have {scores}, got {len(mos)} of {len(names)}")
    rows = [(f"entry {i + 1}", {"MOS": str(mos[i])}) for i in range(CLIVE_PRACTICE, len(mos))]
    names = [str(name) for name in names[CLIVE_PRACTICE:]]
    paths = paths_in_any_case([find_folder(folder, "Images", "LIVE In the Wild")], names)
    return labeled_set(spec, Table(path, rows), "MOS", (0, 100), paths, names)


def load_spaq(spec: str, folder: Path) -> LabeledSet:
    name = "MOS and Image attribute scores.xlsx"
    annotations = in_any_case(folder, "Annotations")
    is_beside = in_any_case(folder, name).is_file() and not in_any_case(annotations, name).is_file()
    table = read_sheet(find_file(folder if is_beside else annotations, name, "SPAQ"), None, ("Image name", "MOS"))
    names = table.column("Image name")
    paths = paths_in_any_case([find_folder(folder, "TestImage", "SPAQ")], names)
    return labeled_set(spec, table, "MOS", (0, 100), paths, names)
