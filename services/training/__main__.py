"""`python -m services.training train|evaluate`: see `options.py`; says JSON lines, see `lines.py`."""

import sys

from services.training.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
