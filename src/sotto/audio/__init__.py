"""Sound in, windows out."""
