"""Search an archive: exact indexes, filters, the searcher, and a picture of its hits."""
