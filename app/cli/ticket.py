"""Renders what was collected as the files of a support ticket, without secrets. Asks nobody, and decides nothing."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import click

from app import manifests
from app.cli.checkup import check_as_json, format_checks
from app.cli.output import format_json
from app.cli.screen import format_overview, format_screen
from app.cli.server_report import ServerReport, as_json, mask_events
from app.cluster.collection import LOG_LINES, Collection
from app.storage.checkup import Check
from app.storage.facts import Unknown
from app.storage.finding import one_line
from app.storage.installation import Installation
from app.storage.objects import OPERATOR
from app.storage.operator_checks import OperatorState
from app.storage.redacted_object import mask_strings, redact_object
from app.storage.secret_mask import MIN_VALUE_CHARACTERS, SecretMask
from app.storage.spec import API_VERSION, KIND, PLURAL
from app.storage.unstructured import Manifest, ObjectKey

_README = """\
Report of `kubectl dittofs report`, for a support ticket about DittoServers.

Written:     {now:%FT%TZ}
Program:     dittofs-operator {program}
Kubernetes:  {kubernetes}
Operator:    {operators}

What is in it
  index.txt                what could not be read, and what was left out for its size
  doctor.txt, doctor.json  the checks of `kubectl dittofs doctor`
  status.txt               a line for each DittoServer, the worst first
  cluster/                 StorageClasses, webhook configurations, and the CustomResourceDefinition without its schema
  operator/NAMESPACE/      Deployment, pods, Lease, Events, logs and metrics of the operator
  servers/NAMESPACE/NAME/  a DittoServer: its screen, objects, claims with their volumes, and the logs of its pod

What is not in it
  Secrets: only their names, types and keys. Their values were read, where you may read them, to find them in everything
  else, in every usual encoding: they are replaced with {mask}, and a line that has one in an unusual encoding is left
  out. Where a Secret of a server may not be read, the logs of its pod are left out.
  Annotations of others, values of environment variables, arguments of containers, headers of probes, options of
  drivers, and data of ConfigMaps other than the server's configuration.
  In logs and messages also whatever looks like a password, a token, a key, or the credentials in a URL.
  Of each log, the last {lines} lines are kept.

Look through it before you pass it on: it has names of your namespaces, servers, nodes, shares and images. A value that
a Secret no longer has, that has fewer than {shortest} characters, or that is a word of this text, can only be
recognized by what is around it.
"""


@dataclass(frozen=True)
class Ticket:
    """The content of a support ticket; `servers` and `operators` are what was collected about each."""

    installation: Installation
    checks: Sequence[Check]
    reports: Sequence[ServerReport]
    servers: Mapping[ObjectKey, Collection] = field(default_factory=dict)
    operators: Mapping[str, Collection] = field(default_factory=dict)
    gaps: tuple[str, ...] = ()


def ticket_files(ticket: Ticket) -> dict[str, str]:
    """Returns the text of each file by its path; the same ticket has the same files."""
    collections = [*ticket.servers.values(), *ticket.operators.values()]
    values = [value for item in collections for value in item.secrets]
    # Everybody knows that these words are in a report: whoever sees which of them is masked would know a secret.
    titles = [report.title for report in ticket.reports]
    vocabulary = "\n".join((_README, API_VERSION, KIND, PLURAL, OPERATOR, *titles))
    mask = SecretMask(value for value in values if value not in vocabulary)
    reports = [mask_events(report, mask) for report in ticket.reports]

    screens = {
        "README.txt": _readme(ticket),
        "index.txt": _index(ticket),
        "doctor.txt": _plain(format_checks(ticket.checks)),
        "status.txt": _plain(format_overview(reports, wide=True)),
    }
    files = {
        "doctor.json": format_json(mask_strings(list(map(check_as_json, ticket.checks)), mask)),
        "status.json": format_json(mask_strings(list(map(as_json, reports)), mask)),
        **{f"cluster/{name}": text for name, text in _cluster_files(ticket.installation, mask)},
    }

    for operator in _operators(ticket.installation):
        metrics = {pod: text for pod, text in operator.metrics.items() if not isinstance(text, Unknown)}
        files |= {f"operator/{operator.namespace}/metrics/{pod}.txt": mask.text(text) for pod, text in metrics.items()}
    for namespace, collection in ticket.operators.items():
        folder = f"operator/{namespace}"
        files |= {f"{folder}/{name}": text for name, text in _collected_files(collection, mask, is_operator=True)}
    for report in reports:
        if (collected := ticket.servers.get(report.key)) is not None:
            folder = f"servers/{report.title}"
            screens[f"{folder}/screen.txt"] = _plain(format_screen(report, wide=True))
            files |= {f"{folder}/{name}": text for name, text in _collected_files(collected, mask)}

    files |= {path: mask.text(text) for path, text in screens.items()}
    # Whatever was done above: nothing leaves with a known value in it.
    return {path: "\n".join(map(mask.known, text.split("\n"))) for path, text in sorted(files.items()) if text.strip()}


def _plain(lines: Iterable[str]) -> str:
    return "".join(f"{click.unstyle(line)}\n" for line in lines)


def _readme(ticket: Ticket) -> str:
    installation = ticket.installation
    images = ", ".join(f"{operator.title}, image {operator.image}" for operator in _operators(installation))

    return _README.format(
        now=installation.now,
        program=installation.program,
        kubernetes=installation.kubernetes,
        operators=images or "none was found",
        mask="********",
        lines=LOG_LINES,
        shortest=MIN_VALUE_CHARACTERS,
    )


def _operators(installation: Installation) -> Sequence[OperatorState]:
    return () if isinstance(installation.operators, Unknown) else installation.operators


def _index(ticket: Ticket) -> str:
    gaps = [*ticket.gaps]
    gaps += [f"operator in {namespace}: {gap}" for namespace, item in ticket.operators.items() for gap in item.gaps]
    gaps += [f"server {'/'.join(key)}: {gap}" for key, item in ticket.servers.items() for gap in item.gaps]
    missing = [f"- {one_line(gap)}" for gap in gaps] or ["Everything could be read."]
    return "\n".join(["What could not be read, or was left out:", "", *missing, ""])


def _cluster_files(installation: Installation, mask: SecretMask) -> Iterator[tuple[str, str]]:
    configurations = [
        item for items in installation.configurations.values() if not isinstance(items, Unknown) for item in items
    ]
    classes = [] if isinstance(installation.classes, Unknown) else installation.classes
    yield "storage-classes.yaml", _dump(classes, mask)
    yield "webhook-configurations.yaml", _dump(configurations, mask)

    if isinstance(crd := installation.crd, dict):
        # The schema has thousands of lines, and doctor has compared it.
        versions = [
            {key: value for key, value in version.items() if key not in ("schema", "additionalPrinterColumns")}
            for version in crd["spec"]["versions"]
        ]
        shortened = {**crd, "spec": {**crd["spec"], "versions": versions}}
        yield "custom-resource-definition.yaml", _dump([shortened], mask)


def _collected_files(
    collection: Collection, mask: SecretMask, *, is_operator: bool = False
) -> Iterator[tuple[str, str]]:
    for name, objects in collection.objects.items():
        yield f"{name}.yaml", _dump(objects, mask, is_operator=is_operator)
    for name, text in collection.logs.items():
        lines = mask.log(text).split("\n")
        yield f"logs/{name}.log", "\n".join(one_line(line.expandtabs()) for line in lines)


def _dump(objects: Iterable[Manifest], mask: SecretMask, *, is_operator: bool = False) -> str:
    return "---\n".join(manifests.dump(redact_object(item, mask, is_operator=is_operator)) for item in objects)
