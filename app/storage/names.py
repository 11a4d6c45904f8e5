"""Names that the API server accepts, by the rules of k8s.io/apimachinery."""

import re

from app.storage.reading import LONGEST_NAME

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_NAME_PART = re.compile("([a-zA-Z0-9][-a-zA-Z0-9_.]*)?[a-zA-Z0-9]")
_NAME_PART_CHARACTERS = 63
_SECRET_KEY = re.compile("[-._a-zA-Z0-9]+")


def is_subdomain(name: str) -> bool:
    """Whether a Secret, for one, can have this name."""
    return len(name) <= LONGEST_NAME and bool(_SUBDOMAIN.fullmatch(name))


def is_qualified_name(key: str) -> bool:
    """Whether a label or a finalizer can have this name: up to 63 characters, perhaps after a subdomain and a slash."""
    prefix, slash, name = key.rpartition("/")
    if slash and not is_subdomain(prefix):
        return False
    return len(name) <= _NAME_PART_CHARACTERS and bool(_NAME_PART.fullmatch(name))


def is_annotation_key(key: str) -> bool:
    """Whether it is a qualified name; unlike a label's, the prefix of an annotation may have capital letters."""
    prefix, slash, name = key.rpartition("/")
    return is_qualified_name(f"{prefix.lower()}{slash}{name}")


def is_secret_key(key: str) -> bool:
    if len(key) > LONGEST_NAME or key == "." or key.startswith(".."):
        return False
    return bool(_SECRET_KEY.fullmatch(key))
