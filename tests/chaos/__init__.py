"""Failure on purpose: the real servers, two of each, under steady load while something is done to them.

servers.py    the servers as processes of their own: killed, stopped, paused, started again
backend.py    a caller that remembers what was acknowledged, and checks every list against it
load.py       calls at a steady rate, whether or not those before have been answered
outcome.py    what came of a scenario: codes, rungs, latency, recovery, events lost or applied twice
scenarios/    what is done, and what must hold
__main__.py   `make chaos`
"""

import os

# Before anything imports TensorFlow, which else says still more of GPUs that are not there.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
