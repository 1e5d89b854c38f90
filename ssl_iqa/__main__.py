"""`ssl-iqa MODEL PATH ..` and `ssl-iqa report MODEL FOLDER`, as `python -m ssl_iqa`, too."""

import sys

from ssl_iqa.scoring import page, score


def main() -> None:
    if sys.argv[1:2] == ["report"]:  # a model of that name is ./report
        page.main(sys.argv[2:])
    else:
        score.main(sys.argv[1:])


if __name__ == "__main__":
    main()
