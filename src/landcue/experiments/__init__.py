"""Experiments: methods x seeds x bits under one protocol, chosen on validation, tested once."""
