"""Creates a DittoServer as a dry run, whose S3 Secret is missing, and sees that the operator warns of it.

So the API server has called the operator over its Service, has trusted its certificate, and has got a sound answer. It
tries again for a number of seconds: after an installation, pods have to start and certificates to be published.
"""

import http.client
import json
import os
import ssl
import sys
import time
from contextlib import suppress
from pathlib import Path

account, namespace, seconds = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
SERVER = {
    "apiVersion": "dittofs.dittofs.com/v1alpha1",
    "kind": "DittoServer",
    "metadata": {"generateName": "helm-test-"},
    "spec": {
        "storage": {"metadataSize": "1Gi"},
        "s3": {"credentialsSecretRef": {"secretName": "helm-test-has-no-such-secret"}},
    },
}
PAUSE_SECONDS = 1


def why_unanswered() -> str | None:
    """Returns None after an answer, whose warnings it prints."""
    try:
        status, warnings, body = create()
    except (OSError, http.client.HTTPException) as error:
        return f"The API server cannot be asked: {error!r}"

    if status != http.HTTPStatus.CREATED:
        return f"The API server refused: {message_of(body)}"
    if not any("helm-test-has-no-such-secret" in warning for warning in warnings):
        return "The DittoServer was admitted, but the operator was not asked about it."
    sys.stdout.writelines(f"{warning}\n" for warning in warnings)
    return None


def create() -> tuple[int, list[str], str]:
    """Creates the DittoServer as a dry run; returns status, warnings and body of the API server's answer."""
    context = ssl.create_default_context(cafile=account / "ca.crt")
    # As the operator's own client: the CAs of many clusters lack an extension that Python 3.13 insists on.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    host, port = (os.environ[f"KUBERNETES_SERVICE_{name}"] for name in ("HOST", "PORT"))
    api_server = http.client.HTTPSConnection(host, int(port), timeout=30, context=context)

    api_server.request(
        "POST",
        f"/apis/dittofs.dittofs.com/v1alpha1/namespaces/{namespace}/dittoservers?dryRun=All",
        json.dumps(SERVER),
        {"Authorization": f"Bearer {(account / 'token').read_text().strip()}", "Content-Type": "application/json"},
    )
    answer = api_server.getresponse()
    return answer.status, answer.headers.get_all("Warning") or [], answer.read().decode(errors="replace")


def message_of(body: str) -> str:
    """Returns what the API server says on one line; an error is an object with a message, or text."""
    with suppress(ValueError, TypeError, KeyError):
        body = json.loads(body)["message"]
    return " ".join(body.split())


deadline = time.monotonic() + seconds
reported = None
while (reason := why_unanswered()) and time.monotonic() < deadline:
    if reason != reported:
        sys.stdout.write(f"Waiting for the operator to answer. {reason}\n")
        sys.stdout.flush()
        reported = reason
    time.sleep(PAUSE_SECONDS)

if reason:
    within = f" within {seconds} seconds" if seconds else ""
    sys.exit(f"The operator did not answer an admission review{within}. {reason}")
