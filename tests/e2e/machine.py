"""What a cluster changes on this machine outside its processes, and how all of it goes away: also what a run that was
killed has left. It takes away only what bears the cluster's own names.
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
# Of containerd: a folder for each running container, and a cgroup for each.
CONTAINERS = STATE / "run/io.containerd.runtime.v2.task/k8s.io"
CGROUP = "k8s.io"
BRIDGE = "dittofs-e2e"
# Of the node. A loopback address would be refused; this one is on the loopback interface and nowhere else.
ADDRESS = "10.99.0.1"
PODS = "10.244.0.0/24"
SERVICES = "10.96.0.0/16"
# These are set by the kubelet and by network plugins, for good.
SYSCTLS = (
    *("net/ipv4/ip_forward", "vm/overcommit_memory", "vm/panic_on_oom"),
    *("kernel/panic", "kernel/panic_on_oops", "kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes"),
)


@contextmanager
def claimed() -> Iterator[None]:
    """There is one such cluster on a machine at a time."""
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
    # A packet for a Service needs a way before the packet filter sends it to a pod: one that stays on the machine.
    _run("ip", "route", "add", SERVICES, "dev", "lo", "src", ADDRESS)


def clean() -> None:
    """Safe to repeat, whatever is there or is not."""
    _kill_containers()
    _unmount()
    for command in (
        ("ip", "link", "delete", BRIDGE),
        ("ip", "route", "delete", SERVICES, "dev", "lo"),
        ("ip", "address", "delete", f"{ADDRESS}/32", "dev", "lo"),
        ("nft", "delete", "table", "ip", "kube-proxy"),
        ("nft", "delete", "table", "ip6", "kube-proxy"),
    ):
        _run(*command, check=False)
    if (saved := STATE / "sysctls.json").exists():
        for name, value in json.loads(saved.read_text()).items():
            _sysctl(name).write_text(value)
    shutil.rmtree(STATE, ignore_errors=True)


def containers() -> list[int]:
    """The processes in them, by the file system that is theirs: also of a run whose shims and folders are gone."""
    return [int(process.name) for process in Path("/proc").glob("[0-9]*") if _is_contained(process)]


def _is_contained(process: Path) -> bool:
    try:
        elsewhere = (process / "ns/mnt").readlink() != Path("/proc/self/ns/mnt").readlink()
        return elsewhere and f"upperdir={STATE}/" in (process / "mountinfo").read_text()
    except OSError:  # It has ended since it was listed.
        return False


def _kill_containers() -> None:
    # The shims first: they would clean up meanwhile.
    for pid in [*_shims(), *containers()]:
        _kill(pid)
    until(lambda: not [*_shims(), *containers()])
    for folder in sorted(_cgroups(), reverse=True):
        # A process that has no file system any more is on its way out, but may not have left its cgroup yet.
        until(partial(_removed, folder))


def _removed(cgroup: Path) -> bool:
    try:
        cgroup.rmdir()
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        return False
    return True


def _cgroups() -> Iterator[Path]:
    """Of our containers alone. In version 2 there is one tree, in version 1 one for each controller."""
    root = Path("/sys/fs/cgroup")
    names = [each.name for each in CONTAINERS.iterdir()] if CONTAINERS.exists() else []
    trees = [root, *(each for each in root.iterdir() if each.is_dir() and not each.is_symlink())]
    for top in (tree / CGROUP / name for tree in trees for name in names):
        if top.is_dir():
            yield from (top, *(each for each in top.rglob("*") if each.is_dir()))


def _shims() -> list[int]:
    """They outlive containerd, and would clean up after the containers that it may still know."""
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
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)
    if check and done.returncode:
        raise Failed(f"{' '.join(command)}: {done.stderr.strip()}")
