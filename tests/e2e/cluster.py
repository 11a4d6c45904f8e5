"""A real cluster whose only node is this machine.

It adds a scheduler, a kubelet, containerd and a pod network to the tests' control plane. It needs root, reaches no
other machine, and leaves nothing behind.
"""

import json
import os
import subprocess
from ipaddress import ip_network
from pathlib import Path
from typing import Self

from app.storage.unstructured import Manifest
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.program import Program
from tests.e2e import machine
from tests.e2e.build import Programs
from tests.harness.wait import until

NODE = "node1"
PAUSE_IMAGE = "pause:e2e"
# By family; the first is that of a Service that does not choose.
ADDRESSES = (machine.ADDRESS, *((machine.ADDRESS6,) if machine.HAS_IPV6 else ()))
PODS = (machine.PODS, *((machine.PODS6,) if machine.HAS_IPV6 else ()))
SERVICES = (machine.SERVICES, *((machine.SERVICES6,) if machine.HAS_IPV6 else ()))
OPTIONS = {
    "kube-apiserver": (
        f"--advertise-address={machine.ADDRESS}",
        f"--service-cluster-ip-range={','.join(SERVICES)}",
        "--endpoint-reconciler-type=lease",
        "--kubelet-preferred-address-types=InternalIP",
        "--allow-privileged=true",
    ),
}


class Cluster(ControlPlane):
    """Runs inside a `with`; its folder has logs and configuration, machine.STATE has what containers need."""

    address = machine.ADDRESS

    def __init__(self, programs: Programs, folder: Path) -> None:
        machine.clean()  # An earlier run that was killed may have left something.
        machine.prepare()
        super().__init__(programs.controlplane, folder)

        self._node = programs.node
        self._containers = programs.containers
        self._socket = machine.STATE / "containerd.sock"
        # A folder for each host, which containerd reads whenever it pulls.
        self.registries = folder / "registries"
        # containerd looks for its shim, the bridge plugin for its address manager, and the kubelet for mount, by name.
        self._path = f"{programs.mount}:{programs.containers}:{os.environ['PATH']}"

    def __enter__(self) -> Self:
        super().__enter__()
        try:
            self._start_containerd()
            self._start_node()
            until(lambda: "True" in self._node_is_ready())
        except BaseException:
            self._stop()
            raise
        return self

    def load(self, archive: Path) -> None:
        """Loads an image from a docker-archive, so that the kubelet finds it."""
        self.ctr("images", "import", str(archive))

    def tag(self, image: str, name: str) -> None:
        """Gives an image that is loaded one more name, as it is called in a registry that nobody reaches from here."""
        self.ctr("images", "tag", "--force", _full_name(image), _full_name(name))

    def save(self, image: str, archive: Path) -> None:
        """Saves an image that is loaded, in the layout of OCI."""
        self.ctr("images", "export", str(archive), _full_name(image))

    def ctr(self, *args: str) -> str:
        address = ("--address", self._socket, "--namespace", "k8s.io")
        return subprocess.run(
            [self._containers / "ctr", *address, *args], check=True, capture_output=True, text=True, timeout=120
        ).stdout

    def _start_containerd(self) -> None:
        config = self.folder / "containerd.toml"
        config.write_text(_containerd_config(self._socket, self._containers, self.folder, self.registries))
        self._start("containerd", f"--config={config}")
        self._wait_for(self._containerd_answers, "containerd")

    def _start_node(self) -> None:
        (self.folder / "kubelet.json").write_text(json.dumps(_kubelet_config(self._socket)))
        kubeconfig = f"--kubeconfig={self.kubeconfig}"

        self._start("kube-scheduler", kubeconfig, "--leader-elect=false", "--secure-port=0")
        self._start(
            "kubelet",
            kubeconfig,
            "--config=kubelet.json",
            f"--root-dir={machine.STATE / 'kubelet'}",
            f"--cert-dir={self.folder / 'kubelet-certs'}",
            f"--hostname-override={NODE}",
            f"--node-ip={','.join(ADDRESSES)}",
        )
        self._start(
            "kube-proxy",
            kubeconfig,
            f"--hostname-override={NODE}",
            "--proxy-mode=nftables",
            "--masquerade-all",  # Otherwise a pod's answer to another pod would bypass the packet filter.
            "--conntrack-max-per-core=0",
            "--conntrack-min=0",
            "--conntrack-tcp-timeout-established=0s",
            "--conntrack-tcp-timeout-close-wait=0s",
            f"--healthz-bind-address={machine.ADDRESS}:10256",
            f"--metrics-bind-address={machine.ADDRESS}:10249",
        )

    def _start(self, name: str, *options: str) -> None:
        folders = (self._programs, self._node, self._containers)
        program = next(folder / name for folder in folders if (folder / name).exists())
        log = self.folder / f"{name}.log"
        environ = os.environ | {"PATH": self._path}
        command = (program, *options, *OPTIONS.get(name, ()))
        self._running[name] = Program(*command, folder=self.folder, log=log, environ=environ)

    def _stop(self) -> None:
        # The kubelet first, because it would restart what is stopped.
        for name in ("kubelet", "kube-proxy", "kube-scheduler", "containerd"):
            if program := self._running.pop(name, None):
                program.stop()

        super()._stop()
        machine.clean()

    def _containerd_answers(self) -> bool:
        try:
            self.ctr("version")
        except subprocess.CalledProcessError:
            return False
        return True

    def _node_is_ready(self) -> str:
        wanted = 'jsonpath={.status.conditions[?(@.type=="Ready")].status}'
        return self.kubectl("get", "node", NODE, "-o", wanted, check=False).stdout


def _containerd_config(socket: Path, programs: Path, folder: Path, registries: Path) -> str:
    """Returns a configuration that reaches no registry: nothing listens at the address it has for them."""
    network = folder / "network"
    network.mkdir()
    (network / "pods.conflist").write_text(json.dumps(_network_config()))
    (registries / "_default").mkdir(parents=True)
    (registries / "_default" / "hosts.toml").write_text('server = "http://127.0.0.1:1"\n')

    return f"""
version = 3
root = "{machine.STATE / "containerd"}"
state = "{machine.STATE / "run"}"

[grpc]
address = "{socket}"

[plugins.'io.containerd.internal.v1.opt']
path = "{machine.STATE / "opt"}"

[plugins.'io.containerd.nri.v1.nri']
disable = true

[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = "{PAUSE_IMAGE}"

[plugins.'io.containerd.cri.v1.images'.registry]
config_path = "{registries}"

[plugins.'io.containerd.cri.v1.runtime']
# This machine may itself be a container, and may not lower the value that its parent has set.
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
SystemdCgroup = false

[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ["{programs}"]
conf_dir = "{network}"
"""


def _network_config() -> Manifest:
    addresses = {"type": "host-local", "dataDir": str(machine.STATE / "addresses")}
    # No default route: a pod reaches pods, Services and the node.
    nodes = [str(ip_network(address)) for address in ADDRESSES]
    routes = [{"dst": destination} for destination in (*SERVICES, *nodes)]
    ipam = {**addresses, "ranges": [[{"subnet": subnet}] for subnet in PODS], "routes": routes}
    bridge = {"type": "bridge", "bridge": machine.BRIDGE, "isGateway": True, "hairpinMode": True, "ipam": ipam}
    return {"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge]}


def _full_name(image: str) -> str:
    """Returns the name that containerd has for an image that a pod may call by a shorter one."""
    host, _, rest = image.rpartition("/")
    first = host.partition("/")[0]
    if "." in first or ":" in first or first == "localhost":
        return image
    return f"docker.io/{host or 'library'}/{rest}"


def _kubelet_config(socket: Path) -> Manifest:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": machine.ADDRESS,
        "healthzPort": 0,
        "containerRuntimeEndpoint": f"unix://{socket}",
        # Only this machine reaches that address.
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "cgroupDriver": "cgroupfs",
        "cgroupsPerQOS": False,
        "enforceNodeAllocatable": [],
        "failCgroupV1": False,
        "failSwapOn": False,
        "localStorageCapacityIsolation": False,
        "makeIPTablesUtilChains": False,
        # A full disk on a developer's machine must not evict pods.
        "evictionHard": {"memory.available": "0%", "nodefs.available": "0%", "imagefs.available": "0%"},
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
    }
