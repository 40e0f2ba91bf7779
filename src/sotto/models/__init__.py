"""A model's name in, a verified folder with its weights out."""
