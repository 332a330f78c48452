"""Events → context: the numpy code that training and serving share, so that they cannot drift apart.

labels.py     signed label of an event (likes pull, dislikes push)
profiles.py   decayed content, category and social profiles
vectors.py    attributes and request context as fixed-length vectors
batch.py      user contexts → padded model inputs
"""
