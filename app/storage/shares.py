"""Decides which stores and shares a DittoFS server should have, and what to ask of it to get there."""

from typing import Literal

from app.storage.spec import Share, Spec


def store_of(share: Share, spec: Spec) -> Literal["s3", "local"]:
    """Returns where the content of a share goes: to the bucket when there is one, unless the share says otherwise."""
    return share.store or ("s3" if spec.s3.bucket else "local")
