"""Decides about certificate authorities and the serving certificates they sign. Only `python -m certs` does I/O."""
