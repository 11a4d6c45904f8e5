import subprocess
import sys


def test_without_a_cluster_its_client_is_not_even_imported() -> None:
    """It takes longer to import than an offline check takes to run."""
    code = "import app.cluster.lookup, sys; sys.exit('kubernetes_asyncio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
