"""Finds the field of a `podTemplate` that a path in the rendered pod comes from: the indexes of their lists differ."""

import re
from collections.abc import Mapping
from typing import Any

from app.storage.core_types import fields_of
from app.storage.pod import CONTAINER
from app.storage.schema import Schema
from app.storage.strategic_merge import UNITED

_STEP = re.compile(r"\.?(?P<name>[A-Za-z][A-Za-z0-9]*)|\[(?P<key>[^\]]*)\]")


def path_in_patch(path: str, pod_spec: Any, patch: Any) -> tuple[str, bool] | None:
    """Returns the path in the patch, a PodSpec that was merged into the other one; None when it is not from there.

    It also tells whether the patch has that very field, or only something that contains it.

    >>> pod, patch = {"containers": [{"name": "a"}, {"name": "b"}]}, {"containers": [{"name": "b"}]}
    >>> path_in_patch("containers[1].image", pod, patch)
    ('containers[0].image', False)
    """
    field: Schema = {"$ref": "PodSpec"}
    result, position = "", 0

    while match := _STEP.match(path, position):
        name = match["name"] or match["key"]
        if isinstance(patch, list):
            index = _index_in_patch(field, pod_spec, name, patch)
            if index is None:
                break
            pod_spec, patch, step = pod_spec[int(name)], patch[index], f"[{index}]"
            field = field.get("items", {})
        elif isinstance(patch, Mapping) and name in patch:
            known = fields_of(field["$ref"]).get(name, {}) if "$ref" in field else field.get("additionalProperties", {})
            pod_spec = pod_spec.get(name) if isinstance(pod_spec, Mapping) else None
            patch, step, field = patch[name], match[0], known
        else:
            break
        result, position = result + step, match.end()

    # What the patch says nothing about is part of the server's container, or of the pod; elsewhere it lacks something.
    is_incomplete = position < len(path)
    is_own = isinstance(patch, Mapping) and patch.get("name") == CONTAINER
    if not result or (is_incomplete and (is_own or isinstance(patch, list))):
        return None
    return result + path[position:], not is_incomplete


def _index_in_patch(field: Schema, pod_list: Any, index: str, patch: list[Any]) -> int | None:
    if not (isinstance(pod_list, list) and index.isdecimal() and int(index) < len(pod_list)):
        return None

    item, key = pod_list[int(index)], field.get("mergeKey")
    for position, entry in enumerate(patch):
        if entry == item or (
            key and isinstance(entry, Mapping) and isinstance(item, Mapping) and entry.get(key) == item.get(key)
        ):
            return position
    # A list that has no key was replaced as a whole, except for the tolerations.
    is_replaced = key is None and field.get("items") != {"$ref": UNITED}
    return int(index) if is_replaced and int(index) < len(patch) else None
