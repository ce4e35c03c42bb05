"""Data sets on disk: what lies where, and which expressions belong to what.

Each has a file here, and a line in `open.py`, which knows them all.
"""
