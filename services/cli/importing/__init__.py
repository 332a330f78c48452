"""Rows → batches → gateway.

lanes.py    bounded concurrency that keeps each person's order
kinds.py    how each kind of row is sent and what its answers mean
counts.py   what became of the rows
rejects.py  the file of rows that were not stored
unknown_items.py  which items of events the catalogue does not have
run.py      the whole import
"""
