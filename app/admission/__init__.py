"""Carries decisions to the API server as answers to admission reviews."""
