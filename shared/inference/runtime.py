"""TensorFlow, imported only when a model is loaded: it takes seconds, and servers bind before that."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog

_log = structlog.get_logger(part="inference")


def tensorflow(*, intra_op_threads: int = 1, inter_op_threads: int = 1) -> Any:
    """The TensorFlow module, quiet, on the CPU, with these thread pools.

    One small call at a time runs fastest without a hand-over to other threads. The pools are made by
    the first call of the process; a later call with other sizes is told so in the log and uses those.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # errors come as exceptions
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    with _without_keras():
        import tensorflow as tf

    wanted = (intra_op_threads, inter_op_threads)
    threading = tf.config.threading
    if wanted != (threading.get_intra_op_parallelism_threads(), threading.get_inter_op_parallelism_threads()):
        try:
            threading.set_intra_op_parallelism_threads(intra_op_threads)
            threading.set_inter_op_parallelism_threads(inter_op_threads)
        except RuntimeError as error:  # TensorFlow has started already
            _log.warning("tensorflow_threads_kept", wanted=wanted, error=str(error))
    return tf


@contextmanager
def _without_keras() -> Iterator[None]:
    """Keeps TensorFlow from importing Keras, unless somebody has.

    It does so for optimisers inside SavedModels, which nothing here runs, and that takes as long as all the
    rest of its import: a server that died is back seconds earlier without it.
    """
    if "keras" in sys.modules or "tensorflow" in sys.modules:
        yield
        return
    # An import of it fails meanwhile, which TensorFlow allows for.
    sys.modules["keras"] = None  # type: ignore[assignment]  # Python's way to say "not to be found"
    try:
        yield
    finally:
        del sys.modules["keras"]
