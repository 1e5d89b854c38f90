"""Labeled sets beside the paper's two: TID2013, LIVE, CSIQ, LIVE In the Wild and SPAQ (`sets.load_labeled`)."""

import re
from pathlib import Path

from ssl_iqa.data.images import in_any_case
from ssl_iqa.data.labeled import (
    LEVELS,
    LabeledSet,
    find_file,
    find_folder,
    mapped_scores,
    paths_in_any_case,
    picture_paths,
    read_mat,
    read_sheet,
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

# LIVE's folders in the order of its arrays, each with the type in it and its number of pictures (its readme).
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
CLIVE_PRACTICE = 7  # its first pictures, which observers were trained with: its papers leave them out (1162 of 1169)


def load_tid2013(spec: str, folder: Path) -> LabeledSet:
    table = find_file(folder, "mos_with_names.txt", "TID2013")
    rows, references, types, levels = [], [], [], []
    for line, text in enumerate(table.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        if not text.strip():
            continue
        match = re.fullmatch(r"\s*(\S+)\s+([iI](\d\d)_(\d\d)_([1-5])\.(?:bmp|BMP))\s*", text)
        if not match or not 1 <= int(match[4]) <= len(TID2013_TYPES):
            raise ValueError(
                f"{table}, line {line}: {text.strip()!r} is no row of TID2013; wanted are a score and a picture"
                f" iREFERENCE_TYPE_LEVEL.bmp with a type of 01 to {len(TID2013_TYPES)} and a level of 1 to {LEVELS}"
            )
        rows.append((f"line {line}", {"MOS": match[1], "picture": match[2]}))
        references.append(f"I{match[3]}")
        types.append(TID2013_TYPES[int(match[4]) - 1])
        levels.append(int(match[5]))
    if not rows:
        raise ValueError(f"{table}: no rows; wanted is one for each picture")
    images = find_folder(folder, "distorted_images", "TID2013")
    return LabeledSet(
        name=spec,
        paths=picture_paths(table, rows, paths_in_any_case([images], [row["picture"] for _, row in rows])),
        scores=mapped_scores(table, rows, "MOS", 0, 9),
        score_range=(0, 9),
        references=references,
        distortions=types,
        levels=levels,
    )


def load_live(spec: str, folder: Path) -> LabeledSet:
    table = find_file(folder, "dmos_realigned.mat", "LIVE")
    dmos, is_reference = read_mat(table, "dmos_new"), read_mat(table, "orgs")
    references = read_mat(find_file(folder, "refnames_all.mat", "LIVE"), "refnames_all")
    pictures = []
    for kind, (_, number) in LIVE_FOLDERS.items():
        names = [f"img{i}.bmp" for i in range(1, number + 1)]
        pictures += [(path, kind) for path in paths_in_any_case([in_any_case(folder, kind)], names)]
    if not len(dmos) == len(is_reference) == len(references) == len(pictures):
        counts = f"{len(dmos)} scores, {len(is_reference)} orgs and {len(references)} names of references"
        raise ValueError(f"{table}: {counts}; LIVE's release 2 has {len(pictures)} of each")
    kept = [i for i in range(len(pictures)) if not is_reference[i]]
    rows = [(f"entry {i + 1}", {"dmos_new": str(dmos[i])}) for i in kept]
    return LabeledSet(
        name=spec,
        paths=picture_paths(table, rows, [pictures[i][0] for i in kept]),
        scores=mapped_scores(table, rows, "dmos_new", 112, -3),
        score_range=(112, -3),
        references=[str(references[i]) for i in kept],
        distortions=[LIVE_FOLDERS[pictures[i][1]][0] for i in kept],
    )


def load_csiq(spec: str, folder: Path) -> LabeledSet:
    table = find_file(folder, "csiq.DMOS.xlsx", "CSIQ")
    rows = read_sheet(table, "all_by_image", ("image", "dst_type", "dst_lev", "dmos"))
    for place, row in rows:
        if row["dst_type"] not in CSIQ_TYPES or row["dst_lev"] not in tuple("12345"):
            raise ValueError(
                f"{table}, {place}: {row['dst_type']!r} at level {row['dst_lev']!r} is no distortion of CSIQ; wanted is"
                f" {', '.join(CSIQ_TYPES)} at 1 to {LEVELS}"
            )
    images = find_folder(folder, "dst_imgs", "CSIQ")
    names = [f"{row['image']}.{CSIQ_TYPES[row['dst_type']][1]}.{row['dst_lev']}.png" for _, row in rows]
    return LabeledSet(
        name=spec,
        paths=picture_paths(table, rows, paths_in_any_case([images, *images.iterdir()], names)),
        scores=mapped_scores(table, rows, "dmos", 1, 0),
        score_range=(1, 0),
        references=[f"{row['image']}.png" for _, row in rows],
        distortions=[CSIQ_TYPES[row["dst_type"]][0] for _, row in rows],
        levels=[int(row["dst_lev"]) for _, row in rows],
    )


def load_clive(spec: str, folder: Path) -> LabeledSet:
    table = find_file(in_any_case(folder, "Data"), "AllMOS_release.mat", "LIVE In the Wild")
    names_table = find_file(in_any_case(folder, "Data"), "AllImages_release.mat", "LIVE In the Wild")
    mos, names = read_mat(table, "AllMOS_release"), read_mat(names_table, "AllImages_release")
    if len(mos) != len(names) or len(mos) <= CLIVE_PRACTICE:
        wanted = f"as many of each are wanted, and more than the {CLIVE_PRACTICE} for practice"
        raise ValueError(f"{table}: {len(mos)} scores of {len(names)} pictures; {wanted}")
    rows = [(f"entry {i + 1}", {"MOS": str(mos[i])}) for i in range(CLIVE_PRACTICE, len(mos))]
    names = [str(name) for name in names[CLIVE_PRACTICE:]]
    images = find_folder(folder, "Images", "LIVE In the Wild")
    return LabeledSet(
        name=spec,
        paths=picture_paths(table, rows, paths_in_any_case([images], names)),
        scores=mapped_scores(table, rows, "MOS", 0, 100),
        score_range=(0, 100),
        references=names,
    )


def load_spaq(spec: str, folder: Path) -> LabeledSet:
    name = "MOS and Image attribute scores.xlsx"
    annotations = in_any_case(folder, "Annotations")
    is_beside = in_any_case(folder, name).is_file() and not in_any_case(annotations, name).is_file()
    table = find_file(folder if is_beside else annotations, name, "SPAQ")
    rows = read_sheet(table, None, ("Image name", "MOS"))
    images = find_folder(folder, "TestImage", "SPAQ")
    return LabeledSet(
        name=spec,
        paths=picture_paths(table, rows, paths_in_any_case([images], [row["Image name"] for _, row in rows])),
        scores=mapped_scores(table, rows, "MOS", 0, 100),
        score_range=(0, 100),
        references=[row["Image name"] for _, row in rows],
    )
