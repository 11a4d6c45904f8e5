"""Prepares this machine for a cluster, and cleans up afterwards, also after an earlier run that was killed.

It removes only what bears the names of the cluster.
"""

import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from tests.controlplane.program import Failed
from tests.harness.wait import until

STATE = Path("/var/lib/dittofs-e2e")
LOCK = Path("/run/lock/dittofs-e2e")
# containerd has a folder and a cgroup for each running container.
CONTAINERS = STATE / "run/io.containerd.runtime.v2.task/k8s.io"
CGROUP = "k8s.io"
BRIDGE = "dittofs-e2e"
# The node's address. A loopback address would be refused; this one is on the loopback interface and nowhere else.
ADDRESS = "10.99.0.1"
PODS = "10.244.0.0/24"
SERVICES = "10.96.0.0/16"
# An address that a cloud would give to a load balancer. Nothing has it, and packets to it stay on the machine.
LOAD_BALANCER = "10.98.0.1"
# The same in the other address family; a machine may have it switched off.
HAS_IPV6 = Path("/proc/net/if_inet6").exists()
ADDRESS6 = "fd99::1"
PODS6 = "fd10:244::/64"
SERVICES6 = "fd10:96::/112"
# The kubelet and network plugins set these and do not reset them.
SYSCTLS = (
    *("net/ipv4/ip_forward", *(("net/ipv6/conf/all/forwarding",) if HAS_IPV6 else ())),
    *("vm/overcommit_memory", "vm/panic_on_oom"),
    *("kernel/panic", "kernel/panic_on_oops", "kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes"),
)


@contextmanager
def claim() -> Iterator[None]:
    """Claims the machine for one cluster at a time."""
    if os.geteuid() != 0:
        raise Failed("The end-to-end test runs containers and changes the network: it has to be root")

    with LOCK.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Failed("Another end-to-end test is running on this machine") from None

        yield


def prepare() -> None:
    STATE.mkdir(parents=True)
    (STATE / "sysctls.json").write_text(json.dumps({name: _sysctl(name).read_text() for name in SYSCTLS}))
    _run("ip", "address", "add", f"{ADDRESS}/32", "dev", "lo")
    # A packet for a Service needs a route, one that stays on the machine, before the packet filter sends it to a pod.
    for destination in (SERVICES, LOAD_BALANCER):
        _run("ip", "route", "add", destination, "dev", "lo", "src", ADDRESS)
    if HAS_IPV6:
        # Without the detection of duplicates the address can be used at once.
        _run("ip", "address", "add", f"{ADDRESS6}/128", "dev", "lo", "nodad")
        _run("ip", "route", "add", SERVICES6, "dev", "lo", "src", ADDRESS6)


def clean() -> None:
    """Removes everything; safe to repeat, whatever exists."""
    _kill_containers()
    _unmount()

    for command in (
        ("ip", "link", "delete", BRIDGE),
        ("ip", "route", "delete", SERVICES, "dev", "lo"),
        ("ip", "route", "delete", LOAD_BALANCER, "dev", "lo"),
        ("ip", "address", "delete", f"{ADDRESS}/32", "dev", "lo"),
        ("ip", "route", "delete", SERVICES6, "dev", "lo"),
        ("ip", "address", "delete", f"{ADDRESS6}/128", "dev", "lo"),
        ("nft", "delete", "table", "ip", "kube-proxy"),
        ("nft", "delete", "table", "ip6", "kube-proxy"),
    ):
        _run(*command, check=False)

    if (saved := STATE / "sysctls.json").exists():
        for name, value in json.loads(saved.read_text()).items():
            _sysctl(name).write_text(value)
    shutil.rmtree(STATE, ignore_errors=True)


def containers() -> list[int]:
    """Returns the processes in containers, by their file system: even of a run whose shims and folders are gone."""
    return [int(process.name) for process in Path("/proc").glob("[0-9]*") if _is_contained(process)]


def _is_contained(process: Path) -> bool:
    try:
        elsewhere = (process / "ns/mnt").readlink() != Path("/proc/self/ns/mnt").readlink()
        return elsewhere and f"upperdir={STATE}/" in (process / "mountinfo").read_text()
    except OSError:  # It has ended since it was listed.
        return False


def _kill_containers() -> None:
    # The shims first, because they would clean up at the same time.
    for pid in [*_shims(), *containers()]:
        _kill(pid)
    until(lambda: not [*_shims(), *containers()])

    for folder in sorted(_cgroups(), reverse=True):
        # A process that no longer has a file system is ending, but may not have left its cgroup yet.
        until(partial(_remove_cgroup, folder))


def _remove_cgroup(cgroup: Path) -> bool:
    try:
        cgroup.rmdir()
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        return False
    return True


def _cgroups() -> Iterator[Path]:
    """Yields the cgroups of our containers. Version 2 has one tree, version 1 has one for each controller."""
    root = Path("/sys/fs/cgroup")
    names = [folder.name for folder in CONTAINERS.iterdir()] if CONTAINERS.exists() else []
    trees = [root, *(folder for folder in root.iterdir() if folder.is_dir() and not folder.is_symlink())]

    for top in (tree / CGROUP / name for tree in trees for name in names):
        if top.is_dir():
            yield from (top, *(folder for folder in top.rglob("*") if folder.is_dir()))


def _shims() -> list[int]:
    """Returns the processes of containerd's shims, which outlive it and would clean up after their containers."""
    return [
        int(process.name)
        for process in Path("/proc").glob("[0-9]*")
        if b"containerd-shim" in (line := _command_line(process)) and str(STATE).encode() in line
    ]


def _command_line(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):  # It has ended since it was listed.
        return b""


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _unmount() -> None:
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for point in reversed([point for point in points if Path(point).is_relative_to(STATE)]):
        _run("umount", "--lazy", point)


def _sysctl(name: str) -> Path:
    return Path("/proc/sys", name)


def _run(*command: str, check: bool = True) -> None:
    process = subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)
    if check and process.returncode:
        raise Failed(f"{' '.join(command)}: {process.stderr.strip()}")
