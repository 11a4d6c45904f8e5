"""Creates a DittoServer as a dry run, whose S3 Secret is missing, and sees that the operator warns of it.

So the API server has called the operator over its Service, has trusted its certificate, and has got a sound answer.
"""

import json
import os
import ssl
import sys
import urllib.error
import urllib.request
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
request = urllib.request.Request(
    "https://{KUBERNETES_SERVICE_HOST}:{KUBERNETES_SERVICE_PORT}".format(**os.environ)
    + f"/apis/dittofs.dittofs.com/v1alpha1/namespaces/{namespace}/dittoservers?dryRun=All",
    json.dumps(server).encode(),
    {"Authorization": f"Bearer {(account / 'token').read_text().strip()}", "Content-Type": "application/json"},
)
context = ssl.create_default_context(cafile=account / "ca.crt")
# As the operator's own client: the CAs of many clusters lack an extension that Python 3.13 insists on.
context.verify_flags &= ~ssl.VERIFY_X509_STRICT
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
try:
    with opener.open(request, timeout=30) as answer:
        warnings = answer.headers.get_all("Warning") or []
except urllib.error.HTTPError as error:
    sys.exit(f"The API server refused: {error.read().decode(errors='replace')}")
print(*warnings, sep="\n")
if not any("helm-test-has-no-such-secret" in warning for warning in warnings):
    sys.exit("The DittoServer was admitted, but the operator was not asked about it.")
