"""`python -m services.training train|evaluate`: see `options.py`; says JSON lines, see `lines.py`."""

import os
import sys

from services.training.command import main

if __name__ == "__main__":
    code = main(sys.argv[1:])

    from services.training.fit import waits_for_ray

    if waits_for_ray():
        # The interpreter's own end would pull Ray's library away under that thread.
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
