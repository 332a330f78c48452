"""The demonstration: a person whom the cluster has never seen, and items that it has never seen.

people.py     held-out people of a data set: their first events, and what they did afterwards
ranking.py    one person's ranking of the whole catalogue, through the gateway
stranger.py   a stranger's lists: before, after likes, after a dislike
newcomers.py  items added by text alone, and who ranks them high
claims.py     what the story claims, and whether it holds
tell.py       all chapters, in order
printing.py   lists side by side, for people
"""
