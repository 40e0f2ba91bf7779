"""What an endpoint is, written in endpoint.toml."""
