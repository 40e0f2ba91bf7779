"""Windows in, words out."""
