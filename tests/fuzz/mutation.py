"""Mutates AdmissionReviews at random with knowledge of their structure and of values that have caused trouble."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from random import Random
from typing import Any

import orjson

from app.storage.schema import Schema, spec_schema

Container = dict[str, Any] | list[Any]
Place = tuple[Container, str | int]

MOST_MUTATIONS = 4
# Just within and beyond what orjson reads.
_DEPTHS = (1, 2, 5, 5, 250, 990, 1100)

_TEXTS = (
    "",
    " ",
    "x",
    "files",
    "0Gi",
    "1Gi",
    "10Gi",
    "999999999999999999Ti",
    "5G",
    "1GB",
    "9" * 5000,
    "1e999",
    # Templates: of envsubst, str.format, %, string.Template, CEL and Go.
    "${SIZE}",
    "{",
    "}",
    "{}",
    "{0}",
    "{given}",
    "{pattern}",
    "{value!r:>{low}}",
    "{0.__class__.__mro__}",
    "%s%d%(name)s%",
    "$(POD_NAME)",
    "{{ .Values.size }}",
    # Paths, queries, commands, workflow commands and expressions.
    "..",
    "../../secrets/x",
    "a/b?c=d&e#f",
    "/data/cache/../../etc",
    "; rm -rf /",
    "::error file=a,line=1::x",
    "(a+)+$",
    "[",
    "\\",
    # Control characters, terminal sequences, and characters that are easily taken for others.
    "\n",
    "5Gi\n",
    "a\r\nb",
    "\t",
    "\0",
    "\x1b[2J\x1b]0;title\x07",
    "\x7f\x9b31m",
    "\ufeffkey",
    "\u2028\u2029\u202e",
    "e\u0301",
    "\N{GRINNING FACE}",
    "\N{ARABIC-INDIC DIGIT FIVE}Gi",
    "x" * 300,
    "x" * 70_000,
)
_OTHERS: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2,
    80,
    2049,
    8080,
    12049,
    65536,
    2**31,
    2**53 + 1,
    2**63 - 1,
    -(2**63),
    2**64 - 1,
    0.5,
    8080.0,
    -0.0,
    1e308,
    5e-324,
    [],
    {},
    [None],
    [[]],
    ["x", 1, {}],
    {"": {}},
    {"name": "x", "key": "y"},
    {"name": ["x"]},
    {"~1/~0": {"a/b": None}},
)


def _field_names(schema: Schema) -> Iterator[str]:
    for name, field in schema.get("properties", {}).items():
        yield name
        yield from _field_names(field)


_METADATA = ("name", "generateName", "namespace", "annotations", "labels", "deletionTimestamp", "uid", "finalizers")
_REQUEST = ("uid", "operation", "kind", "object", "oldObject", "options", "dryRun", "userInfo", "subResource")
NAMES = tuple(
    dict.fromkeys(
        ("apiVersion", "kind", "metadata", "spec", "status", *_METADATA, *_REQUEST, *_field_names(spec_schema()))
    )
)


class Mutator:
    """Mutates reviews; everything it does follows from `random` and the seeds."""

    def __init__(self, random: Random, seeds: Sequence[Any]) -> None:
        self._random = random
        self._seeds = [orjson.dumps(seed) for seed in seeds]

        self._operations: tuple[Callable[[Container], None], ...] = (
            self._replace,
            self._replace,
            self._replace_text,
            self._remove,
            self._rename,
            self._add,
            self._nest,
            self._splice,
            self._flood,
        )

    def body(self) -> bytes:
        """Returns the body of the next request; one in thirty is damaged as text as well, and often not even JSON."""
        review = orjson.loads(self._random.choice(self._seeds))
        for _ in range(self._random.randint(0, MOST_MUTATIONS)):
            self._random.choice(self._operations)(review)

        request = review.get("request")
        if isinstance(request, dict):
            # Anything but a review is refused at once and does not exercise the rules.
            if self._random.random() < 0.95:
                self._repair(review, request)
            if self._random.random() < 0.1:
                request |= {"operation": "UPDATE", "oldObject": request.get("object")}

        body = _dump(review)
        return self._damage(body) if self._random.random() < 1 / 30 else body

    def text(self) -> str:
        return self._random.choice(_TEXTS)

    def value(self) -> Any:
        """Returns a new object each time, because it becomes part of a review."""
        if self._random.random() < 0.5:
            return self.text()

        return orjson.loads(orjson.dumps(self._random.choice(_OTHERS)))

    def name(self) -> str:
        return self.text()[:300] if self._random.random() < 0.2 else self._random.choice(NAMES)

    def _replace(self, review: Container) -> None:
        container, step = self._place(review)
        container[step] = self.value()  # type: ignore[index]

    def _replace_text(self, review: Container) -> None:
        """Inserts a text into a text, as where a variable was not substituted."""
        container, step = self._place(review)
        value = container[step]  # type: ignore[index]
        if isinstance(value, str):
            at = self._random.randint(0, len(value))
            container[step] = value[:at] + self.text() + value[at:]  # type: ignore[index]

    def _remove(self, review: Container) -> None:
        container, step = self._place(review)
        del container[step]  # type: ignore[arg-type]

    def _rename(self, review: Container) -> None:
        container, step = self._place(review)
        if isinstance(container, dict):
            container[self.name()] = container.pop(step)  # type: ignore[arg-type]

    def _add(self, review: Container) -> None:
        container, step = self._place(review)
        inner = container[step]  # type: ignore[index]
        if isinstance(inner, dict):
            inner[self.name()] = self.value()
        elif isinstance(inner, list):
            inner.append(self.value())

    def _nest(self, review: Container) -> None:
        container, step = self._place(review)
        value = container[step]  # type: ignore[index]
        for _ in range(self._random.choice(_DEPTHS)):
            value = [value] if self._random.random() < 0.1 else {"a": value}
        container[step] = value  # type: ignore[index]

    def _splice(self, review: Container) -> None:
        """Copies a part of another review to a random place."""
        other = orjson.loads(self._random.choice(self._seeds))
        container, step = self._place(review)
        from_container, from_step = self._place(other)
        container[step] = from_container[from_step]  # type: ignore[index]

    def _flood(self, review: Container) -> None:
        container, step = self._place(review)
        if self._random.random() < 0.1:
            many = range(self._random.choice((20, 257)))
            container[step] = {f"{self.name()}{number}": self.value() for number in many}  # type: ignore[index]

    def _repair(self, review: dict[str, Any], request: dict[str, Any]) -> None:
        review |= {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}
        operation = self._random.choice(("CREATE", "CREATE", "UPDATE", request.get("operation")))
        request |= {"uid": "u-1", "kind": {"kind": "DittoServer"}, "operation": operation}

    def _place(self, value: Container) -> Place:
        """Chooses a member of a container on a walk from the root, which mostly visits the objects of the review."""
        if isinstance(value, dict) and not value:
            value["spec"] = {}

        place = self._step(value)
        while self._random.random() < 0.85:
            inner = place[0][place[1]]  # type: ignore[index]
            if not isinstance(inner, dict | list) or not inner:
                break
            place = self._step(inner)

        return place

    def _step(self, container: Container) -> Place:
        if isinstance(container, list):
            return container, self._random.randrange(len(container))

        names = list(container)
        for name in ("request", "object", "oldObject", "spec"):
            if name in container and self._random.random() < 0.6:
                return container, name

        return container, self._random.choice(names)

    def _damage(self, body: bytes) -> bytes:
        at = self._random.randint(0, len(body))
        return body[:at] + self._random.choice((b"", b"\xff", b'"', b"{", b",", b"\\ud800", body)) + body[at + 1 :]


def _dump(review: Mapping[str, Any]) -> bytes:
    """Writes JSON, even if it is nested deeper than orjson writes."""
    try:
        return orjson.dumps(review)
    except orjson.JSONEncodeError:
        return _dump_deep(review).encode()


def _dump_deep(value: Any) -> str:
    """Writes JSON without recursion: its stack has texts to write and values to take apart."""
    written: list[str] = []
    stack: list[tuple[bool, Any]] = [(False, value)]

    while stack:
        is_text, item = stack.pop()
        if is_text:
            written.append(item)
        elif isinstance(item, dict) and item:
            stack.append((True, "}"))
            for number, (name, inner) in reversed(list(enumerate(item.items()))):
                stack += [(False, inner), (True, f"{'{' if not number else ','}{orjson.dumps(name).decode()}:")]
        elif isinstance(item, list) and item:
            stack.append((True, "]"))
            for number, inner in reversed(list(enumerate(item))):
                stack += [(False, inner), (True, "," if number else "[")]
        else:
            written.append(orjson.dumps(item).decode())

    return "".join(written)
