"""Kubeconfigs of every form, given to this program and to kubectl: both talk to the same cluster as the same user."""

import asyncio
import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.cluster.client import Cluster
from app.cluster.errors import Unavailable
from app.cluster.kubeconfig import WORKAROUND, authenticate, current_context, select
from app.cluster.reader import Resource
from app.settings import default_kubeconfigs
from tests.controlplane.cluster import ControlPlane

REVIEWS = Resource("authentication.k8s.io/v1", "selfsubjectreviews", "SelfSubjectReview", namespaced=False)
NOWHERE = "https://127.0.0.1:1"
# Prints a token only to a caller that passes what kubectl passes.
PLUGIN = """\
#!/bin/sh
case "$KUBERNETES_EXEC_INFO" in *'"interactive":false'*|*'"interactive": false'*) ;; *) exit 3;; esac
[ -z "$SERVER" ] || case "$KUBERNETES_EXEC_INFO" in *"$SERVER"*) ;; *) exit 4;; esac
[ "$1" = get-token ] || exit 5
echo "{\\"apiVersion\\": \\"client.authentication.k8s.io/v1\\", \\"kind\\": \\"ExecCredential\\", \\"status\\": \
{\\"token\\": \\"$TOKEN\\"}}"
"""


def kubeconfig(**parts: Any) -> dict[str, Any]:
    """Builds a kubeconfig from entries by name, and the current context."""
    config: dict[str, Any] = {"apiVersion": "v1", "kind": "Config"}
    for section in ("clusters", "users", "contexts"):
        entries = parts.get(section, {})
        config[section] = [{"name": name, section.removesuffix("s"): entry} for name, entry in entries.items()]
    return config | ({"current-context": parts["current"]} if "current" in parts else {})


def plugin(command: str, token: str, **more: Any) -> dict[str, Any]:
    return {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": command,
            "args": ["get-token"],
            "env": [{"name": "TOKEN", "value": token}],
            "interactiveMode": "Never",
            **more,
        }
    }


@dataclass(frozen=True)
class Site:
    """The address of the API server, and the tokens of its users, who are also in files."""

    folder: Path
    control_plane: ControlPlane
    admin: str
    one: str
    two: str

    @property
    def here(self) -> dict[str, Any]:
        return {"server": self.control_plane.url, "certificate-authority": "ca.crt"}


@dataclass(frozen=True)
class Case:
    """Kubeconfigs by file name, in the order of KUBECONFIG; `context` is what --context says."""

    files: Mapping[str, dict[str, Any] | str]
    context: str = ""
    order: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict)


@pytest.fixture(scope="module")
def site(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Site:
    folder = tmp_path_factory.mktemp("kubeconfigs")
    accounts = {}
    for name in ("one", "two"):
        control_plane.kubectl("create", "serviceaccount", f"kubeconfig-{name}")
        file = control_plane.kubeconfig_for(f"kubeconfig-{name}", "default")
        accounts[name] = json.loads(file.read_text())["users"][0]["user"]["token"]
    for place in (folder / "a", folder / "b", folder / "a" / "bin", folder / "elsewhere"):
        place.mkdir()
    for place in (folder / "a", folder / "b"):
        (place / "ca.crt").write_bytes(control_plane.ca_file.read_bytes())
    (folder / "a" / "token").write_text(accounts["one"])
    (folder / "b" / "token").write_text(f"{accounts['two']}\n")
    for script in (folder / "a" / "plugin", folder / "a" / "bin" / "in-folder", folder / "elsewhere" / "in-path"):
        script.write_text(PLUGIN)
        script.chmod(0o755)
    review = {"apiVersion": REVIEWS.version, "kind": REVIEWS.kind}
    (folder / "review").write_text(json.dumps(review))
    return Site(folder, control_plane, control_plane.token, **accounts)


def cases(site: Site) -> dict[str, Case]:
    context = {"cluster": "here", "user": "me"}
    clusters, contexts = {"here": site.here}, {"here": context}
    one, two, admin = ({"token": token} for token in (site.one, site.two, site.admin))
    base = kubeconfig(clusters=clusters, contexts=contexts, current="here")

    def alone(**user: Any) -> Case:
        return Case({"a/config": kubeconfig(clusters=clusters, contexts=contexts, current="here", users={"me": user})})

    return {
        "parts in two files": Case({"a/config": base, "b/config": kubeconfig(users={"me": two})}),
        "the first user wins": Case(
            {"a/c": kubeconfig(users={"me": one}), "b/c": {**base, "users": kubeconfig(users={"me": two})["users"]}}
        ),
        "entries are not mixed": Case(
            {
                "a/c": kubeconfig(users={"me": {"tokenFile": "token"}}, contexts={"here": context}),
                "b/c": kubeconfig(
                    users={"me": {"token": site.two, "as": "alice"}},
                    clusters=clusters,
                    contexts={"here": {**context, "namespace": "other"}},
                    current="here",
                ),
            }
        ),
        "the first current context": Case(
            {
                "a/c": kubeconfig(clusters=clusters, users={"me": one, "you": two}) | {"current-context": ""},
                "b/c": kubeconfig(contexts={"here": context, "there": {**context, "user": "you"}}, current="there"),
                "b/d": kubeconfig(current="here"),
            }
        ),
        "a missing file is skipped": Case(
            {"a/c": base, "b/c": kubeconfig(users={"me": two})}, order=("a/none", "a/c", "", "b/c")
        ),
        "an empty file": Case({"a/c": "", "b/c": base, "b/d": kubeconfig(users={"me": two})}),
        "a context by name": Case(
            {
                "a/c": kubeconfig(
                    clusters=clusters | {"nowhere": {"server": NOWHERE}},
                    contexts={"far": {"cluster": "nowhere", "user": "me"}, "near": {**context, "namespace": "near"}},
                    users={"me": one},
                    current="far",
                )
            },
            context="near",
        ),
        "token files beside their kubeconfigs": Case(
            {"b/c": base, "a/c": kubeconfig(users={"me": {"tokenFile": "token"}})}
        ),
        "a token file ends in a newline": Case(
            {"a/c": base, "b/c": kubeconfig(users={"me": {"tokenFile": "../b/token"}})}
        ),
        "a token file before a token": alone(token=site.two, tokenFile="token"),
        "empty values are none": alone(token=site.one, tokenFile="", **{"client-certificate-data": ""}),
        "a plugin beside the kubeconfig": alone(**plugin("./plugin", site.one)),
        "a plugin in a folder": alone(**plugin("bin/in-folder", site.two)),
        "a plugin in PATH": Case(
            {"a/c": base, "b/c": kubeconfig(users={"me": plugin("in-path", site.one)})},
            environ={"PATH": f"{site.folder / 'elsewhere'}{os.pathsep}{os.environ['PATH']}"},
        ),
        "a plugin of the second file": Case(
            {"b/c": base, "a/c": kubeconfig(users={"me": plugin("./plugin", site.two)})}
        ),
        "a plugin that needs the cluster": alone(
            **plugin(
                "./plugin",
                site.one,
                provideClusterInfo=True,
                env=[{"name": "TOKEN", "value": site.one}, {"name": "SERVER", "value": site.control_plane.url}],
            )
        ),
        "a token before a plugin": alone(token=site.two, **plugin("./plugin", site.one)),
        "somebody else": alone(
            **admin,
            **{"as": "alice", "as-uid": "7", "as-groups": ["dev", "ops"], "as-user-extra": {"A/b": ["v", "w"]}},
        ),
        "a server of another name": Case(
            {
                "a/c": kubeconfig(
                    clusters={"here": {**site.here, "tls-server-name": "kubernetes"}},
                    contexts=contexts,
                    users={"me": one},
                    current="here",
                )
            }
        ),
        "a server that is not checked": Case(
            {
                "a/c": kubeconfig(
                    clusters={"here": {"server": site.control_plane.url, "insecure-skip-tls-verify": True}},
                    contexts=contexts,
                    users={"me": plugin("./plugin", site.two)},
                    current="here",
                )
            }
        ),
        # What neither of them accepts.
        "no such context": Case({"a/c": base}, context="none"),
        "no such user": Case({"a/c": base}),
        "no such cluster": Case({"a/c": kubeconfig(contexts=contexts, users={"me": one}, current="here")}),
        "no YAML": Case({"a/c": base, "b/c": "users: ["}),
        "two of a name": Case({"a/c": base, "b/c": {"users": [{"name": "me", "user": one}] * 2}}),
        "no current context": Case({"a/c": kubeconfig(clusters=clusters, users={"me": one}, contexts=contexts)}),
        "a plugin that fails": alone(**plugin("./plugin", site.one, args=["something-else"])),
        "a plugin that is missing": alone(**plugin("./none", site.one, installHint="install it")),
        "a plugin that needs a terminal": alone(**plugin("./plugin", site.one, interactiveMode="Always")),
        "an unknown provider": alone(**{"auth-provider": {"name": "azure"}}),
    }


REFUSED = {
    "no such context": "context 'none' does not exist; there are: here",
    "no such user": "user 'me' does not exist; there are: none",
    "no such cluster": "cluster 'here' does not exist; there are: none",
    "no YAML": "is not valid YAML",
    "two of a name": "there are two of the name me in users",
    "no current context": "there is no current-context: choose one with --context",
    "a plugin that fails": "failed with exit code 5",
    "a plugin that is missing": "was not found: install it",
    "a plugin that needs a terminal": "needs standard input to be a terminal",
    "an unknown provider": f"auth-provider azure is not supported: use an exec plugin for it, or {WORKAROUND}",
}
ACCEPTED = [
    "parts in two files",
    "the first user wins",
    "entries are not mixed",
    "the first current context",
    "a missing file is skipped",
    "an empty file",
    "a context by name",
    "token files beside their kubeconfigs",
    "a token file ends in a newline",
    "a token file before a token",
    "empty values are none",
    "a plugin beside the kubeconfig",
    "a plugin in a folder",
    "a plugin in PATH",
    "a plugin of the second file",
    "a plugin that needs the cluster",
    "a token before a plugin",
    "somebody else",
    "a server of another name",
    "a server that is not checked",
]


def prepare(site: Site, case: Case) -> str:
    """Writes the files, and returns the value of KUBECONFIG."""
    for name, content in case.files.items():
        text = content if isinstance(content, str) else yaml.safe_dump(content)
        (site.folder / name).write_text(text)
    return os.pathsep.join(str(site.folder / name) if name else "" for name in case.order or case.files)


def kubectl_identity(site: Site, case: Case, files: str) -> Any:
    """Returns the user and the namespace; None when kubectl refuses."""
    folder = site.control_plane._programs
    environ = os.environ | {"KUBECONFIG": files, "KUBERC": "off"} | dict(case.environ)
    context = [f"--context={case.context}"] if case.context else []

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(folder / "kubectl"), *context, *arguments]
        return subprocess.run(
            command, env=environ, capture_output=True, text=True, cwd="/", stdin=subprocess.DEVNULL, check=False
        )

    asked = run(
        "create", "--raw", "/apis/authentication.k8s.io/v1/selfsubjectreviews", "-f", str(site.folder / "review")
    )
    if asked.returncode:
        return None
    namespace = run("config", "view", "--minify", "--output=jsonpath={.contexts[0].context.namespace}").stdout
    return json.loads(asked.stdout)["status"]["userInfo"], namespace or "default"


async def our_identity(case: Case, files: str) -> Any:
    paths = default_kubeconfigs({"KUBECONFIG": files}, Path("/"))
    async with Cluster.connect(paths, context=case.context) as cluster:
        answer = await cluster.create(REVIEWS, {"apiVersion": REVIEWS.version, "kind": REVIEWS.kind, "metadata": {}})
        return answer["status"]["userInfo"], cluster.namespace


def test_every_case_is_tried(site: Site) -> None:
    assert {*ACCEPTED, *REFUSED} == cases(site).keys()


@pytest.mark.parametrize("name", ACCEPTED)
def test_it_authenticates_like_kubectl(site: Site, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    case = cases(site)[name]
    files = prepare(site, case)
    expected = kubectl_identity(site, case, files)
    monkeypatch.chdir("/")
    for variable, value in case.environ.items():
        monkeypatch.setenv(variable, value)

    assert expected is not None
    assert asyncio.run(our_identity(case, files)) == expected


@pytest.mark.parametrize("name", REFUSED)
def test_it_refuses_what_kubectl_refuses(site: Site, name: str) -> None:
    case = cases(site)[name]
    files = prepare(site, case)

    assert kubectl_identity(site, case, files) is None
    with pytest.raises(Unavailable) as refused:
        asyncio.run(our_identity(case, files))
    assert REFUSED[name] in str(refused.value)
    assert site.one not in str(refused.value)


def test_paths_are_relative_to_their_kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder").mkdir()
    user = {"client-certificate": "tls.crt", "client-key": "/keys/tls.key"}
    cluster = {"server": "127.0.0.1:6443", "certificate-authority": "../ca.crt"}
    context = {"cluster": "here", "user": "me"}
    config = kubeconfig(clusters={"here": cluster}, users={"me": user}, contexts={"here": context}, current="here")
    (tmp_path / "folder" / "config").write_text(yaml.safe_dump(config))
    monkeypatch.chdir(tmp_path)

    selected = select([Path("folder/config")])

    assert selected.user == {"client-certificate": f"{tmp_path}/folder/tls.crt", "client-key": "/keys/tls.key"}
    assert Path(selected.cluster["certificate-authority"]).resolve() == tmp_path / "ca.crt"
    assert selected.cluster["server"] == "https://127.0.0.1:6443"


def test_no_credentials_are_sent_without_tls(tmp_path: Path) -> None:
    """Like kubectl: whoever listens would have them."""
    context = {"cluster": "here", "user": "me"}
    config = kubeconfig(
        clusters={"here": {"server": "http://127.0.0.1:1"}},
        users={"me": {"token": "hunter2", "as": "alice"}},
        contexts={"here": context},
        current="here",
    )
    (tmp_path / "config").write_text(yaml.safe_dump(config))

    assert select([tmp_path / "config"]).user == {"as": "alice"}


def test_an_unsupported_proxy_is_explained(tmp_path: Path) -> None:
    context = {"cluster": "here"}
    cluster = {"server": NOWHERE, "proxy-url": "socks5://127.0.0.1:1080"}
    config = kubeconfig(clusters={"here": cluster}, contexts={"here": context}, current="here")
    (tmp_path / "config").write_text(yaml.safe_dump(config))

    with pytest.raises(ValueError, match=r"^a proxy-url with socks5 is not supported: run kubectl proxy"):
        select([tmp_path / "config"])


@pytest.mark.parametrize(
    ("output", "why"),
    [
        ("hunter2", "gave no ExecCredential with a status"),
        ('{"status": 5}', "gave no ExecCredential with a status"),
        ('{"apiVersion": "v9", "status": {"token": "hunter2"}}', "is not of version"),
        ('{"apiVersion": "client.authentication.k8s.io/v1", "status": {}}', "neither a token nor a certificate"),
        (
            '{"apiVersion": "client.authentication.k8s.io/v1", "status": {"clientKeyData": "hunter2"}}',
            "neither a token nor a certificate",
        ),
    ],
)
def test_the_output_of_a_plugin_is_never_quoted(tmp_path: Path, output: str, why: str) -> None:
    script = tmp_path / "plugin"
    script.write_text(f"#!/bin/sh\ncat <<'END'\n{output}\nEND\n")
    script.chmod(0o755)
    context = {"cluster": "here", "user": "me"}
    users = {"me": plugin("./plugin", "")}
    config = kubeconfig(clusters={"here": {"server": NOWHERE}}, users=users, contexts={"here": context}, current="here")
    (tmp_path / "config").write_text(yaml.safe_dump(config))

    with pytest.raises(ValueError, match=why) as refused:
        asyncio.run(authenticate(select([tmp_path / "config"])))

    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("user", [{"token": "hunter\n2"}, {"as": "alice\r\nX: y"}, {"as": "a", "as-groups": ["g\n"]}])
def test_no_line_break_gets_into_a_header(tmp_path: Path, user: dict[str, Any]) -> None:
    context = {"cluster": "here", "user": "me"}
    clusters = {"here": {"server": NOWHERE}}
    config = kubeconfig(clusters=clusters, users={"me": user}, contexts={"here": context}, current="here")
    (tmp_path / "config").write_text(yaml.safe_dump(config))

    async def connect() -> None:
        async with Cluster.connect(tmp_path / "config"):
            pass

    with pytest.raises(Unavailable, match="cannot be used: a line break") as refused:
        asyncio.run(connect())
    assert "hunter" not in str(refused.value)


def test_the_first_file_with_a_current_context_decides(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a", "b", "c")]
    for file, config in zip(files, (kubeconfig(), kubeconfig(current="b"), kubeconfig(current="c")), strict=True):
        file.write_text(yaml.safe_dump(config))

    assert current_context(files) == "b"
    assert current_context(files[:1]) == ""
