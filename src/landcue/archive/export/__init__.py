"""Archives in the formats of other tools."""
