"""What NATS says when it does not do what was asked, in our words. Pure."""

import re
from typing import Any

from connector.errors import SinkError
from connector.sink.store_parts import conflict

_NO_STREAM = 10059  # JSStreamNotFoundErr
_WRONG_REVISION = (10071, 10164)  # JSStreamWrongLastSequenceErrF and its constant twin


def api_error(doing: str, error: Any) -> SinkError:
    """What JetStream answered instead of doing it."""
    if error.err_code in _WRONG_REVISION:
        return conflict(doing)
    transient = (error.code or 500) >= 500
    return SinkError(
        reason="StoreUnreachable" if transient else "StoreRefused",
        doing=doing,
        cause=f"{error.description or type(error).__name__} (code {error.code}, {error.err_code})",
        remedy="check JetStream and the account's limits and permissions (operator)",
    )


def is_bucket_gone(error: Any) -> bool:
    """Whether JetStream has no stream of that name: somebody deleted the bucket."""
    return bool(error.err_code == _NO_STREAM)


def bucket_gone(doing: str) -> SinkError:
    """The bucket was deleted while we used it, and the next call makes a new one."""
    return SinkError(
        reason="StoreUnreachable",
        doing=doing,
        cause="the bucket is gone: somebody deleted it",
        remedy="nothing to do, it is created anew and filled from the topic; find out who deletes it (operator)",
    )


def bucket_missing(where: str) -> SinkError:
    """There is no bucket, and none may be made."""
    return SinkError(
        reason="StoreRefused",
        doing=f"opening {where}",
        cause="the bucket does not exist, and create_bucket is false",
        remedy="create the bucket, or set create_bucket (operator)",
    )


def connection_error(doing: str, error: BaseException, heard: str) -> SinkError:
    """No answer, or a refusal; `heard` is what the client was told beside it, by the server or by this machine."""
    said = f"{error or type(error).__name__}" + (f": {heard}" if heard else "")
    refused = re.search("authorization|authentication|permissions violation", said, re.IGNORECASE)
    if refused:
        return SinkError(
            reason="StoreRefused",
            doing=doing,
            cause=said,
            remedy="check credentials_path, and the user's permissions on $JS.API.> and $KV.<bucket>.> (operator)",
        )
    return SinkError(
        reason="StoreUnreachable",
        doing=doing,
        cause=said,
        remedy="check that NATS runs there with JetStream, and the address and TLS settings (operator)",
    )
