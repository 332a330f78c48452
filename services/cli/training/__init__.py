"""Training: a process of the command line's own, or one of the training service.

child.py      the process and its JSON lines: started, followed, stopped
clients.py    the training service, called
following.py  a training there, followed
progress.py   a bar for each stage
printing.py   what a training came to
"""
