"""Ingest over many machines with Ray: each worker reads and encodes, the driver writes."""
