"""Backup and restore of the local cluster's store, while it serves and when it is lost.

archive.py    the file: what is in it, written whole or not at all, read only where it is whole
scratch.py    a Valkey of our own on a directory, for the time of a look
saving.py     a running store → file
restoring.py  file → data directory
__main__.py   the commands, run by `warmstart store`
"""
