"""Rubbish on purpose: to every RPC of the real servers, and to everything that reads bytes from outside.

schema.py, values.py     what RPCs there are, and the hard values of their fields
seeds.py                 requests that the servers take: what cases begin from
mutation.py              nearly valid requests and damaged bytes, fast; strategies.py the same for hypothesis
world.py                 the real servers, and a canary that must stay as it is
calls.py, oracle.py      raw bytes as a call; what an answer must be (invariants.py)
rpcs.py                  many cases in flight
targets/                 codecs, importers, loaders: each takes any bytes
guided.py, loaders.py    a target under atheris, and all of them side by side
corpus/                  what once went wrong, and what reaches far
__main__.py              `make fuzz`
"""

import os

# Before anything imports TensorFlow, which else says still more of GPUs that are not there.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
