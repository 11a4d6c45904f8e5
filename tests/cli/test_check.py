import json
from collections.abc import Callable, Iterable
from pathlib import Path

import click
import pytest

from app.cli.check import Judgement, as_json, format_github, format_text, judge_documents
from app.cli.output import format_json
from app.cluster.overlay import Overlay
from app.cluster.snapshot import Snapshot
from app.manifests import Document, parse
from tests.harness.command_line import ROOT, SNAPSHOT, run
from tests.harness.server_table import DIGEST, server

pytestmark = pytest.mark.anyio

INPUT = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: other}
---
apiVersion: dittofs.dittofs.com/v1alpha1
kind: DittoServer
metadata:
  name: files
  namespace: media
spec:
  nfsPort: 8080
  image: marmos91c/dittofs:v0.29.0
  storage:
    metadataSize: 10Gi
    storageClassName: fast
"""
FAST = """\
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: fast}
provisioner: example.com/fast
"""


def parse_all(*texts: str) -> list[Document]:
    return parse("---\n".join(texts), "servers.yaml")


async def judge(*texts: str, snapshot: Path | None = None) -> list[Judgement]:
    documents = parse_all(*texts)
    return await judge_documents(documents, Overlay(documents, Snapshot(snapshot) if snapshot else None))


async def test_only_dittoservers_are_judged() -> None:
    [judgement] = await judge(INPUT)
    assert judgement.title == "DittoServer media/files"
    assert not judgement.admitted


async def test_a_pod_section_is_judged_without_a_cluster(tmp_path: Path) -> None:
    (tmp_path / "cluster.yaml").write_text(FAST)
    section = "\nspec:\n  resources:\n    requests:\n      memory: 2Gi\n    limits:\n      memory: 1Gi"

    [judgement] = await judge(INPUT.replace("8080", "2049").replace("\nspec:", section), snapshot=tmp_path)

    assert [(finding.path, finding.message) for finding in judgement.findings] == [
        ("spec.resources.requests", "resources.requests has 2Gi of memory, which is above its limit of 1Gi")
    ]
    assert judgement.document.line_of("spec.resources.requests") == 12


async def test_what_the_input_lacks_is_unknown_and_a_warning() -> None:
    [judgement] = await judge(INPUT.replace("8080", "2049"))

    assert judgement.admitted

    [finding] = judgement.findings

    assert finding.message == (
        'Could not verify StorageClass "fast" exists: neither a snapshot nor a cluster was given'
    )


async def test_other_documents_of_the_input_count_as_facts() -> None:
    [judgement] = await judge(INPUT.replace("8080", "2049"), FAST)
    assert not judgement.findings


async def test_what_a_snapshot_lacks_does_not_exist(tmp_path: Path) -> None:
    (tmp_path / "cluster.yaml").write_text(FAST.replace("name: fast", "name: slow"))
    [judgement] = await judge(INPUT.replace("8080", "2049"), snapshot=tmp_path)

    assert [finding.message for finding in judgement.findings] == [
        'StorageClass "fast" does not exist in cluster; there are: slow'
    ]


CLAIM = """\
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: metadata-files-0, namespace: media}
spec: {storageClassName: fast, resources: {requests: {storage: 10Gi}}}
status: {phase: Bound, capacity: {storage: 10Gi}}
"""


async def test_leftovers_in_a_snapshot_are_warned_about(tmp_path: Path) -> None:
    (tmp_path / "cluster.yaml").write_text(f"{FAST}---\n{CLAIM}")

    [judgement] = await judge(INPUT.replace("8080", "2049"), snapshot=tmp_path)

    assert [finding.message for finding in judgement.findings] == [
        'volume claim metadata-files-0 exists and is reused with its data: 10Gi of StorageClass "fast"'
    ]


async def test_claims_of_a_live_server_are_no_leftovers(tmp_path: Path) -> None:
    live = INPUT.replace("8080", "2049")
    (tmp_path / "cluster.yaml").write_text("---\n".join((FAST, CLAIM, live)))

    [same] = await judge(live, snapshot=tmp_path)
    [smaller] = await judge(live.replace("10Gi", "9Gi"), snapshot=tmp_path)

    assert not same.findings
    assert [finding.message for finding in smaller.findings] == [
        "storage.metadataSize must be at least 10Gi, which volume claim metadata-files-0 has; volumes cannot shrink"
    ]


async def test_a_live_server_tells_which_image_to_pin(tmp_path: Path) -> None:
    image = "marmos91c/dittofs:latest"
    moving = INPUT.replace("8080", "2049").replace("marmos91c/dittofs:v0.29.0", image)
    known = f"status: {{server: {{image: '{image}', imageID: 'marmos91c/dittofs@{DIGEST}'}}}}\n"
    (tmp_path / "cluster.yaml").write_text("---\n".join((FAST, moving + known)))

    [judgement] = await judge(moving, snapshot=tmp_path)

    assert [finding.message for finding in judgement.findings] == [
        f'image "{image}" may be a different one at each restart; pin what runs now: marmos91c/dittofs@{DIGEST}'
    ]


async def test_another_version_of_the_api_is_rejected() -> None:
    [judgement] = await judge(INPUT.replace("v1alpha1", "v1"))
    assert [finding.message for finding in judgement.findings] == ["apiVersion must be dittofs.dittofs.com/v1alpha1"]


async def test_text_names_file_line_field_and_what_is_wrong() -> None:
    lines = [click.unstyle(line) for line in format_text(await judge(INPUT, FAST))]

    assert lines == [
        "servers.yaml document 2: DittoServer media/files rejected",
        "  error   servers.yaml:10 spec.controlPlane.port",
        "          port 8080 is used by both nfs and api",
        "1 DittoServers: 0 admitted, 1 rejected, 0 warnings",
    ]


async def test_json_is_for_programs() -> None:
    text = format_json(map(as_json, await judge(INPUT, FAST)))

    assert json.loads(text) == [
        {
            "file": "servers.yaml",
            "document": 2,
            "object": "DittoServer media/files",
            "admitted": False,
            "findings": [
                {
                    "severity": "error",
                    "path": "spec.controlPlane.port",
                    "line": 10,
                    "message": "port 8080 is used by both nfs and api",
                }
            ],
        }
    ]


async def test_github_gets_an_annotation_a_finding() -> None:
    documents = parse(INPUT, "a,b:100%.yaml")
    [annotation, _] = format_github(await judge_documents(documents, Overlay([*documents, *parse_all(FAST)])))

    assert annotation == (
        "::error file=a%2Cb%3A100%25.yaml,line=10,title=DittoServer media/files spec.controlPlane.port"
        "::port 8080 is used by both nfs and api"
    )


@pytest.mark.parametrize("metadata", ["", "metadata: x", "metadata: {generateName: files-}"])
async def test_a_server_without_a_name_has_a_title(metadata: str) -> None:
    manifest = f"apiVersion: dittofs.dittofs.com/v1alpha1\nkind: DittoServer\n{metadata}\n"
    [judgement] = await judge(manifest)
    assert judgement.title.startswith("DittoServer default/")
    assert not judgement.admitted


HOSTILE = "\x1b]0;title\x07\x1b[2J\n::error file=x::y\r\u202e"


async def judge_hostile_input() -> list[Judgement]:
    manifest = server(f"name{HOSTILE}", service={"annotations": {f"key{HOSTILE}": 5}}, **{f"field{HOSTILE}": 1})
    manifest["spec"]["storage"]["cacheSize"] = "5Gi\x1b[31m\n"
    manifest["metadata"]["namespace"] = HOSTILE
    documents = parse(json.dumps(manifest), f"file{HOSTILE}.yaml")
    return await judge_documents(documents, Overlay(documents, None))


@pytest.mark.parametrize("output", [format_text, format_github])
async def test_no_output_has_control_characters(output: Callable[[list[Judgement]], Iterable[str]]) -> None:
    lines = [click.unstyle(line) for line in output(await judge_hostile_input())]

    assert all(line.isprintable() for line in lines)
    assert any("such as 10Gi" in line for line in lines)


async def test_no_message_is_a_workflow_command_of_its_own() -> None:
    lines = [click.unstyle(line).lstrip() for line in format_text(await judge_hostile_input())]

    assert not [line for line in lines if line.startswith("::")]


async def test_json_keeps_the_text_as_it_is() -> None:
    text = format_json(map(as_json, await judge_hostile_input()))

    assert "\x1b" not in text
    assert json.loads(text)[0]["file"] == f"file{HOSTILE}.yaml"


@pytest.mark.parametrize(
    ("arguments", "code", "last"),
    [
        (("manifests/samples",), 0, "14 DittoServers: 14 admitted, 0 rejected, 20 warnings"),
        (("manifests/samples", "--snapshot", SNAPSHOT), 0, "14 DittoServers: 14 admitted, 0 rejected, 6 warnings"),
        (("tests/demo/warned.yaml", SNAPSHOT), 0, "1 DittoServers: 1 admitted, 0 rejected, 2 warnings"),
        (("tests/demo", "manifests/samples"), 1, "17 DittoServers: 16 admitted, 1 rejected, 7 warnings"),
    ],
)
def test_check_exits_with_its_verdict(arguments: tuple[str, ...], code: int, last: str) -> None:
    result = run("check", *arguments)
    assert result.returncode == code
    assert result.stdout.splitlines()[-1] == last
    assert result.stderr == ""


def test_check_reads_standard_input() -> None:
    result = run("check", "-", stdin=(ROOT / "tests/demo/rejected.yaml").read_text())
    assert result.returncode == 1
    assert "stdin:6 spec.controlPlane.port" in result.stdout
