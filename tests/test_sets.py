"""ssl_iqa.sets: the labeled sets' files and their errors, the demo."""

import csv
from dataclasses import FrozenInstanceError

import pytest

from ssl_iqa.data import read_image
from ssl_iqa.sets import DEMO_FOLDER, demo_sources, load_labeled
from tests.conftest import error_of, picture, write

# --- load_labeled: the spec ---


@pytest.mark.parametrize("spec", ["kadid", "", "kadid10k", "tid2013:x", "demo:", "demo:x", "Demo", "scores.csv"])
def test_unknown_spec_lists_the_four_forms(spec):
    message = error_of(ValueError, load_labeled, spec)
    assert all(form in message for form in (repr(spec), "demo", "kadid10k:DIR", "koniq10k:DIR", "csv:FILE"))


@pytest.mark.parametrize(("spec", "form"), [("kadid10k:", ":DIR"), ("koniq10k:", ":DIR"), ("csv:", ":FILE")])
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
        picture(folder / "images" / f"{name}.png")
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
    picture(tmp_path / "images" / "I01_01_01.png")
    assert str(tmp_path / "dmos.csv") in error_of(FileNotFoundError, load_labeled, f"kadid10k:{tmp_path}")


def test_kadid_without_its_images_folder_names_it(tmp_path):
    write(tmp_path / "dmos.csv", KADID)
    message = error_of(FileNotFoundError, load_labeled, f"kadid10k:{tmp_path}")
    assert message.startswith(f"{tmp_path / 'images'}: no such folder")


def test_kadid_pictures_missing_are_counted_and_the_first_named(tmp_path):
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
        ("I01_01_01.png,I01.png", "2 cells"),
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
        picture(folder / size / "1.jpg")
        picture(folder / size / "2.jpg")
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
def test_koniq_prefers_the_small_pictures(tmp_path, sizes, taken):
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
        ("image_name,MOS\n1.jpg,3\n2.jpg,77.4\n", "MOS is 77.4, wanted is 1 to 5"),  # on the other scale
        ("image_name,MOS_zscore\n1.jpg,3\n2.jpg,100.5\n", "MOS_zscore is 100.5, wanted is 0 to 100"),
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
    assert f"{tmp_path}: " in message and "512x384" in message and "1024x768" in message

    koniq(tmp_path)
    (tmp_path / "512x384" / "2.jpg").unlink()
    message = error_of(FileNotFoundError, load_labeled, spec)
    assert "2.jpg" in message and "line 3" in message and "1 of the 2" in message

    write(tmp_path / "koniq10k_scores_and_distributions.csv", "image_name,score\n1.jpg,3\n")
    message = error_of(ValueError, load_labeled, spec)
    assert "line 1" in message and "MOS_zscore" in message and "image_name, score" in message


# --- an own CSV file ---


def own(folder, text):
    for name in ("a.png", "b.png", "sub/c.png"):
        picture(folder / name)
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
    picture(tmp_path / "x, y.png")
    spec = own(tmp_path, '\ufeffimage, score\r\n\r\n"x, y.png", 1\r\na.png,2\r\n\r\n')
    assert load_labeled(spec).paths == [str(tmp_path / "x, y.png"), str(tmp_path / "a.png")]


def test_own_file_may_hold_absolute_paths(tmp_path):
    picture(tmp_path / "elsewhere" / "d.png")
    labeled = load_labeled(own(tmp_path, f"image,score\na.png,1\n{tmp_path / 'elsewhere' / 'd.png'},2\n"))
    assert labeled.paths[1] == str(tmp_path / "elsewhere" / "d.png")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("image\na.png\n", ", line 1: 0 columns are called score"),
        ("name,score\na.png,1\n", ", line 1: 0 columns are called image"),
        ("image;score\na.png;1\n", ", line 1: 0 columns are called image"),
        ("image,score,score\na.png,1,2\n", ", line 1: 2 columns are called score"),
        ("", ", line 1: 0 columns are called image"),
        ("image,score\n", ": no rows"),
        ("image,score\na.png,1\nb.png,good\n", ", line 3: the score is 'good'"),
        ("image,score\na.png,1\n\nb.png,\n", ", line 4: the score is ''"),
        ("image,score\na.png,nan\nb.png,1\n", ", line 2: the score is 'nan'"),
        ("image,score\na.png,1\nb.png,inf\n", ", line 3: the score is 'inf'"),
        ("image,score\na.png,1\nb.png\n", ", line 3: 1 cells"),
        ("image,score\na.png,1\nb.png,2,3\n", ", line 3: 3 cells"),
        ("image,score\na.png,2\nb.png,2\n", ": every score is 2"),
    ],
)
def test_own_file_that_is_wrong_is_named_with_its_line(tmp_path, text, said):
    assert f"{tmp_path / 'scores.csv'}{said}" in error_of(ValueError, load_labeled, own(tmp_path, text))


def test_own_file_not_in_utf8_is_named(tmp_path):
    (tmp_path / "scores.csv").write_bytes("image,score\nä.png,1\n".encode("utf-16"))
    assert str(tmp_path / "scores.csv") in error_of(ValueError, load_labeled, f"csv:{tmp_path / 'scores.csv'}")


def test_own_file_missing_or_listing_missing_pictures_is_named(tmp_path):
    assert "none.csv" in error_of(FileNotFoundError, load_labeled, f"csv:{tmp_path / 'none.csv'}")
    message = error_of(FileNotFoundError, load_labeled, own(tmp_path, "image,score\na.png,1\ngone.png,2\n"))
    assert f"{tmp_path / 'scores.csv'}, line 3" in message and str(tmp_path / "gone.png") in message


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
