"""What other tools want of a run: one file a format."""
