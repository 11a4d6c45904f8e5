"""Imports aiohttp without the CAs of the system, which it would read twice for defaults that nothing here uses.

They take 2 MB in every pod. A connection that used these defaults would trust no server.
"""

import os

# Where OpenSSL looks for CAs, see SSL_CTX_set_default_verify_paths(3).
_PLACES = ("SSL_CERT_FILE", "SSL_CERT_DIR")

_before = {place: os.environ.get(place) for place in _PLACES}
os.environ.update(dict.fromkeys(_PLACES, os.devnull))
try:
    import aiohttp
finally:
    for _place, _value in _before.items():
        del os.environ[_place]
        if _value is not None:
            os.environ[_place] = _value

__all__ = ["aiohttp"]
