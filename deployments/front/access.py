"""Who comes, and what they may: operators' keys, the link of one execution, and strangers.

Tokens are 256 random bits; the record holds their SHA-256, by which they are looked up. Who has no business with an
execution is told that there is none.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import Depends, Path, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from deployments.front.limits import client_of
from deployments.front.problems import Problem, unknown, who_are_you
from deployments.front.scopes import Scope
from deployments.front.service import Front
from deployments.front.tokens import KEY, LINK, sha256_of

ID_EXAMPLE = "a1b2c3d4_sess20260124143022"

Kind = Literal["key", "link"]


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

    @property
    def is_operator(self) -> bool:
        """Whether our machines are their business."""
        return Scope.OPERATE in self.scopes and self.user_id is None and self.execution_id is None

    def may_see(self, execution_id: str, owner: str) -> bool:
        if self.execution_id is not None:
            return self.execution_id == execution_id
        return not self.is_stranger and self.user_id in (None, owner)

    def need(self, scope: Scope) -> None:
        if self.is_stranger:
            raise who_are_you()
        if scope not in self.scopes:
            raise Problem(403, f"this key does not have the scope {scope}; ask the operator for one that has")

    def need_everybodys(self) -> None:
        """For what belongs to no user."""
        self.need(Scope.OPERATE)
        if self.user_id is not None:
            raise Problem(403, "this key is bound to one user; the webhook is everybody's")


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
    token = given.credentials
    kind: Kind | None = "key" if token.startswith(KEY) else "link" if token.startswith(LINK) else None
    found = known(front, kind, sha256_of(token), address) if kind else None
    if found is None:
        raise who_are_you()
    return found


def known(front: Front, kind: Kind, sha256: str, address: str) -> Caller | None:
    """Who holds the key or link with this hash; None where it is good no more. Counts the visit."""
    found = None
    if kind == "key" and (key := front.registry.key_of(sha256)):
        scopes = frozenset(Scope(name) for name in key.scopes if name in set(Scope))
        found = Caller(f"key {key.key_id}", address, scopes, user_id=key.user_id)
    elif kind == "link" and (execution_id := front.registry.linked_execution(sha256)):
        found = Caller(f"link {execution_id}", address, front.settings.link_scopes, execution_id=execution_id)
    if found is not None:
        front.rates.spend(found.name, front.settings.web_rate_key)
    return found


TheCaller = Annotated[Caller, Depends(caller_of)]


def may_order(front: Front, caller: Caller) -> None:
    """Raises Problem. Looked at before the order: who may not order learns nothing of what is wrong with it."""
    if not caller.is_stranger:
        caller.need(Scope.ORDER)
    elif front.settings.web_form == "closed":
        raise who_are_you()


async def orderer(front: TheFront, caller: TheCaller) -> Caller:
    may_order(front, caller)
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
        return visit_of(front, caller, execution_id, self.scope)


def visit_of(front: Front, caller: Caller, execution_id: str, scope: Scope) -> Visit:
    """Problem 404 where it is not the caller's, or nobody's, and 403 where they may see it and not do this."""
    owner = front.registry.owner_of(execution_id)
    if owner is None or not caller.may_see(execution_id, owner):
        raise unknown()
    caller.need(scope)
    if scope is not Scope.READ:
        front.rates.spend(f"user {owner}", front.settings.web_rate_user)
    return Visit(caller, execution_id, owner)
