"""Drawn scenes with exact truth: for carvid's example, its tests, and its embedded model."""
