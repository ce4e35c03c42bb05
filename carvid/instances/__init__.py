"""Instances: every thing of an expression has a label and a track of its own."""
