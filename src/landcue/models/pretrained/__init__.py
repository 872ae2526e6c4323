"""Encoders trained by others, one file per library over one protocol; see :mod:`.encoder`."""
