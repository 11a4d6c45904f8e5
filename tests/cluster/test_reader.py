import subprocess
import sys


def test_an_offline_check_imports_no_client() -> None:
    """A client takes longer to import than an offline check takes to run."""
    code = "import app.cluster.lookup, sys; print(*{'aiohttp', 'kubernetes_asyncio'} & sys.modules.keys())"

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"
