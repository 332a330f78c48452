"""How the operating system shares processors among a server's threads and its neighbours."""

from __future__ import annotations

import os


def schedule(policy: str) -> str:
    """Sets the policy of this process, and of all threads and processes that it starts from now on; returns
    why it could not be set, empty where it was. Call it before there are threads.

    policy: "batch" or "other", see sched(7). Whoever wakes up under "batch" waits until the one that computes
    has had its turn. gRPC wakes some six threads for a call, each of which would else throw a computing one
    off its processor, and what that has in the caches out of them.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_BATCH if policy == "batch" else os.SCHED_OTHER, os.sched_param(0))
    except AttributeError:
        return "this system has no such policies"
    except OSError as error:
        return str(error)
    return ""
