"""Images, labels, splits and where they come from. No torch."""
