"""Corrections: what a user says of a frame of a finished run, and what follows from it."""
