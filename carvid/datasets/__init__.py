"""Data sets on disk: what lies where, and which expressions belong to what."""
