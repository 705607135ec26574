"""Names of users, sessions, executions, sites and what belongs to them. Pure; randomness comes from the caller.

Every id is made by us; none is ever taken from a request's text.
"""

import re
from datetime import datetime
from uuid import UUID

EXECUTION_ID = re.compile(r"[0-9a-f]{8}_sess[0-9]{14}(-[0-9]{1,6})?")
SITE_NAME = re.compile(r"tmux-[0-9a-f]{8}-[0-9a-f]{8}")


def session_id_at(moment: datetime, ordinal: int = 1) -> str:
    """``sess{YYYYMMDDHHMMSS}``; the ordinal tells apart what starts in one second.

    >>> session_id_at(datetime(2026, 1, 24, 14, 30, 22))
    'sess20260124143022'
    >>> session_id_at(datetime(2026, 1, 24, 14, 30, 22), 2)
    'sess20260124143022-2'
    """
    return f"sess{moment:%Y%m%d%H%M%S}" + (f"-{ordinal}" if ordinal > 1 else "")


def execution_id_for(user_id: str, session_id: str) -> str:
    """
    >>> execution_id_for("a1b2c3d4-0000-4000-8000-000000000000", "sess20260124143022")
    'a1b2c3d4_sess20260124143022'
    """
    return f"{user_id[:8]}_{session_id}"


def site_name(user_id: str, site_id: str) -> str:
    """``tmux-{guid_prefix}-{session_short}``: a DNS label, unique by the random site id.

    >>> site_name("a1b2c3d4-0000-4000-8000-000000000000", "9f8e7d6c-0000-4000-8000-000000000000")
    'tmux-a1b2c3d4-9f8e7d6c'
    """
    return f"tmux-{UUID(user_id).hex[:8]}-{UUID(site_id).hex[:8]}"


def tmux_session_name(execution_id: str) -> str:
    return f"exec_{execution_id}"


def tags(*, user_id: str, session_id: str, execution_id: str, site_type: str) -> dict[str, str]:
    """What every resource and every run is labelled with."""
    return {
        "Project": "tmux-builder",
        "UserGUID": user_id,
        "SessionID": session_id,
        "ExecutionID": execution_id,
        "SiteType": site_type,
        "CostCenter": "user-sites",
        "CreatedBy": "tmux-builder-automation",
    }
