"""`credentials`: lists the Secrets of a DittoServer and what is wrong with them; prints no value but, if asked, one."""

import asyncio
import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import click

from app.cli.options import Target, option, report_option, target_options
from app.cli.output import format_table, print_report
from app.cluster.errors import ClusterError, NotFound, Unavailable
from app.cluster.reader import SECRETS, Reader
from app.cluster.survey import list_servers
from app.storage.facts import Secret, Unknown
from app.storage.reading import read
from app.storage.secret_references import (
    ADMIN,
    PASSWORD_PATH,
    SecretReference,
    consumed_references,
    generated_references,
    secret_findings,
)
from app.storage.spec import KIND
from app.storage.unstructured import Manifest, ObjectKey

SERVER_HEADINGS = ("namespace", "server")
HEADINGS = ("purpose", "secret", "keys", "state")


@click.command()
@target_options
@report_option
@option("--show", is_flag=True, help="Also print the user name and the first password of the administrator.")
def credentials(target: Target, output: str, *, show: bool) -> None:
    """List the Secrets of DittoServers and what is wrong with them.

    No value is printed, but with --show the password in the Secret of the administrator. It counts only when the server
    starts for the first time: whoever has changed it inside the server since then has to know it. You need the
    permission to get the Secrets.
    """

    async def look() -> list[Credential]:
        async with target.open() as (reader, scope, _):
            servers = await list_servers(reader, scope.namespace, scope.names, scope.labels)
            listings = [await list_credentials(reader, *item) for item in sorted(servers.items())]
            listed = [item for listing in listings for item in listing]
            if not show:
                return listed
            return [
                replace(item, password=await read_password(reader, item)) if item.is_password else item
                for item in listed
            ]

    listed = asyncio.run(look())
    print_report(output, format_text(listed, wide=output == "wide"), map(as_json, listed))


@dataclass(frozen=True)
class Credential:
    """A Secret that the pod of a server consumes, and the findings about it; `password` only where it was asked for."""

    namespace: str
    server: str
    reference: SecretReference
    is_generated: bool
    findings: tuple[str, ...]
    password: str | None = field(default=None, repr=False)

    @property
    def is_password(self) -> bool:
        return self.reference.path == PASSWORD_PATH

    @property
    def state(self) -> str:
        return "; ".join(self.findings) or ("found, generated" if self.is_generated else "found")


async def list_credentials(reader: Reader, key: ObjectKey, server: Manifest) -> list[Credential]:
    namespace, name = key
    spec = read(server).server.spec
    generated = {reference.path for reference in generated_references(name, spec)}

    listed = []
    for reference in consumed_references(name, spec):
        findings = secret_findings(reference, await _get(reader, namespace, reference))
        messages = tuple(finding.message for finding in findings)
        listed.append(Credential(namespace, name, reference, reference.path in generated, messages))
    return listed


async def _get(reader: Reader, namespace: str, reference: SecretReference) -> Secret | Unknown | None:
    try:
        return Secret.read(await reader.get(SECRETS, reference.secret or "", namespace))
    except NotFound:
        return None
    except ClusterError as error:
        return Unknown(str(error))


async def read_password(reader: Reader, credential: Credential) -> str:
    """Returns the password, or says how to get it where a terminal cannot show it. Raises ClusterError."""
    reference = credential.reference
    secret = await reader.get(SECRETS, reference.secret or "", credential.namespace)
    key, data, plain = reference.keys[0].name, secret.get("data") or {}, secret.get("stringData") or {}
    if key in plain:
        value = str(plain[key]).encode()
    elif data.get(key) is not None:
        value = base64.b64decode(data[key])
    else:
        raise NotFound(f'Secret "{reference.secret}" has no key "{key}"')

    text = value.decode(errors="replace")
    if not text.isprintable() or text.encode() != value:
        raise Unavailable(
            f'the password in Secret "{reference.secret}" has characters that a terminal cannot show; '
            f"kubectl get secret {reference.secret} --output yaml has it in base64"
        )
    return text


def format_text(credentials: Sequence[Credential], *, wide: bool = False) -> Iterator[str]:
    """Yields a table, in which the servers have columns if there are several or if it is wide, and the passwords."""
    if not credentials:
        yield f"no {KIND}s found"
        return

    servers = {(credential.namespace, credential.server) for credential in credentials}
    shows_servers = wide or len(servers) > 1
    rows = []
    for credential in credentials:
        reference = credential.reference
        keys = ", ".join(key.name for key in reference.keys)
        row = (reference.title, reference.secret or "-", keys, credential.state)
        rows.append((credential.namespace, credential.server, *row) if shows_servers else row)

    headings = (*SERVER_HEADINGS, *HEADINGS) if shows_servers else HEADINGS
    yield from format_table(headings, rows, {"state": {"found": "green", "found, generated": "green"}})

    passwords = [credential for credential in credentials if credential.password is not None]
    yield from [""] if passwords else []
    for credential in passwords:
        where = f"{credential.namespace}/{credential.server}: " if shows_servers else ""
        yield f"{where}user {ADMIN}, password {credential.password}"


def as_json(credential: Credential) -> dict[str, Any]:
    reference = credential.reference
    login = {"user": ADMIN, "password": credential.password} if credential.password is not None else {}

    return {
        "namespace": credential.namespace,
        "server": credential.server,
        "purpose": reference.title,
        "secret": reference.secret,
        "keys": [key.name for key in reference.keys],
        "generated": credential.is_generated,
        "findings": list(credential.findings),
        **login,
    }
