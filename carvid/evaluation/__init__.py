"""J, F and the protocols that sum them up; NumPy and OpenCV only."""
