"""How many threads numpy's products use. Import nothing here that imports numpy."""

from __future__ import annotations

import os


def one_blas_thread() -> None:
    """Has OpenBLAS work on the caller's thread. Call it before numpy is imported: it looks only then.

    A product of a query with some thousand items takes 0.1 ms on one thread. Its pool gains nothing
    there, and on a machine with other work its threads wait for each other by spinning: we measured
    7 ms of CPU for the same product. A value set by the environment stays.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
