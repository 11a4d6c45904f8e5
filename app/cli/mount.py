"""`mount`: prints the commands and manifests that mount a share of a DittoServer. Writes to no cluster."""

import asyncio
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import click

from app import manifests
from app.cli.candidates import complete_servers, complete_shares
from app.cli.options import Source, namespace_option, option, source_options
from app.cli.output import format_json, print_lines
from app.cluster.errors import ClusterError, NotFound
from app.cluster.reader import NODES, PODS, SERVICES, Reader
from app.cluster.survey import list_servers
from app.storage.finding import one_line
from app.storage.mounting import (
    DEFAULT_SMB_PORT,
    FILE_SERVICE,
    CannotMount,
    Mount,
    Route,
    Routes,
    Via,
    address_of_node,
    plan_mount,
)
from app.storage.mounting_objects import claim, trial_pod, volume
from app.storage.objects import service_name
from app.storage.pod import pod_name
from app.storage.secret_references import ADMIN
from app.storage.unstructured import ObjectKey

# A person who reads the command sees what to replace.
UNKNOWN_NODE = "NODE"


@click.command()
@click.argument("name", shell_complete=complete_servers)
@click.argument("share", required=False, shell_complete=complete_shares)
@source_options
@namespace_option
@option("--pv", is_flag=True, help="Print a PersistentVolume and a claim for pods that use the share.")
@option("--pod", is_flag=True, help="Print a pod that tries the share, along with its volume and claim.")
@option("--shell", is_flag=True, help="Print the commands that mount the share by NFS on a machine.")
@option("--smb", is_flag=True, help="Print the commands that mount the share by SMB.")
@option(
    "--output",
    "-o",
    type=click.Choice(["text", "json", "yaml"]),
    default="text",
    help="Output format: text for people, json or yaml with the addresses and options for programs.",
)
def mount(name: str, share: str | None, source: Source, namespace: str | None, output: str, **kinds: bool) -> None:
    """Print the commands that mount a share of a DittoServer.

    SHARE may be left out if there is only one. Nothing is mounted and nothing is written: the commands are for a shell,
    and the manifests for "kubectl apply -f -". No password is printed.
    """
    flags = [f"--{kind}" for kind, is_wanted in kinds.items() if is_wanted]
    if output != "text":
        flags.append(f"--output {output}")
    if len(flags) > 1:
        raise click.UsageError(f"{' and '.join(flags)} cannot be used together")

    async def look() -> Mount:
        async with source.open() as (reader, context_namespace, _):
            servers = await list_servers(reader, namespace or context_namespace, [name])
            if len(servers) > 1:
                within = ", ".join(sorted(key[0] for key in servers))
                raise click.UsageError(f"{name} exists in several namespaces, choose one with --namespace: {within}")

            [(key, manifest)] = servers.items()
            try:
                service = await reader.get(SERVICES, service_name(key[1], FILE_SERVICE), key[0])
            except NotFound:
                service = None
            return plan_mount(manifest, service, await find_node_address(reader, key), share)

    try:
        plan = asyncio.run(look())
    except CannotMount as error:
        raise NotFound(str(error)) from error
    print_lines(format_mount(plan, flags[0] if flags else ""), plan.notes)


async def find_node_address(reader: Reader, key: ObjectKey) -> str | None:
    """Returns the address of the node on which the pod runs, None when it cannot be found out."""
    try:
        pod = await reader.get(PODS, pod_name(key[1]), key[0])
        return address_of_node(await reader.get(NODES, (pod.get("spec") or {}).get("nodeName") or ""))
    except ClusterError:
        return None


def format_mount(plan: Mount, flag: str) -> Iterator[str]:
    """Yields lines that a shell may run: no text of others begins a line of its own."""
    match flag:
        case "--pv":
            yield from format_manifests(volume(plan), claim(plan))
        case "--pod":
            yield from format_manifests(volume(plan), claim(plan), trial_pod(plan))
        case "--shell":
            yield from map(one_line, format_shell(plan))
        case "--smb":
            yield from map(one_line, format_smb(plan))
        case "--output json":
            yield format_json([as_json(plan)])
        case "--output yaml":
            yield manifests.dump([as_json(plan)]).rstrip()
        case _:
            yield from map(one_line, format_overview(plan))


def format_manifests(*objects: Mapping[str, Any]) -> Iterator[str]:
    yield "# The size is a formality. For pods in another namespace, change the namespace of the claim and in claimRef."
    yield "---\n".join(manifests.dump(manifest) for manifest in objects).rstrip()


def format_overview(plan: Mount) -> Iterator[str]:
    command = command_for(plan, "mount", plan.share)
    yield f"# Share {plan.share} of DittoServer {plan.namespace}/{plan.server}"

    yield ""
    yield from format_shell(plan)
    yield ""
    yield "# On a node of the cluster:"
    yield nfs_command(plan, plan.nfs.inside)

    yield ""
    yield "# For pods: a volume with a claim; or the same with a pod that tries them."
    yield f"{command} --pv | kubectl apply -f -"
    yield f"{command} --pod | kubectl apply -f -"

    yield ""
    yield f"# {plan.why_no_smb or 'By SMB, from Windows and Linux:'}"
    if plan.smb:
        yield f"{command} --smb"


def format_shell(plan: Mount) -> Iterator[str]:
    yield from format_preparation(plan, plan.nfs)
    yield f"sudo mkdir -p {mount_point(plan)}"
    yield nfs_command(plan, plan.nfs.outside)


def format_preparation(plan: Mount, routes: Routes) -> Iterator[str]:
    """Yields comments, and what has to run before the share can be mounted."""
    route = routes.outside

    match route.via:
        case Via.LOAD_BALANCER:
            yield "# On a machine that reaches the load balancer:"
        case Via.NODE_PORT if route.address:
            yield "# On a machine that reaches the node on which the server runs:"
        case Via.NODE_PORT:
            yield f"# On a machine that reaches a node; {UNKNOWN_NODE} is its address, see kubectl get nodes -o wide:"
        case _:
            service = shlex.quote(f"service/{service_name(plan.server, FILE_SERVICE)}")
            forward = f"kubectl -n {shlex.quote(plan.namespace)} port-forward {service}"
            yield "# There is no address outside of the cluster. To try it, let this run in another terminal; for more,"
            yield "# set spec.service.type (docs/how-to/expose-a-server.md)."
            yield f"{forward} {route.port}:{routes.inside.port}"


def nfs_command(plan: Mount, route: Route) -> str:
    address = f"[{route.address}]" if route.is_ipv6 else route.address or UNKNOWN_NODE
    options = ",".join(plan.nfs_options(route))
    return f"sudo mount -t nfs -o {options} {shlex.quote(f'{address}:{plan.path}')} {mount_point(plan)}"


def format_smb(plan: Mount) -> Iterator[str]:
    if plan.smb is None:
        raise NotFound(str(plan.why_no_smb))

    route = plan.smb.outside
    yield f"# The user is {ADMIN}, or one that was created in the server. Both commands ask for the password. The first"
    yield f"# password of {ADMIN} is in Secret {plan.password_secret[0]}; it fails once somebody has changed it."
    yield f"#   {command_for(plan, 'credentials')} --show"

    yield ""
    yield from format_preparation(plan, plan.smb)
    is_default = route.port == DEFAULT_SMB_PORT
    yield "# Windows" if is_default else "# Windows 11 24H2, Windows Server 2025 or newer; others know only port 445"
    # A UNC path cannot contain a colon.
    address = route.address or UNKNOWN_NODE
    host = f"{address.replace(':', '-')}.ipv6-literal.net" if route.is_ipv6 else address
    port = "" if is_default else f" /TCPPORT:{route.port}"
    yield f'net use Z: "\\\\{host}\\{plan.share}" * /user:{ADMIN}{port}'

    yield ""
    yield "# Linux with cifs-utils"
    yield f"sudo mkdir -p {mount_point(plan)}"
    options = ",".join((f"username={ADMIN}", *plan.smb_options(route), "uid=$(id -u)", "gid=$(id -g)"))
    yield f'sudo mount -t cifs -o "{options}" {shlex.quote(f"//{address}/{plan.share}")} {mount_point(plan)}'


def command_for(plan: Mount, command: str, *arguments: str) -> str:
    """Returns a command about the server as the person called this one."""
    program = str(click.get_current_context().find_root().info_name)
    return f"{program} {shlex.join((command, '-n', plan.namespace, plan.server, *arguments))}"


def mount_point(plan: Mount) -> str:
    return shlex.quote(f"/mnt/{plan.share}")


def as_json(plan: Mount) -> dict[str, Any]:
    secret, key = plan.password_secret

    return {
        "namespace": plan.namespace,
        "server": plan.server,
        "share": plan.share,
        "path": plan.path,
        "readOnly": plan.read_only,
        "nfs": _routes_as_json(plan.nfs, plan.nfs_options),
        "smb": plan.smb and _routes_as_json(plan.smb, plan.smb_options),
        "user": ADMIN,
        "passwordSecret": {"name": secret, "key": key},
        "notes": list(plan.notes),
    }


def _routes_as_json(routes: Routes, options: Callable[[Route], Iterable[str]]) -> dict[str, Any]:
    return {
        where: {"via": str(route.via), "address": route.address, "port": route.port, "options": list(options(route))}
        for where, route in (("inside", routes.inside), ("outside", routes.outside))
    }
