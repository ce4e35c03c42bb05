"""SAM on CaR's masks (CaR section 3.3): automatic masks, their cache, their weights."""
