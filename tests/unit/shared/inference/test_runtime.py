"""TensorFlow as servers import it."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import sys
from shared.inference.runtime import tensorflow
tf = tensorflow()
print("keras" in sys.modules, float(tf.constant(2.0) * 3.0))
import keras
print(keras.ops.convert_to_numpy(keras.ops.ones(2)).tolist())
"""


def test_servers_do_without_keras_which_stays_importable() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["False 6.0", "[1.0, 1.0]"]
