"""Builds CustomResourceDefinitions of other projects, for tests that play their controllers."""

from app.storage.unstructured import Manifest


def definition(group: str, kind: str, plural: str) -> Manifest:
    """Returns a definition that accepts any object of the kind, and has a status."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    # The API server wants this for the groups that belong to Kubernetes.
    approval = (
        {"api-approved.kubernetes.io": "unapproved, a stand-in of the tests"} if group.endswith(".k8s.io") else {}
    )

    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}", "annotations": approval},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
            "versions": [{**version, "subresources": {"status": {}}}],
        },
    }
