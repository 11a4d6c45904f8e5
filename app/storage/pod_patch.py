"""Changes the rendered pod as the spec asks: by the shortcuts, such as `nodeSelector`, and then by `podTemplate`."""

from app.storage.pod import service_account, without_nulls
from app.storage.spec import Spec
from app.storage.strategic_merge import strategic_merge
from app.storage.unstructured import Manifest


def patch_pod(template: Manifest, spec: Spec) -> Manifest:
    """Returns the pod template with what the spec changes in it; the template itself where that is nothing."""
    shortcuts: Manifest = {
        "affinity": spec.affinity,
        "imagePullSecrets": [{"name": secret.name} for secret in spec.image_pull_secrets or ()],
        "nodeSelector": spec.node_selector,
        "tolerations": spec.tolerations,
    }
    shortcuts = without_nulls({name: value for name, value in shortcuts.items() if value})
    patch = spec.pod_template
    if not shortcuts and patch is None:
        return template

    pod_spec = strategic_merge("PodSpec", template["spec"], shortcuts)
    if patch is None:
        return {**template, "spec": pod_spec}

    removed = {*(patch.remove_defaults or ())} - {*(spec.pod_security_context or {})}
    pod_spec = strategic_merge("PodSpec", pod_spec, {"securityContext": dict.fromkeys(removed)})

    metadata = dict(template["metadata"])
    for name, entries in (("labels", patch.metadata.labels), ("annotations", patch.metadata.annotations)):
        if entries:
            metadata[name] = {**metadata.get(name, {}), **entries}

    merged = strategic_merge("PodSpec", pod_spec, patch.spec or {})
    # A null removes defaults, and this is none.
    account = spec.s3.service_account_name or merged.get("serviceAccountName") or merged.get("serviceAccount")
    return {"metadata": metadata, "spec": {**merged, **service_account(account)}}
