"""What a key or a link allows."""

from enum import StrEnum


class Scope(StrEnum):
    """``change``: redeploy, rollback, cancel. ``operate``: the list of everybody's executions, the webhook's state."""

    ORDER = "order"
    READ = "read"
    CHAT = "chat"
    CHANGE = "change"
    TEARDOWN = "teardown"
    OPERATE = "operate"
