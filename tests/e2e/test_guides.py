"""People type what the how-to guides say into a real cluster: every command works, and shows what the page shows."""

import json
from datetime import UTC, datetime
from pathlib import Path

from certs.authority import Authority
from tests.e2e.cluster import Cluster
from tests.e2e.file_clients import Files
from tests.e2e.images import CURRENT, OPERATOR, PRIVATE
from tests.e2e.installation import NAME, TAG, helm, install
from tests.e2e.object_store import ObjectStore
from tests.e2e.registry import PASSWORD, USER, Registry
from tests.e2e.servers import POD_SECONDS, server, wait_until_ready
from tests.e2e.stranger import open_shell
from tests.e2e.test_wishes import FIRST_ID, ID_RANGE, ON_DISK, POLICIES, RESTRICTED_V2
from tests.harness.definitions import definition
from tests.harness.dittofs_standin import BUCKET
from tests.harness.guides import GUIDES, ROOT, named_block, type_page
from tests.harness.operator_namespace import Namespace
from tests.harness.shell import Shell
from tests.harness.wait import until

MIRROR = "images.example.com"
CONTENT = "what a client has written"
# About servers that run. The last ones restart the server or change its volumes.
EVERYDAY = (
    "docs/how-to/see-how-a-server-is.md",
    "docs/how-to/see-volume-usage.md",
    "docs/how-to/check-an-installation.md",
    "docs/how-to/mount-a-share.md",
    "docs/how-to/check-manifests.md",
    "docs/how-to/plan-an-edit.md",
    "docs/how-to/create-shares.md",
    "docs/how-to/choose-an-image.md",
    "docs/how-to/label-all-objects.md",
    "docs/how-to/troubleshoot-a-server.md",
    "docs/how-to/runbooks.md",
    "docs/reference/logs.md",
    "docs/explanation/security.md",
    "SECURITY.md",
    "docs/how-to/pause-a-server.md",
    "docs/how-to/restart-a-server.md",
    "docs/how-to/stop-a-server.md",
    "docs/how-to/expand-a-volume.md",
)
SHARES = [{"name": "media", "store": "local"}]


def test_a_server_uses_postgres(user: Namespace, shell: Shell) -> None:
    type_page(GUIDES / "use-postgres.md", shell)

    until(lambda: "the credentials" in user.events("files").get("Restarting", ""), seconds=POD_SECONDS)
    wait_until_ready(user)


def test_servers_in_git_do_not_drift(user: Namespace, shell: Shell) -> None:
    type_page(GUIDES / "keep-servers-in-git.md", shell)


def test_a_server_is_restored_from_its_backup(user: Namespace, shell: Shell) -> None:
    page, files = "back-up-a-server.md", Files(user)

    def back_up() -> None:
        until(lambda: files.exports() == ["/media"], seconds=POD_SECONDS)
        assert files.write("media", "a", CONTENT) == ""
        shell.type(named_block(GUIDES / page, "backup"))
        wait_until_ready(user)
        until(lambda: files.write("media", "a", "an accident") == "", seconds=POD_SECONDS)

    type_page(GUIDES / page, shell, instead={"backup": back_up})

    until(lambda: files.exports() == ["/media"], seconds=POD_SECONDS)
    assert files.read("media", "a") == CONTENT


def test_the_operator_and_a_server_run_on_openshift(
    cluster: Cluster, uninstalled: Namespace, user: Namespace, shell: Shell
) -> None:
    cluster.kubectl("apply", "-f", str(POLICIES / "restricted-v2.yaml"))
    for namespace in (uninstalled.namespace, user.namespace):
        cluster.kubectl("annotate", "namespace", namespace, *(f"{key}={value}" for key, value in ID_RANGE.items()))
        cluster.kubectl("label", "namespace", namespace, *(f"{key}={value}" for key, value in RESTRICTED_V2.items()))
    try:
        type_page(GUIDES / "run-on-openshift.md", shell)

        containers = [pod["spec"]["containers"][0] for pod in uninstalled.list_all("pods")]
        assert {container["securityContext"]["runAsUser"] for container in containers} == {FIRST_ID}
    finally:
        cluster.kubectl("label", "namespace", uninstalled.namespace, *(f"{key}-" for key in RESTRICTED_V2))


def test_an_installation_needs_no_internet(
    cluster: Cluster, uninstalled: Namespace, user: Namespace, shell: Shell
) -> None:
    page, image = "install-without-internet.md", f"{MIRROR}/dittofs-operator:{TAG}"
    cluster.tag(OPERATOR, image)

    with Registry(cluster, MIRROR, PRIVATE) as registry:

        def log_in() -> None:
            command = named_block(GUIDES / page, "login").replace("username=...", f"username={USER}")
            shell.type(command.replace("password=...", f"password={PASSWORD}"))

        type_page(GUIDES / page, shell, instead={"login": log_in})

        assert registry.pulled > 0
        assert {pod["spec"]["containers"][0]["image"] for pod in uninstalled.list_all("pods")} == {image}


def test_a_person_looks_after_servers(cluster: Cluster, operator: Namespace, tmp_path: Path) -> None:
    """The namespace and the servers are called as on the pages."""
    for name in ("media", "storage"):
        cluster.kubectl("create", "namespace", name)
    media = Namespace(cluster, "media")
    media.apply(server(image=CURRENT, storage=ON_DISK, shares=SHARES), server("films"))
    for name in ("files", "films"):
        wait_until_ready(media, name)
    until(lambda: Files(media).exports() == ["/media"], seconds=POD_SECONDS)

    with open_shell(media, tmp_path) as shell:
        (shell.folder / "servers.yaml").write_text(json.dumps(server(image=CURRENT, storage=ON_DISK)))
        (shell.folder / ".venv").symlink_to(ROOT / ".venv")

        def install_anew() -> None:
            helm(cluster, "uninstall", NAME)
            shell.type(named_block(GUIDES / "check-an-installation.md", "install"))

        for page in EVERYDAY:
            type_page(ROOT / page, shell, instead={"install": install_anew})

    cluster.kubectl("delete", "namespace", "media", "storage", "--wait=false")


def test_keys_of_s3_are_rotated(user: Namespace, shell: Shell) -> None:
    page, store, files = "rotate-s3-credentials.md", ObjectStore(user), Files(user)
    store.start(first="first-secret", second="second-secret")
    user.put_secret("s3-credentials", accessKeyId="first", secretAccessKey="first-secret", endpoint=store.url)
    s3 = {"credentialsSecretRef": {"secretName": "s3-credentials"}, "bucket": BUCKET}
    user.apply(server(image=CURRENT, s3=s3, shares=[{"name": "media"}]))
    wait_until_ready(user)
    until(lambda: files.exports() == ["/media"], seconds=POD_SECONDS)

    def adopt() -> None:
        until(lambda: files.write("media", "a", CONTENT) == "second", seconds=POD_SECONDS)
        shell.type(named_block(GUIDES / page, "adopt"))

    type_page(GUIDES / page, shell, instead={"adopt": adopt})


def test_an_endpoint_has_a_private_ca(user: Namespace, shell: Shell) -> None:
    page, store = "use-an-s3-endpoint-with-a-private-ca.md", ObjectStore(user)
    authority = Authority.create("the CA of a company", datetime.now(UTC))
    store.speak_tls(authority)
    store.start(first="first-secret")
    (shell.folder / "private-ca.pem").write_bytes(authority.pem)

    def put_keys() -> None:
        command = named_block(GUIDES / page, "keys").replace("accessKeyId=...", "accessKeyId=first")
        command = command.replace("secretAccessKey=...", "secretAccessKey=first-secret")
        shell.type(command.replace("https://minio.storage.svc:9000", store.url))

    type_page(GUIDES / page, shell, instead={"keys": put_keys})

    until(lambda: Files(user, "minio").exports() == ["/media"], seconds=POD_SECONDS)


def test_other_tools_are_connected(cluster: Cluster, operator: Namespace, user: Namespace, shell: Shell) -> None:
    kinds = {"ServiceMonitor": "servicemonitors", "PrometheusRule": "prometheusrules"}
    definitions = [definition("monitoring.coreos.com", kind, plural) for kind, plural in kinds.items()]
    user.apply(*definitions)
    for manifest in definitions:
        cluster.wait_until_established(manifest["metadata"]["name"])
    for name in ("argocd", "monitoring"):
        cluster.kubectl("create", "namespace", name)
    cluster.kubectl("create", "configmap", "argocd-cm", "--namespace", "argocd")

    type_page(GUIDES / "monitor.md", shell)
    type_page(GUIDES / "connect-other-tools.md", shell)

    assert "PrometheusRule" in helm(cluster, "get", "manifest", NAME)


def test_the_operator_is_upgraded_and_uninstalled(
    cluster: Cluster, operator: Namespace, user: Namespace, shell: Shell
) -> None:
    """It comes last: nothing of the operator is left, and of the servers neither."""
    user.apply(server())
    wait_until_ready(user)
    try:
        type_page(GUIDES / "upgrade-and-uninstall.md", shell)

        assert user.list_all("pvc") == []
    finally:
        install(cluster)
