"""Reads a kubeconfig by the Kubernetes client library, of which it imports neither models nor APIs.

Those are 900 modules that nothing here needs. They take 35 MB of memory and 150 ms of processor time.
"""

import sys
from importlib.util import find_spec, module_from_spec
from types import ModuleType

from app.cluster.kubeconfig import Selected


def _import_without_init(name: str, **contents: object) -> ModuleType:
    """Imports a package with these contents instead of those of its `__init__`, which would import everything."""
    spec = None if name in sys.modules else find_spec(name)
    if spec:
        sys.modules[name] = module_from_spec(spec)
        vars(sys.modules[name]).update(contents)
    return sys.modules[name]


_import_without_init("kubernetes_asyncio")
# The loader imports the class from here, and uses it only for a client of the library.
_client = _import_without_init("kubernetes_asyncio.client", ApiClient=None)

from kubernetes_asyncio.client.configuration import Configuration  # noqa: E402

vars(_client).setdefault(Configuration.__name__, Configuration)

from kubernetes_asyncio.config.config_exception import ConfigException  # noqa: E402
from kubernetes_asyncio.config.kube_config import KubeConfigLoader  # noqa: E402

# The loader relies on a well-formed kubeconfig: these are its ways to say that one is not.
MALFORMED = (ConfigException, OSError, ValueError, TypeError, AttributeError, KeyError, AssertionError)


async def load(selected: Selected) -> Configuration:
    """Returns how to reach the cluster as the user. Raises one of MALFORMED."""
    content = {
        "current-context": "selected",
        "contexts": [{"name": "selected", "context": {"cluster": "selected", "user": "selected"}}],
        "clusters": [{"name": "selected", "cluster": selected.cluster}],
        "users": [{"name": "selected", "user": selected.user}],
    }
    configuration = Configuration()
    await KubeConfigLoader(config_dict=content, config_base_path="").load_and_set(configuration)
    return configuration
