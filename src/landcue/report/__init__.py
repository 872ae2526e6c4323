"""Pages people read: one self-contained HTML file each, no network, no script."""
