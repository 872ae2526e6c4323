"""Backbones, heads, the encoder and its checkpoint folder."""
