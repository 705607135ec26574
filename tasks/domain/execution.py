"""One run of the pipeline on a session, and what its steps hand on."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from tasks.domain.pipeline import Verb
from tasks.domain.request import SiteRequest


class Order(BaseModel):
    """Outcome of step 1: an accepted request, its user, and the run that works on it."""

    model_config = ConfigDict(frozen=True)

    user_id: str
    execution_id: str
    run_id: str


class Execution(BaseModel):
    """What every step from 2 on needs to know. ``workspace`` is the session's folder."""

    model_config = ConfigDict(frozen=True)

    user_id: str
    session_id: str
    execution_id: str
    run_id: str
    verb: Verb
    site_name: str
    request: SiteRequest
    workspace: Path


class Plan(BaseModel):
    """Outcome of step 4. ``path`` is relative to the workspace."""

    model_config = ConfigDict(frozen=True)

    path: str
    size: int


class Source(BaseModel):
    """Outcome of step 5: what `source/` came to."""

    model_config = ConfigDict(frozen=True)

    files: int
    total_bytes: int
