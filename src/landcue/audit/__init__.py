"""The audit of a data set: copies, leakage across parts of a split, labels, sizes, broken files."""
