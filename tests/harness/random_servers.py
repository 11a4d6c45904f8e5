"""Random DittoServers: some fields are left out of one that has them all, and a few have another value."""

import json
from random import Random
from typing import Any

from app.storage.unstructured import Manifest
from tests.harness.every_field import EVERY_FIELD, Path, fields, value_at
from tests.harness.server_table import server

_FIELDS = dict(fields())
_REQUIRED = {"storage", *(name for _, schema in fields() for name in schema.get("required", ()))}
_LONG = "x" * 70
_VALUES: dict[str, tuple[Any, ...]] = {
    "string": (
        None,
        "",
        "a",
        "A b",
        _LONG,
        "a\n",
        "0Gi",
        "5Gi",
        "5G",
        "2Ti",
        "/",
        7,
        {},
        True,
        "é",
        "PersistentVolumeClaim",
    ),
    "integer": (None, 0, 1, -1, 445, 2049, 8080, 9090, 12049, 1445, 30049, 65535, 65536, 2**31, "1", 1.5, True),
    "boolean": (None, True, False, "true", 0),
    "object": (None, {}, [], "a", {"a": "b"}, {"a": 1}, {"a": None}, {"a": _LONG}, {"app": "x"}, {"dittofs.io/x": "y"}),
    "array": (None, [], {}, "a", [None], ["a"], [{}], [{"name": "a"}], [{"name": "a"}, {"name": "a"}], ["IPv6"]),
}


def random_server(random: Random) -> Manifest:
    """Leaves out some fields that are not required, and gives up to three another value, or none."""
    spec = json.loads(json.dumps(EVERY_FIELD))
    share = random.random() / 3
    for path in _FIELDS:
        if random.random() < share and path[-1] not in _REQUIRED:
            _set(spec, path, None)

    for path in random.sample(list(_FIELDS), random.choice((0, 0, 1, 1, 2, 3))):
        schema = _FIELDS[path]
        value = random.choice((*_VALUES[schema["type"]], *schema.get("enum", ())))
        _set(spec, path, value)
    return server(**spec)


def _set(spec: Any, path: Path, value: Any) -> None:
    """Sets a field whose section is there; None leaves it out, at times as a null."""
    *parents, last = path
    section = value_at(spec, tuple(parents))
    if isinstance(section, dict) and isinstance(last, str):
        section[last] = value
    elif isinstance(section, list) and section and last == 0 and value is not None:
        section[0] = value
