"""Masks to look at: the overlay video and the web page."""
