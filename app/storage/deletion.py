"""Says what is kept of a server that was deleted: its volume claims and generated Secrets belong to nobody."""

from collections.abc import Sequence

from app.storage.events import Event


def deletion_event(server: str, claims: Sequence[str], secrets: Sequence[str]) -> Event | None:
    """Returns the Event about what is kept, by the names; None where nothing is."""
    kinds = (("volume claim", claims), ("Secret", secrets))
    kept = [f"{kind}{'s' if len(names) > 1 else ''} {', '.join(names)}" for kind, names in kinds if names]
    if not kept:
        return None

    advice = f"another DittoServer named {server} in this namespace uses them again; delete them to delete its data"
    return Event("Normal", "ServerDeleted", f"the server was deleted, and {' and '.join(kept)} are kept: {advice}")
