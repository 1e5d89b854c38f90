"""Small folders in the published layout of every labeled set, shared by several modules' tests.

Each function takes a folder and scores on the set's own scale by image, and returns the spec. Images are all
different, of 64 x 48 pixels.
"""

from itertools import count
from pathlib import Path

import numpy as np
import openpyxl
from scipy.io import savemat

from tests.conftest import photograph, write

Scores = dict[str, float]
LIVE_COUNTS = {"jp2k": 227, "jpeg": 233, "wn": 174, "gblur": 174, "fastfading": 174}  # of its readme
CSIQ_FILES = {"noise": "AWGN", "blur": "BLUR", "contrast": "contrast", "fnoise": "fnoise", "jpeg": "JPEG"}
CSIQ_FILES |= {"jpeg 2000": "jpeg2000"}
CSIQ_FOLDERS = {kind: name.lower() for kind, name in CSIQ_FILES.items()}  # awgn, blur, contrast, fnoise, ..
SEEDS = count(1000)


def draw(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    photograph(next(SEEDS)).save(path)


def kadid10k(folder: Path, scores: Scores) -> str:
    rows = [f"{name},{name[:3]}.png,{score},0.5" for name, score in scores.items()]
    write(folder / "dmos.csv", "\n".join(["dist_img,ref_img,dmos,var", *rows]))
    for name in scores:
        draw(folder / "images" / name)
    return f"kadid10k:{folder}"


def koniq10k(folder: Path, scores: Scores) -> str:
    rows = [f"{name},0,0,0,1,0,9,3.5,0.5,{score}" for name, score in scores.items()]
    header = "image_name,c1,c2,c3,c4,c5,c_total,MOS,SD,MOS_zscore"
    write(folder / "koniq10k_scores_and_distributions.csv", "\n".join([header, *rows]))
    for name in scores:
        draw(folder / "512x384" / name)
    return f"koniq10k:{folder}"


def koniq_sets(folder: Path, rows: dict[str, tuple[float, str]]) -> None:
    """KonIQ-10k's official split: score from 0 to 100 and set by image."""
    header = "image_name,c1,c2,c3,c4,c5,c_total,MOS,SD,set"
    lines = [f"{name},0.0,0.0,0.2,0.7,0.1,105,{score},0.5,{part}" for name, (score, part) in rows.items()]
    write(folder / "koniq10k_distributions_sets.csv", "\n".join([header, *lines]))


def tid2013(folder: Path, scores: Scores) -> str:
    """The list has `i01_01_1.bmp`, the disk `I01_01_1.BMP`, as the published one does here and there."""
    write(folder / "mos_with_names.txt", "".join(f"{score:.5f} {name}\r\n" for name, score in scores.items()))
    for name in scores:
        draw(folder / "distorted_images" / name.upper())
    return f"tid2013:{folder}"


def live(folder: Path, scores: Scores, references: dict[str, str]) -> str:
    """All 982 entries; those without a score are marked as copies of the reference and have no file."""
    names = [f"{kind}/img{i}.bmp" for kind, number in LIVE_COUNTS.items() for i in range(1, number + 1)]
    dmos = np.array([[scores.get(name, 0.0) for name in names]])  # [1, 982], as all of these
    orgs = np.array([[name not in scores for name in names]], dtype=np.uint8)
    cells = np.empty((1, len(names)), dtype=object)
    cells[0, :] = [references.get(name, "none.bmp") for name in names]
    folder.mkdir(parents=True, exist_ok=True)
    savemat(folder / "dmos_realigned.mat", {"dmos_new": dmos, "orgs": orgs, "dmos_std": np.ones_like(dmos)})
    savemat(folder / "refnames_all.mat", {"refnames_all": cells})
    for name in scores:
        draw(folder / name)
    return f"live:{folder}"


def csiq(folder: Path, rows: list[tuple[str | int, str, int, float]]) -> str:
    """Image, type, level and DMOS; the sheet's table begins at D4, and empty rows follow it."""
    book = openpyxl.Workbook()
    book.active.title = "README"
    sheet = book.create_sheet("all_by_image")
    table = [("image", "dst_idx", "dst_type", "dst_lev", "dmos_std", "dmos")]
    table += [(image, 1, kind, level, 0.05, dmos) for image, kind, level, dmos in rows]
    for i, cells in enumerate(table):
        for j, cell in enumerate(cells):
            sheet.cell(4 + i, 4 + j, cell)
    sheet.cell(6 + len(table), 20, "a note")
    folder.mkdir(parents=True, exist_ok=True)
    book.save(folder / "csiq.DMOS.xlsx")
    for image, kind, level, _ in rows:
        draw(folder / "dst_imgs" / CSIQ_FOLDERS[kind] / f"{image}.{CSIQ_FILES[kind]}.{level}.png")
    return f"csiq:{folder}"


def clive(folder: Path, scores: Scores) -> str:
    """The seven images for practice come first, and lie in a folder of their own."""
    names = [*(f"t{i}.bmp" for i in range(1, 8)), *scores]
    cells = np.empty((len(names), 1), dtype=object)
    cells[:, 0] = names
    (folder / "Data").mkdir(parents=True, exist_ok=True)
    savemat(folder / "Data" / "AllImages_release.mat", {"AllImages_release": cells})  # [1169, 1]
    savemat(folder / "Data" / "AllMOS_release.mat", {"AllMOS_release": np.array([[50.0] * 7 + [*scores.values()]])})
    for i in range(1, 8):
        draw(folder / "Images" / "trainingImages" / f"t{i}.bmp")
    for name in scores:
        draw(folder / "Images" / name)
    return f"clive:{folder}"


def spaq(folder: Path, scores: Scores) -> str:
    book = openpyxl.Workbook()
    book.active.append(["Image name", "MOS", "Brightness", "Colorfulness", "Contrast", "Noisiness", "Sharpness"])
    for name, score in scores.items():
        book.active.append([name, score, 50, 50, 50, 50, 50])
    (folder / "Annotations").mkdir(parents=True, exist_ok=True)
    book.save(folder / "Annotations" / "MOS and Image attribute scores.xlsx")
    for name in scores:
        draw(folder / "TestImage" / name)
    return f"spaq:{folder}"


def own(folder: Path, scores: Scores) -> str:
    write(folder / "scores.csv", "\n".join(["image,score", *(f"{name},{score}" for name, score in scores.items())]))
    for name in scores:
        draw(folder / name)
    return f"csv:{folder / 'scores.csv'}"
