"""The local cluster: valkey and the five services, each its own process, under one supervisor.

layout.py       which programs, on which ports, with which environment
ports.py        free ports, and who holds a taken one
lock.py         one cluster a data directory
supervisor.py   supervisord as a child process, asked over its socket
health.py       is every server healthy
state.py        cluster.json: where to call, for the other commands
local.py        all of it: start, wait, stop
"""
