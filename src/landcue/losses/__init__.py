"""Training losses, one per file; pure functions of embeddings ``[n, d]`` and labels ``[n, C]``."""
