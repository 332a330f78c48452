"""The training process: started, followed, stopped.

child.py     the process and its JSON lines
progress.py  a bar for each stage
"""
