"""Names what can go wrong with a request to a DittoFS server. Each message is one bounded line without secrets."""


class ServerError(Exception):
    """The message is one line for a person to read."""


class ServerUnreachable(ServerError):
    """There was no complete answer; whether the server has done what it was asked to do is not known."""


class UnexpectedAnswer(ServerError):
    """It answered as no DittoFS server does: the image may be anything, and so may whatever answers in its place."""


class Rejected(ServerError):
    """The server answered with an HTTP status that is not a success; `detail` is what it said, empty if nothing."""

    def __init__(self, request: str, status: int, detail: str) -> None:
        super().__init__(f"the server answered {request} with HTTP status {status}{detail and f': {detail}'}")
        self.request = request
        self.status = status
        self.detail = detail
