"""Measurements against a running cluster, with throw-away people who are deleted afterwards.

people.py     the throw-away people
latency.py    Recommend and an empty call, under one and under many callers
staleness.py  does the next list reflect the feedback just acknowledged?
"""
