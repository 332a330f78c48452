"""The catalogue as the gateway sees it: a mirror of the item stream, without embeddings.

mirror.py     the items, indexed by category, attribute and age
follower.py   keeps mirrors up to date
"""
