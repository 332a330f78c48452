"""The training service: `python -m services.training.service`, a server like the others.

It runs each training as the process that `warmstart train` runs, `python -m services.training train`, and
needs neither TensorFlow nor Ray itself.

training.py   one training: a value, and what its process's lines make of it
store.py      the trainings on disk, in the runs' own directories
process.py    one training's process: started, followed, stopped
watching.py   one training's updates, handed to any number of readers
trainings.py  all of it: start, resume, stop, watch, list
models.py     published versions, and who is champion
"""
