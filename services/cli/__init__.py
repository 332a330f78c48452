"""The `warmstart` command: up, down, import, train, evaluate, recommend, similar, feedback, items, users,
trainings, models, bench, story, demo.

app.py        the commands, put together
commands/     one file a group of commands: options in, tables or JSON out
cluster/      the local cluster: ports, supervisor, health, state file
importing/    rows → batches → gateway, with rejects and a summary
training/     the training process or the training service, and its progress
bench/        latency and staleness, measured against a running cluster
story/        the demonstration and its checks
clients.py    the gateway, called
"""
