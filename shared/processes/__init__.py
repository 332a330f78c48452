"""Programs of ours that another one starts: none outlives the one that started it.

leash.py    a program that is stopped when its parent dies
family.py   a process with its children and theirs, and how they end
lock.py     a file that one process at a time holds
listeners.py  who listens on a port
trainer.py  the training process, as those who start it know it
"""
