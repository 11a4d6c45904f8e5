"""`credentials`: lists the Secrets of a DittoServer and what is wrong with them; prints no value but, if asked, one."""

import asyncio
import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import click

from app.cli.options import Source, option, source_options
from app.cli.output import format_table, print_lines
from app.cluster.errors import ClusterError, NotFound, Unavailable
from app.cluster.reader import SECRETS, Reader
from app.cluster.survey import survey
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
from app.storage.unstructured import Manifest, ObjectKey

HEADINGS = ("purpose", "secret", "keys", "state")


@click.command()
@click.argument("name")
@source_options
@option("--namespace", "-n", help="Namespace of the server; by default, the one of the kubeconfig's context.")
@option("--show", is_flag=True, help="Print the user name and the first password of the administrator, too.")
def credentials(name: str, source: Source, namespace: str | None, *, show: bool) -> None:
    """List the Secrets of a DittoServer and what is wrong with them.

    No value is printed, but with --show the password in the Secret of the administrator. It counts only when the server
    starts for the first time: whoever has changed it inside the server since then has to know it. You need the
    permission to get the Secrets.
    """

    async def look() -> tuple[list[Credential], list[str]]:
        async with source.open() as (reader, context_namespace, _):
            live = await survey(reader, namespace or context_namespace, names=[name])
            listings = [await list_credentials(reader, *server) for server in live.servers.items()]
            listed = [item for listing in listings for item in listing]
            passwords = [await read_password(reader, item) for item in listed if item.is_password] if show else []
            return listed, passwords

    listed, passwords = asyncio.run(look())
    print_lines(format_text(listed))
    for password in passwords:
        click.echo(f"\nuser {ADMIN}, password {password}")


@dataclass(frozen=True)
class Credential:
    """A Secret that the pod of a server consumes, and the findings about it."""

    namespace: str
    reference: SecretReference
    is_generated: bool
    findings: tuple[str, ...]

    @property
    def is_password(self) -> bool:
        return self.reference.path == PASSWORD_PATH


async def list_credentials(reader: Reader, key: ObjectKey, server: Manifest) -> list[Credential]:
    namespace, name = key
    spec = read(server).server.spec
    generated = {reference.path for reference in generated_references(name, spec)}

    listed = []
    for reference in consumed_references(name, spec):
        findings = secret_findings(reference, await _get(reader, namespace, reference))
        messages = tuple(finding.message for finding in findings)
        listed.append(Credential(namespace, reference, reference.path in generated, messages))
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
    value = _value(secret, reference.keys[0].name)
    if value is None:
        raise NotFound(f'Secret "{reference.secret}" has no key "{reference.keys[0].name}"')

    text = value.decode(errors="replace")
    if not text.isprintable() or text.encode() != value:
        raise Unavailable(
            f'the password in Secret "{reference.secret}" has characters that a terminal cannot show; '
            f"kubectl get secret {reference.secret} --output yaml has it in base64"
        )
    return text


def _value(secret: Mapping[str, Any], key: str) -> bytes | None:
    if key in (secret.get("stringData") or {}):
        return str(secret["stringData"][key]).encode()
    encoded = (secret.get("data") or {}).get(key)
    return None if encoded is None else base64.b64decode(encoded)


def format_text(credentials: list[Credential]) -> Iterator[str]:
    rows = []
    for credential in credentials:
        reference = credential.reference
        keys = ", ".join(key.name for key in reference.keys)
        state = "; ".join(credential.findings) or ("found, generated" if credential.is_generated else "found")
        rows.append((reference.title, reference.secret or "-", keys, state))

    yield from format_table(HEADINGS, rows, {"state": {"found": "green", "found, generated": "green"}})
