"""Names the operator's own pods, and the commands that show them, their log and their Helm release to a person."""

import shlex

from app.storage.objects import OPERATOR

# Where the guides install the operator.
OPERATOR_NAMESPACE = "dittofs-system"
# The labels that the chart gives the Deployment, and in addition its pods.
DEPLOYMENT_SELECTOR = f"app.kubernetes.io/name={OPERATOR}"
POD_SELECTOR = f"{DEPLOYMENT_SELECTOR},app.kubernetes.io/component=operator"
# Where they serve probes and metrics, unless --health-listen says otherwise.
HEALTH_PORT = 8081

LIST_RELEASES = "helm list -A --filter dittofs"


def describe_pods(namespace: str) -> str:
    """Returns the command that shows what their nodes report about the pods; an empty namespace stands for all."""
    return f"kubectl {_within(namespace)} describe pods -l {POD_SELECTOR}"


def show_log(namespace: str) -> str:
    """Returns the command that shows the last lines of what the pods log."""
    return f"kubectl {_within(namespace)} logs -l {POD_SELECTOR} --tail=50"


def _within(namespace: str) -> str:
    return f"-n {shlex.quote(namespace)}" if namespace else "-A"
