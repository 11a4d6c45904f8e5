"""Joins all that the operator maintains inside a running server into one dialogue with it. It sends nothing itself."""

from collections.abc import Collection
from dataclasses import dataclass, field, replace

from app.storage.dialogue import Answer, Dialogue
from app.storage.problem import UNREADABLE, Problem, Stage
from app.storage.redaction import LEFT_OUT, repeats
from app.storage.remote_store import (
    ADMIN_LOGIN_FAILED,
    Bucket,
    RemoteStore,
    S3Keys,
    StoreResult,
    explain_failure,
    maintain_store,
)
from app.storage.secret_references import SecretReference
from app.storage.server_health import Family
from app.storage.shares import SharesResult, ShareState, WantedShares, maintain_shares
from app.storage.spec import Share, Spec


@dataclass(frozen=True)
class Provisioning:
    """Holds what one run of a server should have. Fields that are not compared may change without another look at it.

    `secret_digests` are of the values that `s3` and `password` refer to, by Secret and key.
    """

    uid: str
    pod: str
    started_at: str
    url: str
    family: Family
    password: SecretReference
    s3: SecretReference | None
    bucket: Bucket | None
    shares: tuple[Share, ...]
    secret_digests: tuple[tuple[str, str, str], ...] = field(repr=False)
    region: str = ""
    spec: Spec = field(default_factory=Spec, compare=False)
    known: RemoteStore = field(default_factory=RemoteStore, compare=False)
    mentioned: tuple[str, ...] = field(default=(), compare=False)
    restarts_anyway: bool = field(default=False, compare=False)
    version: str | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Provisioned:
    """The result; `problem` is why there was no login. `is_outdated` says that the pod serves from earlier stores."""

    provisioning: Provisioning
    store: StoreResult = field(default_factory=StoreResult)
    shares: tuple[ShareState, ...] = ()
    is_outdated: bool = False
    problem: Problem | None = None

    @property
    def is_complete(self) -> bool:
        """Tells whether there is nothing to try again."""
        return not (self.problem or self.store.problem) and all(
            state.phase in ("Ready", "Retained") for state in self.shares
        )

    def without_texts_that_repeat(self, secrets: Collection[str]) -> "Provisioned":
        """Returns the result without the texts that have one of these values in them, and so are not for a status."""

        def keep(text: str) -> str:
            return LEFT_OUT if repeats(text, secrets) else text

        def keep_problem(problem: Problem | None) -> Problem | None:
            return problem and replace(problem, message=keep(problem.message))

        store = replace(self.store, problem=keep_problem(self.store.problem), kept=keep(self.store.kept))
        shares = tuple(replace(state, message=keep(state.message)) for state in self.shares)
        return replace(self, problem=keep_problem(self.problem), store=store, shares=shares)


def maintain(provisioning: Provisioning, keys: S3Keys | None) -> Dialogue[Provisioned]:
    """Maintains the remote store first: new shares in S3 need it. `keys` are the values of the S3 Secret."""
    store, shares = StoreResult(), SharesResult()
    if provisioning.bucket and keys:
        store = yield from maintain_store(provisioning.bucket, keys, provisioning.known)

    if provisioning.shares or provisioning.mentioned:
        wanted = WantedShares(
            provisioning.family,
            provisioning.shares,
            provisioning.spec,
            provisioning.mentioned,
            remote=store.name if store.verified else "",
            endpoint=keys.endpoint if keys else "",
            version=provisioning.version,
        )
        shares = yield from maintain_shares(wanted)

    return Provisioned(provisioning, store, shares.states, shares.is_outdated)


def explain_login(answer: Answer, password: SecretReference) -> Problem:
    """Returns why there is no login, by the answer to it."""
    if answer.status not in (400, 401, 403):
        return explain_failure(answer)

    [key] = password.keys
    where = f'the admin password in Secret "{password.secret}" key "{key.name}"'
    message = (
        f"the server does not accept {where}: {answer.detail}; the Secret only counts when the server starts for the "
        "first time, so put the current password of admin into it"
    )
    return Problem(ADMIN_LOGIN_FAILED, message, Stage.CREDENTIALS)


def unreadable_secret(why: str) -> Problem:
    return Problem(UNREADABLE, f"a Secret could not be read for the server: {why}", Stage.CREDENTIALS)
