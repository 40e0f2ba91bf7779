"""Words in, answer out."""
