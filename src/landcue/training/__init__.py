"""Training: configuration, loop, resumable state, logs."""
