"""A certificate authority and the serving certificates that it signs. No I/O but for `python -m certs`."""
