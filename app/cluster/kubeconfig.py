"""Merges and resolves kubeconfig files like kubectl, and runs exec plugins.

It never talks to a cluster, and its errors never quote a file.
"""

import asyncio
import base64
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import yaml

Entry = dict[str, Any]

# Long enough for a person to log in with a browser.
PLUGIN_TIMEOUT_SECONDS = 300.0
# Advice where only kubectl can connect.
WORKAROUND = "run kubectl proxy, and use a kubeconfig whose server is http://127.0.0.1:8001"

_CLUSTER_PATHS = ("certificate-authority",)
_USER_PATHS = ("client-certificate", "client-key", "tokenFile")
_AUTH_PROVIDERS = ("gcp", "oidc")
_CLUSTER_INFO = ("server", "tls-server-name", "insecure-skip-tls-verify", "proxy-url", "disable-compression")
_PLUGIN_EXTENSION = "client.authentication.k8s.io/exec"
# A header's name may have these besides letters and digits (RFC 9110).
_HEADER_CHARACTERS = "!#$&'*+-.^_`|~"


@dataclass(frozen=True)
class Selected:
    """The cluster and the user of a context, with absolute paths. The user's exec plugin has not been run yet."""

    namespace: str
    cluster: Entry
    user: Entry

    @property
    def impersonation(self) -> list[tuple[str, str]]:
        """The headers that ask the API server to treat the user as another one."""
        if not (name := self.user.get("as")):
            return []

        headers = [("Impersonate-User", str(name))]
        headers += [("Impersonate-Uid", str(uid)) for uid in [self.user.get("as-uid")] if uid]
        headers += [("Impersonate-Group", str(group)) for group in self.user.get("as-groups") or []]
        for key, values in (self.user.get("as-user-extra") or {}).items():
            headers += [(f"Impersonate-Extra-{quote(key, safe=_HEADER_CHARACTERS)}", str(value)) for value in values]
        return headers


def select(files: Sequence[Path], context: str = "") -> Selected:
    """Selects the current context where none is named. Raises OSError, TypeError and ValueError.

    As in client-go, the first file that has a cluster, user or context of a name provides all of it, and the first file
    with a current context provides that. A relative path starts at the folder of its file.
    """
    contents = [(file, _read(file)) for file in files]
    clusters, users, contexts = (_merge(contents, section) for section in ("clusters", "users", "contexts"))
    name = context or _current_context(contents)
    if not name:
        raise ValueError("there is no current-context: choose one with --context or kubectl config use-context")

    _, selected = _find(contexts, "context", name)
    folder, cluster = _find(clusters, "cluster", str(selected.get("cluster") or ""))
    cluster = _with_absolute_paths(cluster, _CLUSTER_PATHS, folder)

    user: Entry = {}
    if selected.get("user"):
        folder, user = _find(users, "user", str(selected["user"]))
        user = _with_absolute_paths(user, _USER_PATHS, folder)

    server = str(cluster.get("server") or "")
    if not server:
        raise ValueError("the cluster has no server")
    if "://" not in server:
        tls = ("certificate-authority", "certificate-authority-data", "insecure-skip-tls-verify")
        secure = any(cluster.get(name) for name in tls) or any(name.startswith("client-certificate") for name in user)
        server = f"{'https' if secure else 'http'}://{server}"

    cluster = {**cluster, "server": server}
    return Selected(str(selected.get("namespace") or "default"), cluster, _select_credentials(user, cluster))


def current_context(files: Sequence[Path]) -> str:
    """Returns the name of the current context, empty without one. Raises OSError, TypeError and ValueError."""
    return _current_context([(file, _read(file)) for file in files])


def context_names(files: Sequence[Path]) -> list[str]:
    """Returns the names of all contexts. Raises OSError, TypeError and ValueError."""
    return sorted(_merge([(file, _read(file)) for file in files], "contexts"))


async def authenticate(selected: Selected) -> Selected:
    """Runs the user's exec plugin, if there is one. Raises OSError and ValueError."""
    plugin = selected.user.get("exec")
    if not plugin:
        return selected

    user = {name: value for name, value in selected.user.items() if name != "exec"}
    return Selected(selected.namespace, selected.cluster, user | await _run_plugin(plugin, selected.cluster))


def _read(file: Path) -> Entry:
    try:
        content = yaml.safe_load(file.read_bytes())
    except yaml.YAMLError:
        # The error would quote the line, which may be the one with the token.
        raise ValueError(f"{file} is not valid YAML") from None

    if content is None:
        return {}
    if not isinstance(content, dict):
        raise TypeError(f"expected a mapping in {file}")
    return content


def _current_context(contents: Sequence[tuple[Path, Entry]]) -> str:
    currents = (content.get("current-context") for _, content in contents)
    return next((str(current) for current in currents if current), "")


def _merge(contents: Sequence[tuple[Path, Entry]], section: str) -> dict[str, tuple[Path, Entry]]:
    """Returns the entries by name, each with the folder of its file."""
    merged: dict[str, tuple[Path, Entry]] = {}
    for file, content in contents:
        items = content.get(section) or []
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise TypeError(f"expected a list of mappings in {section} of {file}")

        names = set()
        for item in items:
            name, entry = str(item.get("name") or ""), item.get(section.removesuffix("s")) or {}
            if not isinstance(entry, dict):
                raise TypeError(f"expected a mapping for {name} in {section} of {file}")
            if name in names:
                raise ValueError(f"there are two of the name {name} in {section} of {file}")
            names.add(name)

            # An empty value counts as missing.
            fields = {key: value for key, value in entry.items() if value not in (None, "")}
            merged.setdefault(name, (file.absolute().parent, fields))
    return merged


def _find(entries: Mapping[str, tuple[Path, Entry]], kind: str, name: str) -> tuple[Path, Entry]:
    if name not in entries:
        raise ValueError(f"{kind} {name!r} does not exist; there are: {', '.join(sorted(entries)) or 'none'}")
    return entries[name]


def _with_absolute_paths(entry: Entry, paths: Sequence[str], folder: Path) -> Entry:
    absolute: Entry = {name: str(folder / str(entry[name])) for name in paths if name in entry}
    plugin = entry.get("exec")
    if isinstance(plugin, dict) and os.sep in str(plugin.get("command")):
        # A bare name is looked up in PATH.
        absolute["exec"] = {**plugin, "command": str(folder / plugin["command"])}
    return {**entry, **absolute}


def _select_credentials(user: Entry, cluster: Entry) -> Entry:
    """Returns those of the user's credentials that kubectl would use."""
    scheme = urlsplit(str(cluster.get("proxy-url") or "http:")).scheme
    if scheme not in ("http", "https"):
        raise ValueError(f"a proxy-url with {scheme} is not supported: {WORKAROUND}")
    if not cluster["server"].startswith("https:"):
        # Without TLS, kubectl sends no credentials either.
        return {name: value for name, value in user.items() if name.startswith("as")}

    provider = user.get("auth-provider")
    name = provider.get("name") if isinstance(provider, dict) else provider
    if provider and name not in _AUTH_PROVIDERS:
        raise ValueError(f"auth-provider {name} is not supported: use an exec plugin for it, or {WORKAROUND}")

    dropped = set()
    if file := user.get("tokenFile"):
        user = {**user, "token": Path(file).read_text()}
        dropped |= {"tokenFile"}
    if user.get("token") or user.get("username"):
        dropped |= {"exec"}
    return {name: value for name, value in user.items() if name not in dropped}


async def _run_plugin(plugin: Any, cluster: Entry) -> Entry:
    """Returns the credentials that the plugin prints."""
    if not isinstance(plugin, dict) or not plugin.get("command") or not plugin.get("apiVersion"):
        raise ValueError("an exec plugin needs command and apiVersion")

    name = str(plugin["command"])
    command = shutil.which(name)
    if command is None:
        hint = f": {plugin['installHint']}" if plugin.get("installHint") else ""
        raise ValueError(f"exec plugin {name} was not found{hint}")

    mode = plugin.get("interactiveMode") or "IfAvailable"
    has_terminal = sys.stdin is not None and sys.stdin.isatty()
    if mode == "Always" and not has_terminal:
        raise ValueError(f"exec plugin {name} needs standard input to be a terminal")

    interactive = has_terminal and mode != "Never"
    about_cluster = {"cluster": _cluster_info(cluster)} if plugin.get("provideClusterInfo") else {}
    spec = {"interactive": interactive, **about_cluster}
    info = {"apiVersion": plugin["apiVersion"], "kind": "ExecCredential", "spec": spec}
    variables = {str(variable["name"]): str(variable.get("value") or "") for variable in plugin.get("env") or []}

    process = await asyncio.create_subprocess_exec(
        command,
        *map(str, plugin.get("args") or []),
        env=os.environ | variables | {"KUBERNETES_EXEC_INFO": json.dumps(info)},
        stdin=None if interactive else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(PLUGIN_TIMEOUT_SECONDS):
            output, _ = await process.communicate()
    except TimeoutError:
        raise ValueError(f"exec plugin {name} gave no answer within {PLUGIN_TIMEOUT_SECONDS:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()

    if process.returncode:
        raise ValueError(f"exec plugin {name} failed with exit code {process.returncode}")
    return _parse_credentials(output, name, str(plugin["apiVersion"]))


def _cluster_info(cluster: Entry) -> Entry:
    info = {name: cluster[name] for name in _CLUSTER_INFO if name in cluster}
    if data := cluster.get("certificate-authority-data"):
        info["certificate-authority-data"] = data
    elif file := cluster.get("certificate-authority"):
        info["certificate-authority-data"] = base64.b64encode(Path(file).read_bytes()).decode()

    configs = [item["extension"] for item in cluster.get("extensions") or [] if item["name"] == _PLUGIN_EXTENSION]
    return info | ({"config": configs[0]} if configs else {})


def _parse_credentials(output: bytes, name: str, version: str) -> Entry:
    try:
        answer = json.loads(output)
        status = answer["status"]
        token, certificate, key = (status.get(name) for name in ("token", "clientCertificateData", "clientKeyData"))
    except (ValueError, TypeError, KeyError, AttributeError):
        # The error would quote the token.
        raise ValueError(f"exec plugin {name} gave no ExecCredential with a status") from None

    if answer.get("apiVersion") != version:
        raise ValueError(f"exec plugin {name} gave an ExecCredential that is not of version {version}")
    if bool(certificate) != bool(key) or not (token or certificate):
        raise ValueError(f"exec plugin {name} gave neither a token nor a certificate with its key")

    pair = {"client-certificate-data": certificate, "client-key-data": key}
    encoded = {field: base64.b64encode(pem.encode()).decode() for field, pem in pair.items() if pem}
    return encoded | ({"token": token} if token else {})
