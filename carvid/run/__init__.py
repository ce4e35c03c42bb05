"""What a run leaves, in memory or in its folder."""
