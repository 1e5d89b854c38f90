"""The labeled sets' files and their errors, the demo."""

import csv
import os
import shutil
import sys
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import openpyxl
import pytest
from PIL import Image
from scipy.io import savemat

from ssl_iqa.data.demo import DEMO_FOLDER, demo_sources
from ssl_iqa.data.images import read_image
from ssl_iqa.data.other_sets import TID2013_TYPES
from ssl_iqa.data.seen import divide
from ssl_iqa.data.sets import load_labeled
from ssl_iqa.data.splits import part_indices
from ssl_iqa.distortions import DISTORTIONS
from tests import layouts
from tests.conftest import error_of, image, write

# --- load_labeled: the spec ---


@pytest.mark.parametrize("spec", ["kadid", "", "kadid10k", "tid2008:x", "demo:", "demo:x", "Demo", "scores.csv"])
def test_unknown_spec_lists_all_forms(spec):
    message = error_of(ValueError, load_labeled, spec)
    folders = ("kadid10k", "koniq10k", "tid2013", "live", "csiq", "clive", "spaq")
    assert all(form in message for form in (repr(spec), "demo", *(f"{name}:DIR" for name in folders), "csv:FILE"))


@pytest.mark.parametrize(("spec", "form"), [("kadid10k:", ":DIR"), ("live:", ":DIR"), ("csv:", ":FILE")])
def test_spec_without_a_path_is_an_error(spec, form):
    assert form in error_of(ValueError, load_labeled, spec)


def test_home_folder_in_a_spec_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    own(tmp_path, "image,score\na.png,1\nb.png,2\n")
    assert load_labeled("csv:~/scores.csv").paths == [str(tmp_path / "a.png"), str(tmp_path / "b.png")]


# --- KADID-10k ---

KADID = (
    "dist_img,ref_img,dmos,var\nI01_01_01.png,I01.png,5,0.5\nI01_25_05.png,I01.png,1,0.1\nI81_10_03.png,I81.png,4,1\n"
)


def kadid(folder, text=KADID):
    write(folder / "dmos.csv", text)
    for name in ("I01_01_01", "I01_25_05", "I81_10_03"):
        image(folder / "images" / f"{name}.png")
    return f"kadid10k:{folder}"


def test_kadid_is_read_with_higher_better(tmp_path):
    spec = kadid(tmp_path)
    labeled = load_labeled(spec)
    assert labeled.name == spec
    assert labeled.paths == [
        str(tmp_path / "images" / name) for name in ("I01_01_01.png", "I01_25_05.png", "I81_10_03.png")
    ]
    assert labeled.scores == [10, 1, 7.75]  # 1 + 9 * (4 - 1) / 4
    assert labeled.score_range == (1, 5)
    assert labeled.references == ["I01.png", "I01.png", "I81.png"]
    assert labeled.distortions == ["gaussian_blur", "contrast_change", "jpeg"]
    assert labeled.levels == [1, 5, 3]
    assert labeled.classes is None


def test_labeled_set_is_frozen(tmp_path):
    labeled = load_labeled(kadid(tmp_path))
    with pytest.raises(FrozenInstanceError):
        labeled.name = "other"


def test_kadid_folder_that_is_missing_is_named(tmp_path):
    assert str(tmp_path / "none") in error_of(FileNotFoundError, load_labeled, f"kadid10k:{tmp_path / 'none'}")


def test_kadid_without_its_scores_names_dmos_csv(tmp_path):
    image(tmp_path / "images" / "I01_01_01.png")
    assert str(tmp_path / "dmos.csv") in error_of(FileNotFoundError, load_labeled, f"kadid10k:{tmp_path}")


def test_kadid_without_its_images_folder_names_it(tmp_path):
    write(tmp_path / "dmos.csv", KADID)
    message = error_of(FileNotFoundError, load_labeled, f"kadid10k:{tmp_path}")
    assert message.startswith(f"{tmp_path / 'images'}: no such folder")


def test_kadid_images_missing_are_counted_and_the_first_named(tmp_path):
    spec = kadid(tmp_path)
    (tmp_path / "images" / "I01_25_05.png").unlink()
    (tmp_path / "images" / "I81_10_03.png").unlink()
    message = error_of(FileNotFoundError, load_labeled, spec)
    assert str(tmp_path / "images" / "I01_25_05.png") in message and "line 3" in message and "2 of the 3" in message


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("I01_26_01.png,I01.png,3,0", "I01_26_01.png"),
        ("I01_00_01.png,I01.png,3,0", "I01_00_01.png"),
        ("I01_01_06.png,I01.png,3,0", "I01_01_06.png"),
        ("I01_01_00.png,I01.png,3,0", "I01_01_00.png"),
        ("photo.png,I01.png,3,0", "photo.png"),
        ("I01_01_01.bmp,I01.png,3,0", "I01_01_01.bmp"),
        ("I01_01_01.png,I01.png,5.01,0", "5.01"),
        ("I01_01_01.png,I01.png,0.99,0", "0.99"),
        ("I01_01_01.png,I01.png,,0", "''"),
        ("I01_01_01.png,I01.png", "must have 4 cells, got 2"),
    ],
)
def test_kadid_row_that_is_wrong_is_named(tmp_path, row, said):
    header, first = KADID.splitlines()[:2]
    message = error_of(ValueError, load_labeled, kadid(tmp_path, f"{header}\n{first}\n{row}\n"))
    assert f"{tmp_path / 'dmos.csv'}, line 3" in message and said in message


def test_kadid_with_another_header_is_refused(tmp_path):
    message = error_of(ValueError, load_labeled, kadid(tmp_path, "dist,ref,mos\nI01_01_01.png,I01.png,3\n"))
    assert "dmos.csv, line 1" in message and "dist_img" in message and "dist,ref,mos" in message


# --- KonIQ-10k ---

KONIQ = "image_name,c1,c2,c3,c4,c5,c_total,MOS,SD,MOS_zscore\n1.jpg,0,0,0,1,0,9,4,0,0\n2.jpg,0,0,0,1,0,9,3,0,77\n"


def koniq(folder, text=KONIQ, table="koniq10k_scores_and_distributions.csv", sizes=("512x384",)):
    write(folder / table, text)
    for size in sizes:
        image(folder / size / "1.jpg")
        image(folder / size / "2.jpg")
    return f"koniq10k:{folder}"


def test_koniq_takes_the_zscore_from_0_to_100(tmp_path):
    labeled = load_labeled(koniq(tmp_path))
    assert labeled.scores == pytest.approx([1, 7.93])  # 1 + 9 * 77 / 100
    assert labeled.score_range == (0, 100)
    assert labeled.references == ["1.jpg", "2.jpg"]
    assert labeled.distortions is None and labeled.levels is None and labeled.classes is None


@pytest.mark.parametrize(
    ("sizes", "taken"), [(["512x384", "1024x768"], "512x384"), (["1024x768"], "1024x768"), (["512x384"], "512x384")]
)
def test_koniq_prefers_the_small_images(tmp_path, sizes, taken):
    labeled = load_labeled(koniq(tmp_path, sizes=sizes))
    assert labeled.paths == [str(tmp_path / taken / name) for name in ("1.jpg", "2.jpg")]


def test_koniq_older_file_is_read_by_its_zscore(tmp_path):
    labeled = load_labeled(koniq(tmp_path, table="koniq10k_scores.csv"))
    assert labeled.scores == pytest.approx([1, 7.93]) and labeled.score_range == (0, 100)


def test_koniq_file_with_mos_only_is_read_from_1_to_5(tmp_path):
    labeled = load_labeled(koniq(tmp_path, "image_name,MOS\n1.jpg,1\n2.jpg,4\n", "koniq10k_scores.csv"))
    assert labeled.scores == [1, 7.75] and labeled.score_range == (1, 5)


def test_koniq_newer_file_wins_over_the_older(tmp_path):
    write(tmp_path / "koniq10k_scores.csv", "image_name,MOS\n1.jpg,1\n2.jpg,4\n")
    assert load_labeled(koniq(tmp_path)).score_range == (0, 100)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("image_name,MOS\n1.jpg,3\n2.jpg,77.4\n", "MOS must be 1 to 5, got 77.4"),  # on the other scale
        ("image_name,MOS_zscore\n1.jpg,3\n2.jpg,100.5\n", "MOS_zscore must be 0 to 100, got 100.5"),
        ("image_name,MOS_zscore\n1.jpg,3\n2.jpg,nan\n", "'nan'"),
    ],
)
def test_koniq_score_off_its_scale_is_named(tmp_path, text, said):
    message = error_of(ValueError, load_labeled, koniq(tmp_path, text))
    assert "koniq10k_scores_and_distributions.csv, line 3" in message and said in message


def test_koniq_without_its_parts_says_which(tmp_path):
    message = error_of(FileNotFoundError, load_labeled, f"koniq10k:{tmp_path}")
    assert "koniq10k_scores_and_distributions.csv" in message and "koniq10k_scores.csv" in message

    spec = koniq(tmp_path, sizes=())
    message = error_of(FileNotFoundError, load_labeled, spec)
    assert message == f"{tmp_path / '512x384'}: no such folder, nor 1024x768"

    koniq(tmp_path)
    (tmp_path / "512x384" / "2.jpg").unlink()
    message = error_of(FileNotFoundError, load_labeled, spec)
    assert "2.jpg" in message and "line 3" in message and "1 of the 2" in message

    write(tmp_path / "koniq10k_scores_and_distributions.csv", "image_name,score\n1.jpg,3\n")
    message = error_of(ValueError, load_labeled, spec)
    assert "line 1" in message and "MOS_zscore" in message and "image_name, score" in message


SETS_TEXT = {
    "1.jpg": (77.4, "training"),
    "2.jpg": (7.99, "validation"),
    "3.jpg": (50, "test"),
    "0.jpg": (1, "training"),
}


def test_koniq_official_split_is_read_beside_the_scores(tmp_path):
    spec = layouts.koniq10k(tmp_path, {"2.jpg": 8, "1.jpg": 77, "3.jpg": 50, "0.jpg": 0})
    assert load_labeled(spec).official_split is None
    layouts.koniq_sets(tmp_path, SETS_TEXT | {"4.jpg": (60, "test")})  # one more than there are scores
    labeled = load_labeled(spec)
    assert labeled.official_split == {"train": ["0.jpg", "1.jpg"], "val": ["2.jpg"], "test": ["3.jpg"]}
    assert labeled.scores == pytest.approx([1.72, 7.93, 5.5, 1]) and labeled.score_range == (0, 100)  # from the scores


def test_koniq_file_of_the_official_split_alone_has_the_scores_from_0_to_100(tmp_path):
    layouts.koniq10k(tmp_path, dict.fromkeys(SETS_TEXT, 50.0))
    (tmp_path / "koniq10k_scores_and_distributions.csv").unlink()
    layouts.koniq_sets(tmp_path, SETS_TEXT)
    labeled = load_labeled(f"koniq10k:{tmp_path}")
    assert labeled.scores == pytest.approx([7.966, 1.7191, 5.5, 1.09]) and labeled.score_range == (0, 100)
    assert labeled.references == ["1.jpg", "2.jpg", "3.jpg", "0.jpg"]
    assert labeled.official_split == {"train": ["0.jpg", "1.jpg"], "val": ["2.jpg"], "test": ["3.jpg"]}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"2.jpg": (8, "val")}, "got 2, 0, 1 of 4"),
        ({"2.jpg": (8, "test")}, "got 2, 0, 2 of 4"),
        ({"3.jpg": None, "4.jpg": (8, "test")}, "got 2, 1, 0 of 4"),
        ({"0.jpg": None}, "got 1, 1, 1 of 4"),
    ],
)
def test_koniq_official_split_that_is_wrong_is_named(tmp_path, changed, said):
    spec = layouts.koniq10k(tmp_path, dict.fromkeys(SETS_TEXT, 50.0))
    rows = {name: row for name, row in (SETS_TEXT | changed).items() if row}
    layouts.koniq_sets(tmp_path, rows)
    message = error_of(ValueError, load_labeled, spec)
    assert message.startswith(f"{tmp_path / 'koniq10k_distributions_sets.csv'}: set must be training, validation, test")
    assert message.endswith(said)


# --- TID2013 ---


def test_tid2013_is_read_whatever_the_case_of_its_names(tmp_path):
    names = ["i01_01_1.bmp", "I01_08_5.BMP", "i25_10_3.bmp", "I25_11_2.bmp", "i02_24_4.bmp", "i02_02_1.bmp"]
    spec = layouts.tid2013(tmp_path, dict(zip(names, [9, 0, 4.5, 5.51429, 1, 7], strict=True)))
    labeled = load_labeled(spec)
    assert labeled.paths == [str(tmp_path / "distorted_images" / name.upper()) for name in names]
    assert labeled.scores == pytest.approx([10, 1, 5.5, 6.51429, 2, 8]) and labeled.score_range == (0, 9)
    assert labeled.references == ["I01", "I01", "I25", "I25", "I02", "I02"]
    types = ["white_noise", "gaussian_blur", "jpeg", "jpeg2000"]
    assert labeled.distortions == [*types, "sparse_sampling_and_reconstruction", "white_noise_color_component"]
    assert labeled.levels == [1, 5, 3, 2, 4, 1] and labeled.classes is None and labeled.official_split is None


def test_tid2013_types_are_those_of_its_readme():
    """By Table I's numbers: Appendix A's name where it has the type, otherwise the readme's words."""
    names = {
        **{1: "white_noise", 2: "white_noise_color_component", 6: "impulse_noise", 8: "gaussian_blur", 9: "denoise"},
        **{10: "jpeg", 11: "jpeg2000", 14: "non_eccentricity_patch", 16: "mean_shift", 17: "contrast_change"},
        **{19: "multiplicative_noise", 22: "color_quantization"},
    }
    words = {
        **{3: "Spatially correlated noise", 4: "Masked noise", 5: "High frequency noise", 7: "Quantization noise"},
        **{12: "JPEG transmission errors", 13: "JPEG2000 transmission errors", 15: "Local block-wise distortions"},
        **{18: "Change of color saturation", 20: "Comfort noise", 21: "Lossy compression of noisy images"},
        **{23: "Chromatic aberrations", 24: "Sparse sampling and reconstruction"},
    }
    own = {number: text.lower().replace(" ", "_").replace("-", "_") for number, text in words.items()}
    assert set(names.values()) <= set(DISTORTIONS) and not set(own.values()) & set(DISTORTIONS)
    assert dict(enumerate(TID2013_TYPES, 1)) == names | own


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("5.1 i01_25_1.bmp", "i01_25_1.bmp"),
        ("5.1 i01_00_1.bmp", "i01_00_1.bmp"),
        ("5.1 i01_01_6.bmp", "i01_01_6.bmp"),
        ("5.1 photo.bmp", "photo.bmp"),
        ("5.1", "must be a score and an image, got '5.1'"),
        ("9.1 i01_01_1.bmp", "MOS must be 0 to 9, got 9.1"),
        ("good i01_01_1.bmp", "'good'"),
    ],
)
def test_tid2013_row_that_is_wrong_is_named(tmp_path, line, said):
    spec = layouts.tid2013(tmp_path, {"i01_01_1.bmp": 5})
    write(tmp_path / "mos_with_names.txt", f"5.0 i01_01_1.bmp\n{line}\n")
    message = error_of(ValueError, load_labeled, spec)
    assert f"{tmp_path / 'mos_with_names.txt'}, line 2" in message and said in message


def test_tid2013_file_without_rows_is_named(tmp_path):
    assert "mos_with_names.txt: must have a row for each image" in error_of(
        ValueError, load_labeled, layouts.tid2013(tmp_path, {})
    )


# --- LIVE ---


def test_live_is_turned_and_goes_without_the_copies_of_references(tmp_path):
    scores = {"jp2k/img1.bmp": 112, "jp2k/img227.bmp": -3, "jpeg/img1.bmp": 54.5}
    scores |= {"wn/img1.bmp": 111.7746935263145, "gblur/img174.bmp": -2.640015016409613, "fastfading/img174.bmp": 0}
    references = {name: f"{i}.bmp" for i, name in enumerate(scores)}
    labeled = load_labeled(layouts.live(tmp_path, scores, references))
    assert labeled.paths == [str(tmp_path / name) for name in scores]
    assert labeled.scores == pytest.approx([1, 10, 5.5, 1.0176328, 9.9718262, 9.7652174])  # 1 + 9 * (112 - 0) / 115
    assert labeled.score_range == (112, -3)
    assert labeled.references == ["0.bmp", "1.bmp", "2.bmp", "3.bmp", "4.bmp", "5.bmp"]
    assert labeled.distortions == ["jpeg2000", "jpeg2000", "jpeg", "white_noise", "gaussian_blur", "fast_fading"]
    assert labeled.levels is None and labeled.official_split is None


def test_live_that_is_wrong_is_named(tmp_path):
    spec = layouts.live(tmp_path, {"wn/img2.bmp": 112.5}, {})
    message = error_of(ValueError, load_labeled, spec)
    assert f"{tmp_path / 'dmos_realigned.mat'}, entry 462: dmos_new must be -3 to 112, got 112.5" in message

    layouts.live(tmp_path, {"wn/img2.bmp": 50}, {})
    (tmp_path / "wn" / "img2.bmp").unlink()
    assert "entry 462: no such file" in error_of(FileNotFoundError, load_labeled, spec)

    savemat(tmp_path / "refnames_all.mat", {"refnames_all": np.array([["a.bmp", "b.bmp"]], dtype=object)})
    assert "refnames_all must have 982 entries each, got (982, 982, 2)" in error_of(ValueError, load_labeled, spec)
    savemat(tmp_path / "dmos_realigned.mat", {"dmos": np.ones((1, 982))})
    assert "must have a variable dmos_new" in error_of(ValueError, load_labeled, spec)
    write(tmp_path / "dmos_realigned.mat", "no MATLAB file")
    assert f"{tmp_path / 'dmos_realigned.mat'}: must be a MATLAB file" in error_of(ValueError, load_labeled, spec)
    (tmp_path / "refnames_all.mat").unlink()
    layouts.live(tmp_path / "other", {}, {})
    (tmp_path / "other" / "refnames_all.mat").unlink()
    assert "refnames_all.mat: no such file" in error_of(FileNotFoundError, load_labeled, f"live:{tmp_path / 'other'}")


# --- CSIQ ---

CSIQ = [(1600, "noise", 1, 0), ("aerial_city", "jpeg 2000", 5, 1), ("aerial_city", "blur", 2, 0.25)]
CSIQ += [("boston", "contrast", 4, 0.061989), ("boston", "fnoise", 3, 0.5), ("boston", "jpeg", 1, 0.75)]


def test_csiq_is_turned(tmp_path):
    labeled = load_labeled(layouts.csiq(tmp_path, CSIQ))
    assert labeled.scores == pytest.approx([10, 1, 7.75, 9.442099, 5.5, 3.25])  # 1 + 9 * (1 - dmos)
    assert labeled.score_range == (1, 0)
    assert [Path(path).relative_to(tmp_path / "dst_imgs").as_posix() for path in labeled.paths] == [
        *("awgn/1600.AWGN.1.png", "jpeg2000/aerial_city.jpeg2000.5.png", "blur/aerial_city.BLUR.2.png"),
        *("contrast/boston.contrast.4.png", "fnoise/boston.fnoise.3.png", "jpeg/boston.JPEG.1.png"),
    ]
    assert labeled.references == ["1600.png", "aerial_city.png", "aerial_city.png", *["boston.png"] * 3]
    assert labeled.distortions == ["white_noise", "jpeg2000", "gaussian_blur", "contrast", "fnoise", "jpeg"]
    assert labeled.levels == [1, 5, 2, 4, 3, 1] and labeled.official_split is None


def test_csiq_images_may_lie_in_one_folder(tmp_path):
    spec = layouts.csiq(tmp_path, CSIQ[:1])
    (tmp_path / "dst_imgs" / "awgn" / "1600.AWGN.1.png").rename(tmp_path / "dst_imgs" / "1600.awgn.1.png")
    assert load_labeled(spec).paths == [str(tmp_path / "dst_imgs" / "1600.awgn.1.png")]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (("boston", "jpeg", 2, 1.01), "dmos must be 0 to 1, got 1.01"),
        (("boston", "jpeg", 2, None), "dmos must be a finite number, got ''"),
        (("boston", "jpeg", 6, 0.5), "'jpeg' at '6'"),
        (("boston", "jpeg", None, 0.5), "'jpeg' at ''"),
    ],
)
def test_csiq_row_that_is_wrong_is_named_as_a_spreadsheet_counts(tmp_path, row, said):
    message = error_of(ValueError, load_labeled, layouts.csiq(tmp_path, [CSIQ[0], row]))
    assert f"{tmp_path / 'csiq.DMOS.xlsx'}, row 6: " in message and said in message  # its table begins in row 4


def test_csiq_file_that_is_wrong_is_named(tmp_path, monkeypatch):
    spec = layouts.csiq(tmp_path, CSIQ)
    table = tmp_path / "csiq.DMOS.xlsx"
    shutil.move(tmp_path / "dst_imgs" / "jpeg", tmp_path / "jpeg")
    message = error_of(FileNotFoundError, load_labeled, spec)
    assert "row 10: no such file" in message and "boston.JPEG.1.png; 1 of the 6" in message

    book = openpyxl.Workbook()
    book.save(table)
    assert f"{table}: must be an .xlsx file" in (message := error_of(ValueError, load_labeled, spec))
    assert "all_by_image" in message
    book.create_sheet("all_by_image").append(["image", "dmos"])
    book.save(table)
    assert "which are image, dst_type, dst_lev, dmos" in error_of(ValueError, load_labeled, spec)
    book["all_by_image"].append(["image", "dst_type", "dst_lev", "dmos"])
    book.save(table)
    assert "must have a row for each image, got none" in error_of(ValueError, load_labeled, spec)
    table.write_text("no spreadsheet")
    assert f"{table}: must be an .xlsx file" in error_of(ValueError, load_labeled, spec)
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    assert f"{table}: " in (message := error_of(ValueError, load_labeled, spec)) and "'ssl_iqa[sets]'" in message
    table.unlink()
    assert f"{table}: no such file" in error_of(FileNotFoundError, load_labeled, spec)


# --- LIVE In the Wild ---


def test_clive_goes_without_the_images_for_practice(tmp_path):
    labeled = load_labeled(layouts.clive(tmp_path, {"3.bmp": 0, "10.bmp": 100, "1001.JPG": 25}))
    assert labeled.paths == [str(tmp_path / "Images" / name) for name in ("3.bmp", "10.bmp", "1001.JPG")]
    assert labeled.scores == [1, 10, 3.25] and labeled.score_range == (0, 100)
    assert labeled.references == ["3.bmp", "10.bmp", "1001.JPG"]
    assert labeled.distortions is None and labeled.levels is None and labeled.official_split is None


def test_clive_that_is_wrong_is_named(tmp_path):
    spec = layouts.clive(tmp_path, {"3.bmp": 50, "4.bmp": 100.5})
    table = tmp_path / "Data" / "AllMOS_release.mat"
    assert f"{table}, entry 9: MOS must be 0 to 100, got 100.5" in error_of(ValueError, load_labeled, spec)
    savemat(table, {"AllMOS_release": np.full((1, 9), np.nan)})
    assert f"{table}, entry 8: MOS must be a finite number, got 'nan'" in error_of(ValueError, load_labeled, spec)
    savemat(table, {"AllMOS_release": np.ones((1, 8))})
    message = error_of(ValueError, load_labeled, spec)
    assert message == f"{table}: must have a score of each image, got 8 of 9"
    layouts.clive(tmp_path, {})
    message = error_of(ValueError, load_labeled, spec)
    assert message == f"{table}: must have a row for each image, got none"
    layouts.clive(tmp_path / "other", {"3.bmp": 50})
    shutil.rmtree(tmp_path / "other" / "Images")
    assert "Images: no such folder" in error_of(FileNotFoundError, load_labeled, f"clive:{tmp_path / 'other'}")


# --- SPAQ ---


def test_spaq_is_read(tmp_path):
    spec = layouts.spaq(tmp_path, {"00001.jpg": 48.86, "00002.jpg": 100, "11125.jpg": 0})
    labeled = load_labeled(spec)
    assert labeled.paths == [str(tmp_path / "TestImage" / name) for name in ("00001.jpg", "00002.jpg", "11125.jpg")]
    assert labeled.scores == pytest.approx([5.3974, 10, 1]) and labeled.score_range == (0, 100)
    assert labeled.references == ["00001.jpg", "00002.jpg", "11125.jpg"]
    assert labeled.distortions is None and labeled.levels is None and labeled.official_split is None

    table = tmp_path / "Annotations" / "MOS and Image attribute scores.xlsx"
    table.rename(tmp_path / table.name)
    assert load_labeled(spec) == labeled
    (tmp_path / table.name).unlink()
    assert f"{table}: no such file" in error_of(FileNotFoundError, load_labeled, spec)


def test_spaq_that_is_wrong_is_named(tmp_path):
    spec = layouts.spaq(tmp_path, {"00001.jpg": 50, "00002.jpg": 101})
    message = error_of(ValueError, load_labeled, spec)
    assert "MOS and Image attribute scores.xlsx, row 3: MOS must be 0 to 100, got 101" in message


# --- an own CSV file ---


def own(folder, text):
    for name in ("a.png", "b.png", "sub/c.png"):
        image(folder / name)
    return f"csv:{write(folder / 'scores.csv', text)}"


def test_own_scores_span_1_to_10_by_the_files_extremes(tmp_path):
    labeled = load_labeled(own(tmp_path, "image,score\na.png,-20\nb.png,40\nsub/c.png,0\n"))
    assert labeled.paths == [str(tmp_path / name) for name in ("a.png", "b.png", "sub/c.png")]
    assert labeled.scores == [1, 10, 4]  # 1 + 9 * 20 / 60
    assert labeled.score_range == (-20, 40)
    assert labeled.references == ["a.png", "b.png", "sub/c.png"]
    assert labeled.distortions is None and labeled.levels is None and labeled.classes is None


def test_own_file_may_name_references_and_distortions_in_any_order(tmp_path):
    text = "distortion,score,note,reference,image\nblur,1,x,r1,a.png\n,2,,,b.png\nnoise,3,,r1,sub/c.png\n"
    labeled = load_labeled(own(tmp_path, text))
    assert labeled.references == ["r1", "b.png", "r1"]
    assert labeled.distortions == ["blur", "", "noise"]


def test_own_file_with_bom_crlf_blanks_and_quotes_is_read(tmp_path):
    image(tmp_path / "x, y.png")
    spec = own(tmp_path, '\ufeffimage, score\r\n\r\n"x, y.png", 1\r\na.png,2\r\n\r\n')
    assert load_labeled(spec).paths == [str(tmp_path / "x, y.png"), str(tmp_path / "a.png")]


def test_own_file_may_hold_absolute_paths(tmp_path):
    image(tmp_path / "elsewhere" / "d.png")
    labeled = load_labeled(own(tmp_path, f"image,score\na.png,1\n{tmp_path / 'elsewhere' / 'd.png'},2\n"))
    assert labeled.paths[1] == str(tmp_path / "elsewhere" / "d.png")


HEADER = ", line 1: the header must have image, score, each once, got "


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("image\na.png\n", HEADER + "image"),
        ("name,score\na.png,1\n", HEADER + "name,score"),
        ("image;mos\na.png;1\n", HEADER + "image;mos"),
        ("image|score\na.png|1\n", HEADER + "image|score"),
        ('image,score\na.png,"1,5"\nb.png,2\n', ", line 2: score must be a finite number, got '1,5'"),
        ("image;score\na.png;1,5\nb.png;2.5\n", ", line 2: score must be a finite number, got '1,5'"),
        ("image;score\na.png;1.000,5\nb.png;2\n", ", line 2: score must be a finite number, got '1.000,5'"),
        (
            "image,score,score\na.png,1,2\n",
            HEADER + "image,score,score",
        ),
        ("", HEADER + "nothing"),
        ("image,score\n", ": must have a row for each image"),
        ("image,score\na.png,1\nb.png,good\n", ", line 3: score must be a finite number, got 'good'"),
        ("image,score\na.png,1\n\nb.png,\n", ", line 4: score must be a finite number, got ''"),
        ("image,score\na.png,nan\nb.png,1\n", ", line 2: score must be a finite number, got 'nan'"),
        ("image,score\na.png,-1.7e308\nb.png,1.7e308\n", ": score must span less, got -1.7e+308 to 1.7e+308"),
        ("image,score\na.png,1\nb.png,inf\n", ", line 3: score must be a finite number, got 'inf'"),
        ("image,score\na.png,1\nb.png\n", ", line 3: must have 2 cells, got 1"),
        ("image,score\na.png,1\nb.png,2,3\n", ", line 3: must have 2 cells, got 3"),
        ("image,score\na.png,2\nb.png,2\n", ": scores must differ, got 2"),
    ],
)
def test_own_file_that_is_wrong_is_named_with_its_line(tmp_path, text, said):
    assert f"{tmp_path / 'scores.csv'}{said}" in error_of(ValueError, load_labeled, own(tmp_path, text))


def test_own_file_not_in_utf8_is_named(tmp_path):
    for damaged in ("image,score\nä.png,1\n".encode("latin-1"), "image,score\na.png,1\n".encode("utf-16")[:-1]):
        (tmp_path / "scores.csv").write_bytes(damaged)
        message = error_of(ValueError, load_labeled, f"csv:{tmp_path / 'scores.csv'}")
        assert message.startswith(f"{tmp_path / 'scores.csv'}: must be a CSV file in UTF-8")


@pytest.mark.parametrize("separator", [";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])  # Excel's "Unicode text" is the last, with tabs
def test_own_file_as_a_spreadsheet_writes_it_in_europe(tmp_path, separator, encoding):
    image(tmp_path / "a, b.png")
    rows = ["image,score,reference,level", '"a, b.png",1,r 1,3', "b.png,2.5,,4", "sub/c.png,4,r 1,", ""]
    text = "\r\n".join(rows).replace("a, b.png", "a! b.png").replace(",", separator).replace(".5", ",5")
    own(tmp_path, "")
    (tmp_path / "scores.csv").write_bytes(text.replace("a! b.png", "a, b.png").encode(encoding))
    labeled = load_labeled(f"csv:{tmp_path / 'scores.csv'}")
    assert labeled.paths == [str(tmp_path / name) for name in ("a, b.png", "b.png", "sub/c.png")]
    assert labeled.scores == [1, 5.5, 10] and labeled.score_range == (1, 4)
    assert labeled.references == ["r 1", "b.png", "r 1"]


def test_own_file_with_semicolons_may_have_decimal_points(tmp_path):
    labeled = load_labeled(own(tmp_path, "image;score;note\na.png;1.5;x, y\nb.png;2.25;\n"))
    assert labeled.score_range == (1.5, 2.25)


def test_an_image_that_is_named_in_several_ways_is_in_one_part(tmp_path):
    for i in range(5):
        Image.new("RGB", (4, 3), (40 * i, 0, 0)).save(tmp_path / f"{i}.png")
    os.symlink("2.png", tmp_path / "link.png")
    names = ["0.png", "./0.png", "x/../0.png", "1.png", tmp_path / "1.png", "2.png", "link.png", "3.png", "4.png"]
    rows = [f"{name},{i},{'r 1' if name == './0.png' else ''}" for i, name in enumerate(names)]
    (tmp_path / "x").mkdir()
    labeled = load_labeled(f"csv:{write(tmp_path / 'scores.csv', chr(10).join(['image,score,reference', *rows]))}")
    assert labeled.references[:4] == ["0.png", "r 1", "0.png", "1.png"]
    for seed in range(5):
        split = divide(labeled, {}, seed)
        indices = [part_indices(labeled.references, names) for names in split.values()]
        parts = [{Path(labeled.paths[i]).read_bytes() for i in part} for part in indices]
        assert [len(part) for part in parts] == [3, 1, 1] and len(set().union(*parts)) == 5


def test_own_file_missing_or_listing_missing_images_is_named(tmp_path):
    assert "none.csv" in error_of(FileNotFoundError, load_labeled, f"csv:{tmp_path / 'none.csv'}")
    message = error_of(FileNotFoundError, load_labeled, own(tmp_path, "image,score\na.png,1\ngone.png,2\n"))
    assert f"{tmp_path / 'scores.csv'}, line 3" in message and str(tmp_path / "gone.png") in message


# --- all of them ---


def in_other_case(folder):
    """Renames all files and folders below to names in another case."""
    for path in sorted(folder.rglob("*"), reverse=True):  # what is in a folder before it
        path.rename(path.with_name(path.name.swapcase()))


LAYOUTS = {
    "kadid10k": lambda folder: layouts.kadid10k(folder, {"I01_01_01.png": 5, "I81_10_03.png": 4}),
    "koniq10k": lambda folder: layouts.koniq10k(folder, {"1.jpg": 8, "2.jpg": 77}),
    "tid2013": lambda folder: layouts.tid2013(folder, {"i01_01_1.bmp": 9, "I02_08_5.BMP": 1}),
    "live": lambda folder: layouts.live(folder, {"jp2k/img1.bmp": 50, "wn/img2.bmp": 30}, {}),
    "csiq": lambda folder: layouts.csiq(folder, [("1600", "noise", 1, 0.1), ("trolley", "jpeg 2000", 5, 0.9)]),
    "clive": lambda folder: layouts.clive(folder, {"a.bmp": 50, "b.JPG": 60}),
    "spaq": lambda folder: layouts.spaq(folder, {"00001.jpg": 50, "00002.jpg": 60}),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_folders_and_files_of_a_set_may_be_in_another_case(tmp_path, name):
    published = load_labeled(LAYOUTS[name](tmp_path))
    in_other_case(tmp_path)
    other = load_labeled(published.name)
    assert [path.lower() for path in other.paths] == [path.lower() for path in published.paths] != other.paths
    assert all(Path(path).is_file() for path in other.paths)
    assert other.references == published.references and other.scores == published.scores


def test_of_two_names_in_different_case_the_published_one_is_taken(tmp_path):
    spec = kadid(tmp_path)
    kadid(tmp_path / "copy")
    (tmp_path / "copy" / "images").rename(tmp_path / "IMAGES")
    write(tmp_path / "DMOS.csv", "nothing")
    if len(os.listdir(tmp_path)) < 5:
        pytest.skip("the disk knows no case")
    assert all(Path(path).parent == tmp_path / "images" for path in load_labeled(spec).paths)


# --- the demo ---


def csv_rows(name):
    with open(DEMO_FOLDER / name, newline="") as file:
        return list(csv.DictReader(file))


def test_credits_cover_every_photograph_and_no_other():
    credited = [row["image"] for row in csv_rows("CREDITS.csv")]
    assert sorted(credited) == sorted(path.name for path in DEMO_FOLDER.glob("*.jpg"))
    assert len(set(credited)) == len(credited) == 67
    assert all(row["author"] and row["licence"] and row["taken_from"] for row in csv_rows("CREDITS.csv"))


def test_demo_photographs_are_384x288_from_40_sources():
    sources = demo_sources()
    assert list(sources) == sorted(map(str, DEMO_FOLDER.glob("*.jpg")))
    assert len(sources) == 67 and len(set(sources.values())) == 40
    assert sources[str(DEMO_FOLDER / "bridge_1.jpg")] == sources[str(DEMO_FOLDER / "bridge_2.jpg")] == "bridge"
    assert all(read_image(path).shape == (3, 288, 384) for path in sources)


def test_demo_is_every_photograph_in_every_class():
    demo = load_labeled("demo")
    lists = (demo.paths, demo.scores, demo.references, demo.distortions, demo.levels, demo.classes)
    assert [len(values) for values in lists] == [8375] * 6
    assert len(set(zip(demo.paths, demo.classes, strict=True))) == 8375 and set(demo.classes) == set(range(125))
    assert len(set(demo.references)) == 40
    sources = demo_sources()
    assert demo.references == [sources[path] for path in demo.paths]
    assert demo.name == "demo" and demo.score_range == (1, 5)


@pytest.mark.parametrize(
    ("distortion_class", "name", "level", "score"),
    [
        (0, "gaussian_blur", 1, 9.127),  # 1 + 9 * (4.612 - 1) / 4
        (4, "gaussian_blur", 5, 1.68175),  # 1.303
        (5, "lens_blur", 1, 7.4395),  # 3.862
        (48, "jpeg", 4, 3.12625),  # 1.945
        (87, "mean_shift", 3, 9.10675),  # 4.603
        (124, "contrast_change", 5, 6.229),  # 3.324
    ],
)
def test_demo_scores_are_kadids_class_means(distortion_class, name, level, score):
    demo = load_labeled("demo")
    entries = [i for i, value in enumerate(demo.classes) if value == distortion_class]
    assert len(entries) == 67
    for i in entries:
        assert (demo.distortions[i], demo.levels[i]) == (name, level) and demo.scores[i] == pytest.approx(score)


def test_class_means_are_listed_in_the_order_of_the_classes():
    listed = [(int(row["type"]), int(row["level"])) for row in csv_rows("kadid_class_means.csv")]
    assert listed == [(kind, level) for kind in range(1, 26) for level in range(1, 6)]
