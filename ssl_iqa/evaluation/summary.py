"""Mean and spread over seeds of finetuned runs.

    python -m ssl_iqa.evaluation.summary runs/ssl-0 runs/ssl-1 runs/ssl-2 runs/random-0 runs/random-1 runs/random-2

Folders whose names differ in the number at their end are seeds of one row.
"""

import argparse
import re
from pathlib import Path

import numpy as np

from ssl_iqa.engine import console, run_folder
from ssl_iqa.engine.settings import Parser

COLUMNS = ("srocc", "plcc", "plcc_logistic", "plcc_logistic5", "minutes")


def summarize(folders: list[Path]) -> str:
    """A Markdown table of `results.json`: a row for each name without its number, mean +- sample standard deviation.

    Raises FileNotFoundError or ValueError for a folder without results.
    """
    rows: dict[str, list[dict]] = {}
    for folder in folders:
        path = folder / run_folder.RESULTS
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file; the folder of a finished finetune.py run is wanted")
        rows.setdefault(re.sub(r"-\d+$", "", folder.name), []).append(run_folder.read_json(path))
    lines = ["| runs | seeds | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 2) + "|"]
    for name, results in rows.items():
        cells = []
        for column in COLUMNS:
            values = np.array([result.get(column) for result in results], dtype=float)
            spread = f" +- {values.std(ddof=1):.3f}" if len(values) > 1 else ""
            cells.append(f"{values.mean():.3f}{spread}")
        lines.append(f"| {name} | {len(results)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, help="folders of finetune.py runs")
    args = parser.parse_args(arguments)
    with console.clear_errors():
        print(summarize(args.folders))


if __name__ == "__main__":
    main()
