"""Searching an archive, and measuring how well it is searched."""
