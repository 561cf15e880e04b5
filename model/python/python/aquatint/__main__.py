"""``python -m aquatint`` and the script ``aquatint``: the command line program."""

import sys

from . import _aquatint


def main() -> int:
    """Runs the program with the arguments of this process. Returns its exit code."""
    return _aquatint.main(["aquatint", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
