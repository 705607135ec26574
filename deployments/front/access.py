"""Who comes, and what they may: operators' keys, the link of one execution, and strangers.

Tokens are 256 random bits; the record holds their SHA-256, by which they are looked up. Who has no business with an
execution is told that there is none.
"""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Path, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from deployments.front.limits import client_of
from deployments.front.problems import Problem, unknown, who_are_you
from deployments.front.scopes import Scope
from deployments.front.service import Front
from deployments.front.tokens import KEY, LINK, sha256_of

ID_EXAMPLE = "a1b2c3d4_sess20260124143022"


@dataclass(frozen=True, slots=True)
class Caller:
    """``user_id``: good for this user's executions alone; ``execution_id``: for this one alone."""

    name: str
    address: str
    scopes: frozenset[Scope] = frozenset()
    user_id: str | None = None
    execution_id: str | None = None

    @property
    def is_stranger(self) -> bool:
        return not self.name

    def may_see(self, execution_id: str, owner: str) -> bool:
        if self.execution_id is not None:
            return self.execution_id == execution_id
        return not self.is_stranger and self.user_id in (None, owner)

    def need(self, scope: Scope) -> None:
        if self.is_stranger:
            raise who_are_you()
        if scope not in self.scopes:
            raise Problem(403, f"this key does not have the scope {scope}; ask the operator for one that has")


@dataclass(frozen=True, slots=True)
class Visit:
    """A caller, and the execution that they may see."""

    caller: Caller
    execution_id: str
    user_id: str


async def front_of(request: Request) -> Front:
    found: Front = request.app.state.front
    return found


_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="token",
    description="An operator's key (tbk_…), or the token of one execution that create-user returns (tbl_…).",
)

TheFront = Annotated[Front, Depends(front_of)]


def caller_of(
    request: Request, front: TheFront, given: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]
) -> Caller:
    """Raises Problem 401 for a token that is none. Blocks."""
    address = client_of(request.scope)
    if given is None:
        if "authorization" in request.headers:
            raise who_are_you()
        return Caller("", address)
    token, found = given.credentials, None
    if token.startswith(KEY) and (key := front.registry.key_of(sha256_of(token))):
        scopes = frozenset(Scope(name) for name in key.scopes if name in set(Scope))
        found = Caller(f"key {key.key_id}", address, scopes, user_id=key.user_id)
    elif token.startswith(LINK) and (execution_id := front.registry.linked_execution(sha256_of(token))):
        found = Caller(f"link {execution_id}", address, front.settings.link_scopes, execution_id=execution_id)
    if found is None:
        raise who_are_you()
    front.rates.spend(found.name, front.settings.web_rate_key)
    return found


TheCaller = Annotated[Caller, Depends(caller_of)]


async def orderer(front: TheFront, caller: TheCaller) -> Caller:
    """Before the order is looked at: who may not order at all learns nothing of what is wrong with it."""
    if not caller.is_stranger:
        caller.need(Scope.ORDER)
    elif front.settings.web_form == "closed":
        raise who_are_you()
    return caller


TheOrderer = Annotated[Caller, Depends(orderer)]

ExecutionId = Annotated[
    str,
    Path(
        description="The id that create-user returned.",
        examples=[ID_EXAMPLE],
        json_schema_extra={"pattern": r"^[0-9a-f]{8}_sess[0-9]{14}(-[0-9]{1,6})?$"},
    ),
]


class Visiting:
    """The dependency of every route of one execution: first whether the caller may see it, then what they may do."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    def __call__(self, front: TheFront, caller: TheCaller, execution_id: ExecutionId) -> Visit:
        if caller.is_stranger:
            raise who_are_you()
        owner = front.registry.owner_of(execution_id)
        if owner is None or not caller.may_see(execution_id, owner):
            raise unknown()
        caller.need(self.scope)
        if self.scope is not Scope.READ:
            front.rates.spend(f"user {owner}", front.settings.web_rate_user)
        return Visit(caller, execution_id, owner)
