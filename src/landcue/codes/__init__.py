"""Packed hash codes: their bits, exact nearest codes, statistics."""
