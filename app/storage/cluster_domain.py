"""Decides by which domain the names in the cluster's DNS end."""

from app.storage.names import is_subdomain

DEFAULT_CLUSTER_DOMAIN = "cluster.local"
# With the longest names of a Service and a namespace in front of it, a name in the DNS must not be longer than 253.
MAX_CLUSTER_DOMAIN_CHARACTERS = 120

_OF_SERVICES = "svc."


def is_cluster_domain(text: str) -> bool:
    return len(text) <= MAX_CLUSTER_DOMAIN_CHARACTERS and is_subdomain(text)


def detect_cluster_domain(resolv_conf: str) -> str:
    """Returns the domain that a pod searches for Services by its /etc/resolv.conf; the usual one where there is none.

    A pod searches `<namespace>.svc.<domain> svc.<domain> <domain>`. Of several such lines the last one counts.
    """
    lines = [line.split() for line in resolv_conf.splitlines()]
    searched = next((words[1:] for words in reversed(lines) if words and words[0] == "search"), [])

    for name in (name.rstrip(".").lower() for name in searched):
        domain = name.removeprefix(_OF_SERVICES)
        if domain != name and is_cluster_domain(domain):
            return domain

    return DEFAULT_CLUSTER_DOMAIN
