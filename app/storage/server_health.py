"""Reads what a DittoFS server says of itself: which server it is, its shares, and what is wrong with its stores.

The answers are hostile data, as the image can be anything: they are checked, cut and quoted. Nothing here asks.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from ipaddress import ip_address
from itertools import islice
from typing import Any

from app.storage.evidence import quote
from app.storage.names import image_tag
from app.storage.services import selects_pod
from app.storage.unstructured import Manifest

MAX_SHARES = 1_000_000
MAX_STORE_ERRORS = 8
MAX_VERSION_CHARACTERS = 64
MAX_TIME_CHARACTERS = 64
VERSION_PATTERN = r"[0-9]{1,6}\.[0-9]{1,6}(\.[0-9]{1,6})?([-+][0-9A-Za-z.+-]*)?"

# From the first version on, S3 keys are in the server's store records; up to the other they are in its environment.
_CURRENT_SINCE, _LEGACY_UNTIL = (0, 13), (0, 8)
_TOOL_RENAMED_IN, _COMMAND_RENAMED_IN = (0, 5), (0, 24)

# One sample in the text format of Prometheus. Each begins at a line, so that no text takes long to search.
_SAMPLE = r"\ndittofs_%s\{([^\n]{0,1024})\} (\S{1,32})"
_BUILD_INFO = re.compile(_SAMPLE % "build_info")
_REMOTE_UP = re.compile(_SAMPLE % "remote_up")
_VERSION = re.compile(r'\bversion="([^"]{0,64})"')
_SHARE = re.compile(r'\bshare="((?:[^"\\]|\\.){0,256})"')
MAX_SAMPLES = 2000

_STATUS_CODE = re.compile(r"StatusCode: (\d{3})\b")
_NETWORK_ERRORS = (
    "connection refused",
    "connection reset",
    "no such host",
    "no route to host",
    "network is unreachable",
    "i/o timeout",
)
# What a server says of an endpoint that it cannot connect to, and the cause in a few words; the first that matches.
_CONNECTION_ERRORS = {
    **{error: error for error in _NETWORK_ERRORS},
    "signed by unknown authority": "the server does not trust its certificate; name its CA in s3.caSecretRef",
    "certificate has expired": "its certificate has expired, or is not valid yet",
    "certificate": "its certificate is not valid for the host in the endpoint",
    "server gave HTTP response to HTTPS client": "it does not speak TLS; correct the endpoint",
}


class Family(StrEnum):
    """The two kinds of DittoFS servers, which differ in their REST API and in where they keep S3 keys."""

    LEGACY = "Legacy"  # DittoFS up to 0.8
    CURRENT = "Current"  # DittoFS 0.13 or newer


class NotDittoFS(ValueError):
    """The answer is none of a DittoFS server. The message says what is wrong with it, and quotes nothing of it."""


@dataclass(frozen=True)
class ServerHealth:
    """Holds what a server has reported; `started_at` is in RFC 3339, in UTC."""

    family: Family
    started_at: str
    shares: int | None = None  # None when it did not say how many are loaded.
    store_errors: tuple[str, ...] = ()
    version: str | None = None
    reports_stores: bool = True  # Otherwise that there are no errors says nothing.


def read_identity(answer: Any) -> tuple[Family, str]:
    """Reads the answer to /health: which server it is, and when it was started. Raises NotDittoFS."""
    data = _data(answer)
    if data.get("service") != "dittofs":
        raise NotDittoFS("its health does not name the service dittofs")

    started_at = _time(data.get("started_at"))
    if started_at is None:
        raise NotDittoFS("its health has no start time")
    return Family.CURRENT if "control_plane_db" in data else Family.LEGACY, started_at


def read_shares(answer: Any) -> int | None:
    """Reads the answer to /health/ready: the number of shares that are loaded; None when it does not say."""
    if isinstance(answer, Mapping) and answer.get("error") == "no shares configured":
        return 0

    if isinstance(answer, Mapping) and not isinstance(answer.get("data"), Mapping):
        return None

    shares = _data(answer).get("shares")
    if not isinstance(shares, int) or isinstance(shares, bool) or not 0 <= shares <= MAX_SHARES:
        raise NotDittoFS("it does not report a number of shares")
    return shares


def read_store_errors(answer: Any) -> tuple[str, ...]:
    """Reads the answer to /health/stores of a server up to 0.9. Raises NotDittoFS."""
    data = _data(answer)
    # 0.9 has several block stores.
    blocks = [data.get("block_store"), *_list(data.get("block_stores"))]
    stores = [*(("metadata", store) for store in _list(data.get("metadata_stores"))), *(("block", x) for x in blocks)]

    failing = [
        (kind, _short(store.get("name")), store.get("error"))
        for kind, store in stores
        if isinstance(store, Mapping) and store.get("status") not in (None, "healthy")
    ]
    # The server lists them in another order each time.
    failing.sort(key=lambda store: store[:2])
    errors = (
        explain_block_error(error) if kind == "block" else f'metadata store "{quote(name)}" fails: {quote(error)}'
        for kind, name, error in failing[:MAX_STORE_ERRORS]
    )
    return tuple(dict.fromkeys(errors))


def read_metrics(text: str) -> tuple[str | None, tuple[str, ...]] | None:
    """Reads the version, and which shares have a remote store that cannot be reached, from a server's metrics.

    Returns None for the metrics of a server before 0.18, which do not tell.
    """
    build = _BUILD_INFO.search(text)
    if build is None:
        return None
    version = _VERSION.search(build[1])

    samples = islice(_REMOTE_UP.finditer(text), MAX_SAMPLES)
    down = sorted(
        share[1]
        for labels, value in (sample.groups() for sample in samples)
        if value == "0" and (share := _SHARE.search(labels))
    )
    errors = (f'share "{quote(share[:80])}": its remote store is unreachable' for share in down[:MAX_STORE_ERRORS])
    return read_version(version[1]) if version else None, tuple(errors)


def explain_block_error(error: object) -> str:
    """Returns what is wrong with S3 in a few words, or quotes what the server said."""
    text = str(error or "")[:4096]
    if "S3" not in text:
        return f"the content store fails: {quote(text) or 'the server does not say why'}"

    status = _STATUS_CODE.search(text)
    code = status[1] if status else "000"
    if code in ("401", "403"):
        return f"S3 rejects the credentials: {code}"
    if code == "404":
        return "S3 has no such bucket: 404"

    if code in ("301", "307", "400"):
        return f"S3 does not accept the request, perhaps because of the region or the endpoint: {code}"
    if code != "000":
        return f"S3 answers with an error: {code}"

    why = next((cause for sign, cause in _CONNECTION_ERRORS.items() if sign in text), "")
    if not why and "deadline exceeded" in text:
        why = "no answer in time"
    return f"S3 cannot be reached: {why}" if why else f"the content store fails: {quote(text)}"


def read_version(text: object) -> str | None:
    """Returns a version without the v before it; None for anything else, such as `dev` or `latest`."""
    if not isinstance(text, str) or len(text) > MAX_VERSION_CHARACTERS:
        return None

    version = text.removeprefix("v")
    return version if re.fullmatch(VERSION_PATTERN, version) else None


def image_version(image: object) -> str | None:
    """Returns the version that the tag of an image names; None when it names none."""
    return read_version(image_tag(image)) if isinstance(image, str) else None


def family_of_image(image: str) -> Family | None:
    """Tells by the tag which server the image is: `latest` is the newest; None where the tag does not say."""
    tag = image_tag(image)
    if tag == "latest" or (tag is None and "@" not in image):
        return Family.CURRENT

    version = read_version(tag)
    if version is None:
        return None

    numbers = _major_and_minor(version)
    if numbers >= _CURRENT_SINCE:
        return Family.CURRENT
    return Family.LEGACY if numbers <= _LEGACY_UNTIL else None


def takes_keys_from_environment(family: Family, version: str | None) -> bool:
    """Tells whether S3 keys reach a server at its start; from 0.10 to 0.12 it only answers like a newer one."""
    return family is Family.LEGACY or (version is not None and _major_and_minor(version) < _CURRENT_SINCE)


def command_line_tool(family: Family, version: str | None) -> str:
    """Returns the program with which a person uses the API of the server; it was renamed in 0.5."""
    is_renamed = version is not None and _major_and_minor(version) >= _TOOL_RENAMED_IN
    return "dfsctl" if family is Family.CURRENT or is_renamed else "dittofsctl"


def share_removal_command(family: Family, version: str | None) -> str:
    """Returns the command with which a person removes a share, without its name; it was renamed in 0.24."""
    is_older = family is Family.LEGACY or (version is not None and _major_and_minor(version) < _COMMAND_RENAMED_IN)
    return f"{command_line_tool(family, version)} share {'delete' if is_older else 'remove'}"


def api_url(service: Manifest | None) -> str | None:
    """Returns where the API of a server is by its live Service `<name>-api`; None where that leads elsewhere."""
    return _service_url(service, "api")


def metrics_url(service: Manifest | None) -> str | None:
    """Returns where the metrics of a server are by its live Service `<name>-metrics`, as `api_url` does."""
    return _service_url(service, "metrics")


def _service_url(service: Manifest | None, listener: str) -> str | None:
    # Whoever may write Services in the namespace may have changed this one: it must select the server's pod, and have
    # an address that the API server has assigned.
    name = ((service or {}).get("metadata") or {}).get("name") or ""
    server = name.removesuffix(f"-{listener}")
    if service is None or server == name or not selects_pod(service, server):
        return None

    spec = service["spec"]
    port = next((port.get("port") for port in spec.get("ports") or [] if port.get("name") == listener), None)
    try:
        address = ip_address(spec.get("clusterIP") or "")
    except ValueError:
        # A headless Service has the word None.
        return None

    # No Service has such an address; the API server sees to that.
    is_special = address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified
    if not isinstance(port, int) or is_special or getattr(address, "ipv4_mapped", None):
        return None
    return f"http://[{address}]:{port}" if address.version == 6 else f"http://{address}:{port}"


def _major_and_minor(version: str) -> tuple[int, int]:
    major, minor = (int(number) for number in re.split(r"[.+-]", version)[:2])
    return major, minor


def _data(answer: Any) -> Mapping[str, Any]:
    if not isinstance(answer, Mapping) or not isinstance(answer.get("data"), Mapping):
        raise NotDittoFS("its answer is not an object with data")
    data: Mapping[str, Any] = answer["data"]
    return data


def _time(text: Any) -> str | None:
    """Returns a time of RFC 3339 in UTC, to the second."""
    try:
        time = datetime.fromisoformat(text[:MAX_TIME_CHARACTERS])
        return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if time.tzinfo else None
    except (TypeError, ValueError, OverflowError):
        return None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _short(name: object) -> str:
    return str(name)[:80]
