"""The durable archive: a folder with a manifest, a table of records and the model."""
