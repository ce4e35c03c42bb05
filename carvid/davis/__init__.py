"""Ref-DAVIS 2017: its data, its prediction format, and its evaluation."""
