import click
import yaml

from app.cli.output import format_table
from tests.controlplane.cluster import ControlPlane
from tests.harness.command_line import run
from tests.harness.server_table import server


def test_columns_of_a_table_are_aligned() -> None:
    rows = [("files", "Bound", ""), ("a", "Lost", "it is gone")]

    assert list(format_table(("name", "phase", "message"), rows, {})) == [
        "NAME    PHASE   MESSAGE",
        "files   Bound",
        "a       Lost    it is gone",
    ]


def test_a_colour_is_for_one_column_and_moves_no_other() -> None:
    rows = [("Bound", "Bound"), ("b", "Pending")]
    table = list(format_table(("name", "phase"), rows, {"phase": {"Bound": "green"}}))

    assert table[1] == f"Bound   {click.style('Bound', fg='green')}"
    assert [click.unstyle(line) for line in table] == ["NAME    PHASE", "Bound   Bound", "b       Pending"]


def test_gaps_are_printed_on_standard_error(control_plane: ControlPlane, crd: None, namespace: str) -> None:
    pod = {"nodeName": "node1", "containers": [{"name": "dittofs", "image": "sample"}]}
    labels = {"app": "dittofs-server"}
    running = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "files-0", "labels": labels}, "spec": pod}
    here = ("--namespace", namespace)
    control_plane.kubectl("apply", *here, "-f", "-", input=yaml.safe_dump_all([server(), running]))

    control_plane.kubectl("create", "serviceaccount", "viewer", *here)
    may_list = "--resource=pods,persistentvolumeclaims,services,statefulsets.apps,dittoservers.dittofs.dittofs.com"
    control_plane.kubectl("create", "role", "viewer", "--verb=list", may_list, *here)
    account = f"--serviceaccount={namespace}:viewer"
    control_plane.kubectl("create", "rolebinding", "viewer", "--role=viewer", account, *here)
    kubeconfig = control_plane.kubeconfig_for("viewer", namespace)

    volumes = run("df", "--kubeconfig", str(kubeconfig))

    assert volumes.returncode == 0
    assert [line.split()[7] for line in volumes.stdout.splitlines()[1:]] == ["unknown", "unknown"]

    classes, used = volumes.stderr.splitlines()

    assert classes.startswith("storageclasses are unknown: forbidden: ")
    assert used.startswith("used space is unknown on 1 of 1 nodes: forbidden: ")

    plan = run("plan", "-", "--kubeconfig", str(kubeconfig), stdin=yaml.safe_dump(server()))

    assert plan.stdout == f"DittoServer {namespace}/files: nothing changes\n"
    assert plan.stderr == f"{classes}\n"
