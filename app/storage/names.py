"""Checks the names that the API server accepts, by the rules of k8s.io/apimachinery, and those of DittoServers.

It also reads the tag in the name of an image.
"""

import re

MAX_NAME_CHARACTERS = 253

# The labels that select the pod of a server; its claims get them from the StatefulSet's controller.
APP_LABEL, INSTANCE = "app", "instance"

# The StatefulSet controller labels a server's pods `controller-revision-hash: <name>-<ten characters>`, 63 in all.
MAX_SERVER_NAME_CHARACTERS = 52
SERVER_NAME_PATTERN = "^[a-z]([-a-z0-9]*[a-z0-9])?$"
_SERVER_NAME = re.compile(SERVER_NAME_PATTERN)

_LABEL = "([a-z0-9]|[a-z0-9][-a-z0-9]*[a-z0-9])"
SUBDOMAIN_PATTERN = rf"^{_LABEL}(\.{_LABEL})*$"
_SUBDOMAIN = re.compile(SUBDOMAIN_PATTERN)
_NAME_PART = re.compile("([a-zA-Z0-9][-a-zA-Z0-9_.]*)?[a-zA-Z0-9]")
_MAX_NAME_PART_CHARACTERS = 63
_LABEL_VALUE = re.compile("([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_SECRET_KEY = re.compile("[-._a-zA-Z0-9]+")


def is_server_name(name: str) -> bool:
    """Tells whether the name of a DittoServer can be part of the names of its pods and Services."""
    return len(name) <= MAX_SERVER_NAME_CHARACTERS and _SERVER_NAME.fullmatch(name) is not None


def is_subdomain(name: str) -> bool:
    """Tells whether an object such as a Secret can have this name."""
    return len(name) <= MAX_NAME_CHARACTERS and bool(_SUBDOMAIN.fullmatch(name))


def is_qualified_name(key: str) -> bool:
    """Tells whether a label or a finalizer can have this name."""
    prefix, slash, name = key.rpartition("/")
    if slash and not is_subdomain(prefix):
        return False
    return len(name) <= _MAX_NAME_PART_CHARACTERS and bool(_NAME_PART.fullmatch(name))


def is_label_value(value: str) -> bool:
    return bool(_LABEL_VALUE.fullmatch(value))


def is_annotation_key(key: str) -> bool:
    """Tells whether it is a qualified name; unlike a label's, the prefix of an annotation may have capital letters."""
    prefix, slash, name = key.rpartition("/")
    return is_qualified_name(f"{prefix.lower()}{slash}{name}")


def is_secret_key(key: str) -> bool:
    if len(key) > MAX_NAME_CHARACTERS or key == "." or key.startswith(".."):
        return False
    return bool(_SECRET_KEY.fullmatch(key))


def image_tag(image: str) -> str | None:
    """Returns the tag in the name of an image, before its digest if it has one; None without a tag."""
    _, colon, tag = image.partition("@")[0].rpartition("/")[2].partition(":")
    return tag if colon else None
