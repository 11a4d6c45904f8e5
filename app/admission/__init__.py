"""Answers the API server's admission reviews with what `storage` decides. Knows nothing about certificates."""
