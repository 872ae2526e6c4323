"""Measure retrieval: relevance, rankings with ties, metrics, protocols and reports."""
