import json
from datetime import UTC, datetime
from typing import Any

from app.cli.server_report import report
from app.cli.ticket import Ticket, ticket_files
from app.cluster.collection import Collection
from app.cluster.survey import Survey
from app.storage.checkup import Check, CheckResult
from app.storage.crd import custom_resource_definition
from app.storage.facts import Unknown
from app.storage.installation import Installation
from app.storage.operator_checks import OperatorState
from tests.harness.server_table import server
from tests.storage.test_operator_checks import DEPLOYMENT

NOW = datetime(2026, 2, 1, 12, tzinfo=UTC)
KEY = ("media", "files")
MARKER = "marker-7f3a"
NOTHING = Collection()


def ticket(collection: Collection = NOTHING, **parts: Any) -> dict[str, str]:
    manifest = {**server(), "metadata": {"name": "files", "namespace": "media"}}
    installation = Installation(NOW, "0.1.0", "v1.36.1", operators=[OperatorState(DEPLOYMENT, (), None)])
    whole: dict[str, Any] = {
        "installation": installation,
        "checks": [Check("leader", CheckResult.OK, "p leads")],
        "reports": [report(Survey(servers={KEY: manifest}), KEY, NOW)],
        "servers": {KEY: collection},
        **parts,
    }
    return ticket_files(Ticket(**whole))


def test_the_readme_says_what_is_in_it() -> None:
    readme = ticket()["README.txt"]

    assert "Written:     2026-02-01T12:00:00Z" in readme
    assert "Operator:    Deployment dittofs-system/dittofs-operator, image localhost/dittofs-operator:0.1.0" in readme
    assert "What is not in it" in readme


def test_every_check_and_server_is_in_it() -> None:
    files = ticket(Collection({"dittoserver": [server()], "volumes": []}, {"files-0-dittofs": "a\tb\x1b[2J\n"}))

    assert "ok       leader: p leads" in files["doctor.txt"]
    assert json.loads(files["doctor.json"])[0]["check"] == "leader"
    assert "media" in files["status.txt"]
    assert files["servers/media/files/screen.txt"].startswith("DittoServer media/files ")
    assert "kind: DittoServer" in files["servers/media/files/dittoserver.yaml"]
    assert files["servers/media/files/logs/files-0-dittofs.log"] == "a       b [2J\n"
    assert "servers/media/files/volumes.yaml" not in files
    assert list(files) == sorted(files)


def test_a_value_of_one_server_is_masked_in_all_files() -> None:
    logs = {"operator-1": f"says {MARKER}"}
    operator = OperatorState(DEPLOYMENT, (), None, {"p": f'info{{a="{MARKER}"}} 1', "q": Unknown("forbidden")})
    files = ticket(
        Collection(secrets=(MARKER,)),
        installation=Installation(NOW, "0.1.0", "v1.36.1", operators=[operator]),
        operators={"dittofs-system": Collection(logs=logs)},
        checks=[Check(f"a{MARKER}", CheckResult.PROBLEM, f"quotes {MARKER}")],
        gaps=(f"could not read {MARKER}",),
    )

    assert {f"operator/dittofs-system/{name}" for name in ("logs/operator-1.log", "metrics/p.txt")} <= set(files)
    assert [name for name, text in files.items() if MARKER in text] == []


def test_a_secret_is_not_given_away_by_masking_a_known_word() -> None:
    logs = {"files-0-dittofs": "password=dittofs and files"}
    files = ticket(Collection({"dittoserver": [server()]}, logs, secrets=("dittofs", "files", "media/files")))

    assert "`kubectl dittofs report`" in files["README.txt"]
    assert "apiVersion: dittofs.dittofs.com/v1alpha1" in files["servers/media/files/dittoserver.yaml"]
    assert files["servers/media/files/logs/files-0-dittofs.log"] == "password=******** and files"


def test_what_looks_like_a_secret_is_masked_in_every_file() -> None:
    check = Check("a", CheckResult.PROBLEM, f"failed: https://user:{MARKER}@registry.example.com")
    files = ticket(Collection(logs={"files-0-dittofs": f"the password is: {MARKER}"}), checks=[check])

    assert [name for name, text in files.items() if MARKER in text] == []


def test_events_are_masked_and_json_stays_json() -> None:
    check = Check("a", CheckResult.PROBLEM, f'failed: token="{MARKER} that never ends')
    about = {"kind": "DittoServer", "name": "files", "namespace": "media"}
    event = {"metadata": {"name": "e"}, "involvedObject": about, "message": f"password: {MARKER}", "type": "Warning"}
    manifest = {**server(), "metadata": {"name": "files", "namespace": "media"}}
    files = ticket(checks=[check], reports=[report(Survey(servers={KEY: manifest}), KEY, NOW, [event])])

    assert json.loads(files["doctor.json"])[0]["message"] == "failed: token=********"
    assert json.loads(files["status.json"])[0]["events"][0]["message"] == "password: ********"
    assert [name for name, text in files.items() if MARKER in text] == []


def test_what_could_not_be_read_is_in_the_index() -> None:
    index = ticket(Collection(gaps=("Secret s3: forbidden\x1b",)), gaps=("used space is unknown",))["index.txt"]

    assert "- used space is unknown\n" in index
    assert "- server media/files: Secret s3: forbidden \n" in index
    assert "Everything could be read." in ticket()["index.txt"]


def test_the_definition_is_in_it_without_its_schema() -> None:
    unknown = Unknown("forbidden")
    configurations: dict[str, Any] = {
        "ValidatingWebhookConfiguration": unknown,
        "MutatingWebhookConfiguration": [{"kind": "M"}],
    }
    installation = Installation(
        NOW,
        "0.1.0",
        "v1.36.1",
        crd=custom_resource_definition(),
        configurations=configurations,
        classes=unknown,
        operators=unknown,
    )
    files = ticket(installation=installation)

    assert "openAPIV3Schema" not in files["cluster/custom-resource-definition.yaml"]
    assert files["cluster/webhook-configurations.yaml"] == "kind: M\n"
    assert "cluster/storage-classes.yaml" not in files
    assert "none was found" in files["README.txt"]
