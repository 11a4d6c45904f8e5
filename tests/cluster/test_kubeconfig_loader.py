import subprocess
import sys


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_no_models_and_no_apis_are_imported() -> None:
    """They are 900 modules and 35 MB."""
    code = """
import sys
import app.cluster.kubeconfig_loader
print(*sorted(name for name in sys.modules if name.startswith("kubernetes_asyncio.client.")))
"""

    assert run(code).split() == ["kubernetes_asyncio.client.configuration", "kubernetes_asyncio.client.exceptions"]


def test_a_library_that_was_imported_before_stays_whole() -> None:
    code = """
from kubernetes_asyncio import client
from kubernetes_asyncio.config.kube_config import KubeConfigLoader as whole
from app.cluster import kubeconfig_loader
print(client.ApiClient.__name__, client.CoreV1Api.__name__, kubeconfig_loader.KubeConfigLoader is whole)
"""

    assert run(code).split() == ["ApiClient", "CoreV1Api", "True"]
