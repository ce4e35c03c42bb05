"""J and F, confusion matrices, and the protocols that sum them up; NumPy and OpenCV only."""
