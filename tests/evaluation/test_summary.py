import json

import pytest

from ssl_iqa.evaluation.summary import main, summarize


def write(folder, **results):
    folder.mkdir()
    (folder / "results.json").write_text(json.dumps({"plcc": 0.5, "plcc_logistic": 0.5, "minutes": 1.0, **results}))
    return folder


def test_mean_and_sample_deviation_over_the_seeds_of_a_name(tmp_path):
    seeds = [write(tmp_path / f"ssl-{seed}", srocc=value) for seed, value in enumerate((0.4, 0.5, 0.6))]
    alone = write(tmp_path / "random-0", srocc=0.25)
    lines = summarize([*seeds, alone]).splitlines()
    assert lines[2].startswith("| ssl | 3 | 0.500 +- 0.100 |")
    assert lines[3].startswith("| random | 1 | 0.250 |")
    assert " plcc_logistic5 " in lines[0] and "| nan |" in lines[3]  # runs of before had none


def test_a_folder_without_results_is_named(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main([str(tmp_path)])
    assert stop.value.code == 2
    assert str(tmp_path / "results.json") in capsys.readouterr().err
