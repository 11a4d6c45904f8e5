"""The error about a file that a person wrote, apart from what parses such files: a pod does not import that."""


class UnusableInput(ValueError):
    """The message is for the person who wrote the file: it names the file, the line and what was expected."""

    def __init__(self, file: str, line: int | None, expected: str) -> None:
        super().__init__(f"{file}:{line}: {expected}" if line else f"{file}: {expected}")
