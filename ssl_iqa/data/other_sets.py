"""Labeled sets beside the paper's two: TID2013, LIVE, CSIQ, LIVE In the Wild and SPAQ (`sets.load_labeled`)."""

from pathlib import Path

from ssl_iqa.data.images import in_any_case
from ssl_iqa.data.labeled import LabeledSet, Table, find, labeled_set, paths_in, read_mat, read_xlsx, types_and_levels

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
    path = find(folder, "mos_with_names.txt")
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        cells = line.split()
        if cells and len(cells) != 2:
            raise ValueError(f"{path}, line {number}: must be a score and an image, got {line.strip()!r}")
        if cells:
            rows.append((f"line {number}", {"MOS": cells[0], "image": cells[1]}))
    table = Table(path, rows)
    types, names = types_and_levels(table, "image", "bmp", TID2013_TYPES), table.column("image")
    paths = paths_in(find(folder, "distorted_images"), names)
    return labeled_set(spec, table, "MOS", (0, 9), paths, [f"I{name[1:3]}" for name in names], **types)


def load_live(spec: str, folder: Path) -> LabeledSet:
    path = find(folder, "dmos_realigned.mat")
    dmos, is_reference = read_mat(path, "dmos_new"), read_mat(path, "orgs")
    references = read_mat(find(folder, "refnames_all.mat"), "refnames_all")
    paths, distortions = [], []
    for kind, (distortion, number) in LIVE_FOLDERS.items():
        paths += paths_in(in_any_case(folder, kind), [f"img{i}.bmp" for i in range(1, number + 1)])
        distortions += [distortion] * number
    counts = len(dmos), len(is_reference), len(references)
    if {*counts} != {len(paths)}:
        raise ValueError(f"{path}: dmos_new, orgs and refnames_all must have {len(paths)} entries each, got {counts}")
    kept = [i for i in range(len(paths)) if float(is_reference[i]) == 0]
    table = Table(path, [(f"entry {i + 1}", {"dmos_new": dmos[i]}) for i in kept])
    paths, references, distortions = ([values[i] for i in kept] for values in (paths, references, distortions))
    return labeled_set(spec, table, "dmos_new", (112, -3), paths, references, distortions=distortions)


def load_csiq(spec: str, folder: Path) -> LabeledSet:
    table = read_xlsx(find(folder, "csiq.DMOS.xlsx"), "all_by_image", ("image", "dst_type", "dst_lev", "dmos"))
    names, types, levels = [], [], []
    for place, row in table.rows:
        kind, level = row["dst_type"], row["dst_lev"]
        if kind not in CSIQ_TYPES or level not in tuple("12345"):
            wanted = f"{', '.join(CSIQ_TYPES)} at 1 to 5"
            raise ValueError(f"{table.path}, {place}: distortion must be {wanted}, got {kind!r} at {level!r}")
        types.append(CSIQ_TYPES[kind][0])
        levels.append(int(level))
        names.append(f"{row['image']}.{CSIQ_TYPES[kind][1]}.{level}.png")
    paths = paths_in(find(folder, "dst_imgs"), names)
    references = [f"{name}.png" for name in table.column("image")]
    return labeled_set(spec, table, "dmos", (1, 0), paths, references, distortions=types, levels=levels)


def load_clive(spec: str, folder: Path) -> LabeledSet:
    path = find(folder, "Data/AllMOS_release.mat")
    mos = read_mat(path, "AllMOS_release")
    names = read_mat(find(folder, "Data/AllImages_release.mat"), "AllImages_release")
    if len(mos) != len(names):
        raise ValueError(f"{path}: must have a score of each image, got {len(mos)} of {len(names)}")
    rows = [(f"entry {i}", {"MOS": score}) for i, score in enumerate(mos, 1)]
    table, names = Table(path, rows[CLIVE_PRACTICE:]), names[CLIVE_PRACTICE:]
    return labeled_set(spec, table, "MOS", (0, 100), paths_in(find(folder, "Images"), names), names)


def load_spaq(spec: str, folder: Path) -> LabeledSet:
    name = "MOS and Image attribute scores.xlsx"
    table = read_xlsx(find(folder, f"Annotations/{name}", name), None, ("Image name", "MOS"))
    names = table.column("Image name")
    return labeled_set(spec, table, "MOS", (0, 100), paths_in(find(folder, "TestImage"), names), names)
