"""Keeps the parts of a pod as they are live whose section of the spec the API server rejects."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any

from app.storage.pod import CONTAINER, S3_CA, server_container
from app.storage.pod_conflicts import (
    CA_VARIABLE,
    OPERATOR_MOUNT_PATHS,
    OPERATOR_PORTS,
    OPERATOR_PREFIX,
    OPERATOR_VARIABLES,
    OPERATOR_VOLUMES,
)
from app.storage.sections import POD_TEMPLATE, Section
from app.storage.unstructured import Manifest


def with_live_sections(wanted: Manifest, live: Mapping[str, Any], kept: Sequence[Section]) -> Manifest:
    """Returns the StatefulSet with some sections as the live one has them; those that it lacks are left out."""
    template, live_template = deepcopy(wanted["spec"]["template"]), live["spec"]["template"]
    if POD_TEMPLATE in kept:
        template = _with_live_pod(template, live_template)

    for section in kept:
        if section == POD_TEMPLATE:
            continue
        # The path continues from the pod template, and the server's container is the only one that it leads into.
        path = section.path.removeprefix("spec.template.").replace("containers[0]", "containers")
        *parents, name = path.split(".")

        target, source = _follow(template, parents), _follow(live_template, parents)
        target.pop(name, None)
        if name in source:
            target[name] = source[name]
    return {**wanted, "spec": {**wanted["spec"], "template": template}}


def _follow(value: Any, path: Sequence[str]) -> Any:
    for name in path:
        value = value.get(name) or {}
        if isinstance(value, list):
            value = next((container for container in value if container["name"] == CONTAINER), {})
    return value


def _with_live_pod(template: Manifest, live: Mapping[str, Any]) -> Manifest:
    """Returns the live pod template with only what the operator alone decides on: image, configuration and volumes.

    Nobody knows what of a live pod comes from a podTemplate that has been replaced by one that is rejected.
    """
    rendered, live_container = server_container(template), server_container(live)

    # Users may have this variable as well, while the operator has none.
    has_ca = any(volume.get("name") == S3_CA for volume in live["spec"].get("volumes") or ())
    variables = (*OPERATOR_VARIABLES, CA_VARIABLE) if has_ca else OPERATOR_VARIABLES

    container = {
        **deepcopy(dict(live_container)),
        **{name: rendered[name] for name in ("name", "image", "imagePullPolicy", "args") if name in rendered},
        "env": _join(rendered, live_container, "env", lambda variable: variable.get("name") not in variables),
        "ports": _join(rendered, live_container, "ports", lambda port: port.get("name") not in OPERATOR_PORTS),
        "volumeMounts": _join(
            rendered, live_container, "volumeMounts", lambda mount: mount.get("mountPath") not in OPERATOR_MOUNT_PATHS
        ),
    }
    others = [item for item in live["spec"]["containers"] if item.get("name") != CONTAINER]
    volumes = _join(template["spec"], live["spec"], "volumes", lambda item: item.get("name") not in OPERATOR_VOLUMES)

    metadata, live_metadata = template["metadata"], live.get("metadata") or {}
    annotations = {
        key: value
        for key, value in (live_metadata.get("annotations") or {}).items()
        if not key.startswith(OPERATOR_PREFIX)
    } | metadata.get("annotations", {})
    return {
        "metadata": {
            "labels": {**(live_metadata.get("labels") or {}), **metadata["labels"]},
            **({"annotations": annotations} if annotations else {}),
        },
        "spec": {**deepcopy(live["spec"]), "containers": [container, *deepcopy(others)], "volumes": volumes},
    }


def _join(
    rendered: Mapping[str, Any], live: Mapping[str, Any], name: str, is_foreign: Callable[[Mapping[str, Any]], bool]
) -> list[Any]:
    return [*rendered.get(name, ()), *(deepcopy(item) for item in live.get(name) or () if is_foreign(item))]
