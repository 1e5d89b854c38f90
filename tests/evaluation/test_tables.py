"""Tables 1 and 2 from measurements, by hand."""

import csv
import io
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from ssl_iqa.__main__ import main
from ssl_iqa.data.labeled import LabeledSet
from ssl_iqa.engine import run_folder
from ssl_iqa.evaluation import predictions, resampling, tables
from ssl_iqa.evaluation.metrics import plcc
from ssl_iqa.evaluation.predictions import Measured, measure, predictions_csv
from ssl_iqa.evaluation.resampling import Predictions

KADID, KONIQ = "kadid10k:DIR", "koniq10k:DIR"


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resampling, "RESAMPLES", 100)


def measured(
    encoder: str, mode: str, seed: int, noise: float, data: str = KADID, tests: dict | None = None
) -> Measured:
    """A test part of 8 references with 6 images each; the more noise, the worse the predictions."""
    rng = np.random.default_rng(seed)
    true = rng.uniform(1, 10, 48)
    predicted = true + noise * np.random.default_rng((seed, len(encoder))).standard_normal(48)
    names = [f"I{i // 6:02}" for i in range(48)]
    types = ["jpeg" if i % 2 else "gaussian_blur" for i in range(48)] if data == KADID else None
    labeled = LabeledSet(data, [f"{i}.png" for i in range(48)], true.tolist(), (1, 5), names, types)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resampling, "RESAMPLES", 100)
        patch.setattr(predictions, "plcc_logistic5", plcc)
        numbers = measure(predicted, labeled, list(range(48)))
    numbers |= {"tests": tests or {}, "minutes": 1.5, "images": 48}
    return Measured(encoder, mode, data, seed, numbers, Predictions(predicted, true, names))


CELLS = [
    measured(encoder, mode, seed, noise, data)
    for data in (KADID, KONIQ)
    for seed in (0, 1, 2)
    for encoder, noise in (("imagenet", 5.0), ("ssl", 1.0))
    for mode in ("lp", "lp-ft")
]


def row_of(rows: list[tables.Row], data: str, mode: str, encoder: str) -> tables.Row:
    (row,) = (row for row in rows if (row["data"], row["mode"], row["encoder"]) == (data, mode, encoder))
    return row


def cells_of(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def test_a_row_is_mean_median_and_deviation_over_splits() -> None:
    row = row_of(tables.summarize(CELLS), KADID, "lp-ft", "ssl")
    values = [
        spearmanr(cell.tested.predicted, cell.tested.scores).statistic
        for cell in CELLS
        if (cell.encoder, cell.mode, cell.data) == ("ssl", "lp-ft", KADID)
    ]
    assert row["splits"] == 3
    wanted = {"mean": np.mean(values), "median": np.median(values), "sd": np.std(values, ddof=1)}
    assert row["srocc"] == {name: pytest.approx(value) for name, value in wanted.items()}
    assert row["interval"][0] < row["srocc"]["mean"] < row["interval"][1]
    assert set(row["srocc_by_type"]) == {"gaussian_blur", "jpeg"}


def test_the_papers_numbers_stand_beside_the_encoders_of_their_names() -> None:
    rows = tables.summarize(CELLS)
    kadid, koniq = (row_of(rows, data, "lp-ft", "ssl") for data in (KADID, KONIQ))
    assert (kadid["paper_srocc"], kadid["paper_plcc"]) == (0.91, 0.90)
    assert (koniq["paper_srocc"], koniq["paper_plcc"]) == (0.90, 0.89)
    other = tables.summarize([measured("own", "lp", 0, 1.0)])[0]
    assert other["paper_srocc"] is None


def test_table_1_is_a_row_a_mode_and_encoder_with_two_numbers_a_set() -> None:
    rows = tables.summarize(CELLS)
    header, _, *body = cells_of(tables.table_1(rows))
    assert header == ["mode", "encoder", f"{KADID} SROCC", "PLCC", "paper", f"{KONIQ} SROCC", "PLCC", "paper"]
    assert [cells[:2] for cells in body] == [[m, e] for e in ("imagenet", "ssl") for m in ("LP", "LP-FT")]
    srocc = row_of(rows, KADID, "lp", "imagenet")["srocc"]
    assert body[0][2] == f"{srocc['mean']:.3f} +- {srocc['sd']:.3f} ({srocc['median']:.3f})"
    assert body[0][4] == "0.70 / 0.73" and body[0][7] == "0.77 / 0.73"


def test_one_split_has_its_interval_and_own_sets_no_column_of_the_papers() -> None:
    rows = tables.summarize([measured("ssl", "lp", 0, 1.0, data="csv:own.csv")])
    header, _, (_, _, srocc, _) = cells_of(tables.table_1(rows))
    assert header == ["mode", "encoder", "csv:own.csv SROCC", "PLCC"]
    low, high = rows[0]["interval"]
    assert srocc == f"{rows[0]['srocc']['mean']:.3f} [{low:.3f}, {high:.3f}]"
    assert "one split, in brackets the 95 % interval" in tables.markdown(rows, [])


def test_table_2_is_lp_fts_srocc_by_type_beside_the_papers() -> None:
    rows = [row for row in tables.summarize(CELLS) if row["data"] == KADID]
    header, _, *body = cells_of(tables.table_2(rows, ["gaussian_blur", "jpeg"]))
    assert header == ["mode", "encoder", "gaussian_blur / paper", "jpeg / paper"]
    assert [cells[:2] for cells in body] == [["LP-FT", "imagenet"], ["LP-FT", "ssl"]]
    assert [cell.rpartition(" / ")[2] for cell in body[1][2:]] == ["0.88", "0.90"]  # of jpeg the third of Table 2
    text = tables.markdown(tables.summarize(CELLS), [])
    assert text.count("Table 2: SROCC by distortion type") == 1 and f"type, {KADID}" in text  # KonIQ has no types


def test_table_3_has_the_sixteen_methods_measured_or_not() -> None:
    cells = [*CELLS, measured("brisque", "-", 0, 3.0, KONIQ), measured("brisque", "-", 0, 3.0, "clive:DIR")]
    rows = tables.summarize(cells)
    header, _, *body = cells_of(tables.table_3(rows))
    assert header == ["method", "koniq10k: paper", "here", "kadid10k: paper", "here", "clive: here"]
    by_name = {cells[0]: cells[1:] for cells in body}
    assert len(body) == len(by_name) == 16 and [*by_name][:2] == ["biqi", "bliinds-ii"] and [*by_name][-1] == "ssl"
    assert by_name["hosa"] == ["0.79 / 0.80", "not run", "0.61 / 0.65", "not run", "not run"]
    assert by_name["contrique-syn"] == ["0.85 / -", "not run", "- / -", "not run", "not run"]
    brisque, ssl = row_of(rows, KONIQ, "-", "brisque"), row_of(rows, KADID, "lp-ft", "ssl")  # the last mode's
    assert by_name["brisque"][:3] == ["0.70 / 0.71", here(brisque), "0.52 / 0.56"]
    assert by_name["brisque"][3:] == ["not run", here(row_of(rows, "clive:DIR", "-", "brisque"))]
    assert by_name["ssl"][2:] == ["0.91 / 0.90", here(ssl), "not run"]
    assert by_name["cl"][:2] == ["0.86 / 0.86", "not run"]
    entries = [entry for entry in tables.compared(rows) if entry["method"] == "ssl" and entry["data"] == "kadid10k"]
    assert [entry["mode"] for entry in entries] == ["lp-ft"] and entries[0]["srocc"] == ssl["srocc"]
    assert "Table 3: " in tables.markdown(rows, [])


def test_contrique_stands_in_table_3_by_ridge_regression_and_others_by_their_last_mode() -> None:
    noises = {"lp": 1.0, "ridge": 2.0, "lp-ft": 3.0}
    cells = [measured(name, mode, 0, noises[mode]) for name in ("contrique-syn", "rankiqa") for mode in noises]
    rows = tables.summarize(cells)
    body = {line.split(" | ")[0]: line for line in tables.table_3(rows).splitlines()}
    for name, mode in (("contrique-syn", "ridge"), ("rankiqa", "lp-ft")):
        assert f" | {here(row_of(rows, KADID, mode, name))} |" in body[f"| {name}"]


def here(row: tables.Row) -> str:
    return f"{row['srocc']['mean']:.3f} / {row['plcc']['mean']:.3f}"


def test_minutes_are_those_of_all_splits() -> None:
    cells = [*CELLS[:12], measured("brisque", "-", 0, 3.0, KONIQ)]  # 1.5 minutes each
    rows = tables.summarize(cells)
    header, _, *body = cells_of(tables.minutes(rows))
    assert header == ["mode", "encoder", KADID, KONIQ] and len(body) == 5
    assert body[0] == ["LP", "imagenet", "4.5", "-"] and body[-1] == ["-", "brisque", "-", "1.5"]
    assert f"\n\n{tables.minutes(rows)}\n" in tables.markdown(rows, [])


def test_a_baseline_stands_in_every_table_and_is_compared_in_every_mode() -> None:
    cells = [*CELLS[:12], *(measured("brisque", tables.NO_MODE, seed, 4.0) for seed in range(3))]
    rows = tables.summarize(cells)
    assert [cells[:2] for cells in cells_of(tables.table_1(rows))[2:]][-1] == ["-", "brisque"]
    assert [cells[:2] for cells in cells_of(tables.table_2(rows, ["jpeg"]))[2:]][-1] == ["-", "brisque"]
    pairs = {(pair["mode"], pair["first"], pair["second"]) for pair in tables.differences(cells)}
    assert pairs == {
        (mode, *pair)
        for mode in ("lp", "lp-ft")
        for pair in (("imagenet", "ssl"), ("imagenet", "brisque"), ("ssl", "brisque"))
    }


def test_baselines_alone_are_compared_with_each_other() -> None:
    cells = [
        measured(name, tables.NO_MODE, seed, noise) for name, noise in (("hosa", 2.0), ("biqi", 8.0)) for seed in (0, 1)
    ]
    (pair,) = tables.differences(cells)
    assert (pair["mode"], pair["first"], pair["second"], pair["splits"]) == (tables.NO_MODE, "hosa", "biqi", 2)
    by_hand = np.mean([cell.results["srocc"] for cell in cells[:2]]) - np.mean(
        [cell.results["srocc"] for cell in cells[2:]]
    )
    assert pair["difference"] == pytest.approx(by_hand) and "hosa - biqi" in tables.significance([pair])


def test_differences_are_of_the_same_splits() -> None:
    cells = [cell for cell in CELLS if not (cell.encoder == "ssl" and cell.seed == 2)]
    pair = next(pair for pair in tables.differences(cells) if (pair["data"], pair["mode"]) == (KADID, "lp"))
    assert pair["splits"] == 2 and (pair["first"], pair["second"]) == ("imagenet", "ssl")
    by_encoder = {
        encoder: np.mean(
            [c.results["srocc"] for c in cells if (c.encoder, c.mode, c.data) == (encoder, "lp", KADID)][:2]
        )
        for encoder in ("imagenet", "ssl")
    }
    assert pair["difference"] == pytest.approx(by_encoder["imagenet"] - by_encoder["ssl"])
    assert pair["interval"][0] < pair["difference"] < pair["interval"][1] < 0
    assert pair["p"] == pytest.approx(2 / 101)  # none of the resamples is on the other side


def test_equal_encoders_do_not_differ() -> None:
    cells = [measured(name, "lp", seed, 2.0) for name in ("abc", "xyz") for seed in (0, 1)]  # names of one length
    (pair,) = tables.differences(cells)
    assert pair["difference"] == 0 and pair["p"] == 1


def test_few_references_have_no_intervals() -> None:
    cells = [measured(name, "lp", 0, 2.0) for name in ("abc", "wxyz")]
    few = [cell._replace(references=[f"r{i % 7}" for i in range(48)]) for cell in (cell.tested for cell in cells)]
    cells = [replace(cell, tested=tested) for cell, tested in zip(cells, few, strict=True)]
    (pair,), (row, _) = tables.differences(cells), tables.summarize(cells)
    assert np.isnan([*pair["interval"], pair["p"], *row["interval"]]).all()
    assert cells_of(tables.significance([pair]))[2][3:] == [f"{pair['difference']:+.3f}", "-", "-"]
    assert "[" not in tables.table_1([row])


def test_results_of_before_have_no_5_parameter_logistic() -> None:
    old = measured("ssl", "lp", 0, 2.0)
    old = replace(old, results={name: value for name, value in old.results.items() if name != "plcc_logistic5"})
    (row,) = tables.summarize([old])
    assert math.isnan(row["plcc_logistic5"]["mean"])
    (line,) = csv.DictReader(io.StringIO(tables.comma_separated([old])))
    assert line["plcc_logistic5"] == "" and float(line["plcc_logistic"]) == old.results["plcc_logistic"]


def test_other_sets_have_a_table_of_their_own() -> None:
    cells = [measured("ssl", "lp", 0, 1.0, tests={KONIQ: {"srocc": 0.5}}), measured("ssl", "ft", 0, 1.0)]
    text = tables.markdown(tables.summarize(cells), [])
    assert f"| trained on | mode | encoder | tested on {KONIQ} |" in text and f"| {KADID} | LP | ssl | 0.500 |" in text
    assert f"| {KADID} | FT | ssl | - |" in text
    assert "tested on" not in tables.markdown(tables.summarize(CELLS), [])


def test_the_csv_has_a_line_a_measurement() -> None:
    lines = list(csv.DictReader(io.StringIO(tables.comma_separated(CELLS))))
    assert len(lines) == len(CELLS)
    line, cell = lines[3], CELLS[3]
    assert (line["data"], line["mode"], line["encoder"], line["split"]) == (KADID, "lp-ft", "ssl", "0")
    assert (
        float(line["srocc"]) == cell.results["srocc"] and float(line["jpeg"]) == cell.results["srocc_by_type"]["jpeg"]
    )
    assert [float(line[f"srocc_{end}"]) for end in ("low", "high")] == cell.results["srocc_interval"]
    assert [float(line[f"plcc_{end}"]) for end in ("low", "high")] == cell.results["plcc_interval"]
    assert (line["paper_srocc"], line["paper_plcc"]) == ("0.91", "0.9") and line["jpeg2000"] == ""


def test_what_is_no_number_is_left_out() -> None:
    assert tables.spread([0.5, None, math.nan, 0.7]) == {
        "mean": pytest.approx(0.6),
        "median": pytest.approx(0.6),
        "sd": pytest.approx(math.sqrt(0.02)),
    }
    assert tables.shown(tables.spread([None])) == "-" and tables.shown(tables.spread([0.5])) == "0.500"


def finished(folder: Path, encoder: str, seed: int, srocc: float) -> None:
    """What finetune.py leaves of a measurement."""
    true = np.arange(1.0, 9)
    labeled = LabeledSet("csv:own.csv", [f"{i}.png" for i in range(8)], true.tolist(), (1, 5), list("abcdefgh"))
    results = measure(true, labeled, range(8)) | {"name": encoder, "mode": "lp", "data": "csv:own.csv", "seed": seed}
    folder.mkdir(parents=True)
    run_folder.write_json(results | {"srocc": srocc, "tests": {}, "minutes": 1.0}, folder / "results.json")
    (folder / "predictions.csv").write_text(predictions_csv(true, labeled, list(range(8))))


def test_the_command_takes_tables_and_seeds_of_single_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resampling, "RESAMPLES", 10)
    for seed, srocc in enumerate((0.4, 0.5, 0.6)):
        finished(tmp_path / f"ssl-{seed}", "encoder", seed, srocc)
    for seed in (0, 1):
        finished(tmp_path / "table" / "cells" / "csv" / "cl" / "lp" / f"split-{seed}", "cl", seed, 0.25)
    main(["tables", *(str(tmp_path / name) for name in ("ssl-0", "ssl-1", "ssl-2", "table"))])
    shown = capsys.readouterr().out
    assert "| LP | ssl | 0.500 +- 0.100 (0.500) |" in shown and "| LP | cl | 0.250 +- 0.000 (0.250) |" in shown
    assert "| csv:own.csv | LP | ssl - cl |" in shown
    main(["tables", str(tmp_path / "ssl-0"), str(tmp_path / "table" / ".." / "ssl-0")])  # one that is given twice
    assert "| LP | ssl | 0.400" in (once := capsys.readouterr().out) and "over 2 splits" not in once


def test_a_folder_without_results_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["tables", str(tmp_path)])
    assert caught.value.code == 2 and str(tmp_path / "results.json") in capsys.readouterr().err
