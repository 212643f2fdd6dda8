"""The command line: `answer-first --help`, or `python -m cli --help`. A command loads what it needs when it is run."""

import sys

from cli.app import main

if __name__ == "__main__":
    sys.exit(main())
