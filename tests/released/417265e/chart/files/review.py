"""Creates a DittoServer as a dry run, whose S3 Secret is missing, and sees that the operator warns of it.

So the API server has called the operator over its Service, has trusted its certificate, and has got a sound answer.
"""

import http.client
import json
import os
import ssl
import sys
from pathlib import Path

account, namespace = Path(sys.argv[1]), sys.argv[2]
server = {
    "apiVersion": "dittofs.dittofs.com/v1alpha1",
    "kind": "DittoServer",
    "metadata": {"generateName": "helm-test-"},
    "spec": {
        "storage": {"metadataSize": "1Gi"},
        "s3": {"credentialsSecretRef": {"secretName": "helm-test-has-no-such-secret"}},
    },
}
context = ssl.create_default_context(cafile=account / "ca.crt")
# As the operator's own client: the CAs of many clusters lack an extension that Python 3.13 insists on.
context.verify_flags &= ~ssl.VERIFY_X509_STRICT
host, port = (os.environ[f"KUBERNETES_SERVICE_{name}"] for name in ("HOST", "PORT"))
api_server = http.client.HTTPSConnection(host, int(port), timeout=30, context=context)
api_server.request(
    "POST",
    f"/apis/dittofs.dittofs.com/v1alpha1/namespaces/{namespace}/dittoservers?dryRun=All",
    json.dumps(server),
    {"Authorization": f"Bearer {(account / 'token').read_text().strip()}", "Content-Type": "application/json"},
)
answer = api_server.getresponse()
if answer.status != http.HTTPStatus.CREATED:
    sys.exit(f"The API server refused: {answer.read().decode(errors='replace')}")
warnings = answer.headers.get_all("Warning") or []
sys.stdout.writelines(f"{warning}\n" for warning in warnings)
if not any("helm-test-has-no-such-secret" in warning for warning in warnings):
    sys.exit("The DittoServer was admitted, but the operator was not asked about it.")
