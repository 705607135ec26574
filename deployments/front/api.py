"""The routes of the API. Each says who may, and calls one function."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from deployments.front import files, hooks, models, service
from deployments.front.access import TheCaller, TheFront, TheOrderer, Visit, Visiting
from deployments.front.bodies import JsonRoute
from deployments.front.problems import MEDIA_TYPE, Problem, allowed_words, unknown, who_are_you
from deployments.front.scopes import Scope
from deployments.front.stream import EventStream, Streams
from tasks.domain.pipeline import Status
from tasks.domain.request import SiteRequest


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For a route's description: which errors it has beside those that every route has."""
    words = {
        400: "It cannot be done as things stand, or the body is no JSON.",
        401: "No key or token, or one that is not good.",
        403: "The key does not allow this.",
        404: "No execution of the caller's has this id.",
        408: "The body took too long to arrive.",
        409: "It contradicts what was sent under this key, or somebody was faster.",
        413: "The body is too large.",
        415: "The body is not JSON.",
        421: "The Host header is not one of this service's names.",
        422: "A field is not as it has to be.",
        429: "Too often; Retry-After says when to come back.",
        503: "Too much waits, or the registry is away; Retry-After says when to come back.",
    }
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        status: {"description": words[status], "content": content} for status in sorted({421, 422, 429, 503, *statuses})
    }


_READING = problems(401, 403, 404)
_WRITING = problems(400, 401, 403, 404, 408, 409, 413, 415)

_SENT = {
    "type": "object",
    "description": "`data` is JSON: {seq, kind, at, data}; of `screen` {output, at}; of `gap` {after, reason}.",
    "properties": {"id": {"type": "string"}, "event": {"type": "string"}, "data": {"type": "string"}},
}

router = APIRouter(route_class=JsonRoute)

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description="Yours to choose, such as a UUID: a repeat with the same key does nothing twice. 1 to 128 "
        "printable characters.",
        examples=["6f1f0a2e-7f5b-4c0e-9d0e-3c1a4c5d6e7f"],
    ),
]

Reading = Annotated[Visit, Depends(Visiting(Scope.READ))]
Chatting = Annotated[Visit, Depends(Visiting(Scope.CHAT))]
Changing = Annotated[Visit, Depends(Visiting(Scope.CHANGE))]
Ending = Annotated[Visit, Depends(Visiting(Scope.TEARDOWN))]
Cursor = Annotated[
    int, Query(ge=0, le=2**62, description="next_cursor of the page before; 0 or nothing: from the start.")
]

PageCursor = Annotated[
    str | None,
    Query(
        description="next_cursor of the page before; nothing: the newest.",
        pattern=r"^[0-9a-f]{8}_sess[0-9]{14}(-[0-9]{1,6})?$",
    ),
]


@router.get("/api/health", tags=["service"], summary="Whether the front door is open", responses=problems())
def health(front: TheFront) -> models.Health:
    front.registry.hook(hooks.NAME)
    return models.Health()


@router.post("/api/create-user", status_code=202, tags=["order"], summary="Order a website", responses=_WRITING)
def create_user(
    front: TheFront,
    caller: TheOrderer,
    request: SiteRequest,
    key: IdempotencyKey = None,
    invite: Annotated[
        str | None, Header(alias="Invite-Code", description="Where orders without a key need an invitation.")
    ] = None,
) -> models.Created:
    """Takes an order and answers at once; the pipeline works behind it.

    With an operator's key of the scope `order`; without a key where the operator has opened the form.
    """
    return service.order(front, caller, request, key, invite)


@router.post("/api/chat/{execution_id}", tags=["agent"], summary="Say something to the agent", responses=_WRITING)
def chat(front: TheFront, visit: Chatting, message: models.ChatMessage) -> models.Sent:
    """400 unless the execution is `running` or `waiting_input`: nobody else would listen."""
    return service.say(front, visit, message.message, message.interrupt)


@router.get("/api/chat/{execution_id}/history", tags=["agent"], summary="The conversation", responses=_READING)
def history(
    front: TheFront,
    visit: Reading,
    cursor: Cursor = 0,
    limit: Annotated[int, Query(ge=1, le=500, description="How many messages at most, 1 to 500.")] = 100,
) -> models.Conversation:
    """Messages by cursor, oldest first, and `output`: the last 100 lines of the agent's terminal."""
    return service.conversation(front, visit, cursor, limit)


@router.post("/api/redeploy/{execution_id}", tags=["site"], summary="Publish again", responses=_WRITING)
def redeploy(front: TheFront, visit: Changing, key: IdempotencyKey = None) -> models.Sent:
    """Steps 6 to 9 on what the session holds. 400 while a run is at it, and where nothing was built yet."""
    return service.redeploy(front, visit, key)


@router.get("/api/executions", tags=["executions"], summary="List and search", responses=_READING)
def executions(
    front: TheFront,
    caller: TheCaller,
    q: Annotated[str, Query(max_length=254, description="A part of the e-mail address, or how an id begins.")] = "",
    status: Annotated[Status | None, Query(description="Only executions of this status.")] = None,
    cursor: PageCursor = None,
    limit: Annotated[int, Query(ge=1, le=200, description="How many at most, 1 to 200.")] = 50,
) -> models.Summaries:
    """With an operator's key of the scope `operate`; one that is bound to a user lists that user's."""
    caller.need(Scope.OPERATE)
    return service.summaries(front, words=q, status=status, user_id=caller.user_id, cursor=cursor, limit=limit)


@router.get("/api/users/{user_id}/executions", tags=["executions"], summary="A user's executions", responses=_READING)
def executions_of_user(
    front: TheFront,
    caller: TheCaller,
    user_id: Annotated[str, Path(description="The id that create-user returned.", examples=[models.USER])],
    cursor: PageCursor = None,
    limit: Annotated[int, Query(ge=1, le=200, description="How many at most, 1 to 200.")] = 50,
) -> models.Summaries:
    if caller.is_stranger:
        raise who_are_you()
    foreign = caller.execution_id is not None or caller.user_id not in (None, user_id)
    if foreign or front.registry.email_of(user_id) is None:
        raise unknown()
    caller.need(Scope.READ)
    return service.summaries(front, words="", status=None, user_id=user_id, cursor=cursor, limit=limit)


@router.get("/api/executions/{execution_id}", tags=["executions"], summary="Progress", responses=_READING)
def execution(front: TheFront, visit: Reading) -> models.ExecutionView:
    """The progress summary, all nine steps, and the question that waits for a person."""
    return service.view(front, visit)


@router.get(
    "/api/executions/{execution_id}/events",
    tags=["executions"],
    summary="What happens, as it happens",
    response_class=StreamingResponse,
    responses={
        **_READING,
        200: {
            "description": "Server-Sent Events. `id` is the event's number, `event` its kind; a comment now and then "
            "says that the stream lives. `gap`: what was asked for has been forgotten meanwhile.",
            "content": {"text/event-stream": {"schema": _SENT}},
        },
    },
)
async def events(
    request: Request,
    front: TheFront,
    visit: Reading,
    after: Annotated[int, Query(ge=0, le=2**62, description="Begin after this event; 0: with the first.")] = 0,
    screen: Annotated[bool, Query(description="true: with an event `screen` when the terminal changes.")] = False,
    last_event_id: Annotated[
        str | None,
        Header(alias="Last-Event-ID", description="The event that was got last; browsers send it by themselves."),
    ] = None,
) -> EventStream:
    """Resumes after `Last-Event-ID`, and never skips in silence."""
    streams: Streams = request.app.state.streams
    words = front.words_for(visit.caller)
    return streams.answer(visit.caller.name, visit.execution_id, after, screen, last_event_id, words=words)


@router.post(
    "/api/executions/{execution_id}/cancel",
    status_code=202,
    tags=["executions"],
    summary="Cancel",
    responses=_WRITING,
)
def cancel(front: TheFront, visit: Changing) -> models.Sent:
    """Ends the build or redeploy that is going on. What is live stays live. Repeating it changes nothing."""
    return service.cancel(front, visit)


@router.post(
    "/api/executions/{execution_id}/retry",
    status_code=202,
    tags=["executions"],
    summary="Go on with a build that failed",
    responses=_WRITING,
)
def retry(front: TheFront, visit: Changing, key: IdempotencyKey = None) -> models.Sent:
    """Steps that are done are not done again. 400 unless the build `failed` or was `cancelled`."""
    return service.retry(front, visit, key)


@router.post(
    "/api/executions/{execution_id}/questions/{question_id}/answer",
    tags=["agent"],
    summary="Answer a question, approve a plan",
    responses=_WRITING,
)
def answer(
    front: TheFront,
    visit: Chatting,
    question_id: Annotated[str, Path(description="As the progress shows it.")],
    given: models.Answer,
) -> models.Sent:
    """The first answer counts, wherever it was given; 409 for a later one."""
    return service.answer(front, visit, question_id, given)


@router.get("/api/executions/{execution_id}/releases", tags=["site"], summary="Releases", responses=_READING)
def releases(front: TheFront, visit: Reading) -> models.Releases:
    return service.releases(front, visit)


@router.post(
    "/api/executions/{execution_id}/rollback",
    status_code=202,
    tags=["site"],
    summary="Have an earlier release serve again",
    responses=_WRITING,
)
def rollback(
    front: TheFront, visit: Changing, wanted: models.Rollback | None = None, key: IdempotencyKey = None
) -> models.Sent:
    return service.roll_back(front, visit, wanted or models.Rollback(), key)


@router.post(
    "/api/executions/{execution_id}/teardown",
    status_code=202,
    tags=["site"],
    summary="Take the site down",
    responses=_WRITING,
)
def teardown(
    front: TheFront, visit: Ending, wanted: models.Teardown | None = None, key: IdempotencyKey = None
) -> models.Sent:
    """Removes what serves it, and all its files unless they are kept. There is no way back."""
    return service.tear_down(front, visit, wanted or models.Teardown(), key)


@router.get("/api/executions/{execution_id}/checks", tags=["site"], summary="Verifications", responses=_READING)
def checks(front: TheFront, visit: Reading) -> models.Checks:
    return models.Checks(execution_id=visit.execution_id, checks=service.checks(front, visit))


@router.get(
    "/api/executions/{execution_id}/artefacts", tags=["files"], summary="Which files there are", responses=_READING
)
def artefacts(front: TheFront, visit: Reading) -> models.Artefacts:
    """From the workspace, or from the archive where that is gone. 404 for files that are kept elsewhere."""
    shelf = files.Shelf.of(front, visit.execution_id)
    if shelf.elsewhere:
        raise shelf.lacking()
    return models.Artefacts(
        execution_id=visit.execution_id,
        screenshots=shelf.pictures(),
        report=shelf.written(files.REPORT) is not None,
        plan=shelf.written(files.PLAN) is not None,
    )


def _file(kind: str) -> dict[int | str, dict[str, Any]]:
    schema = {"schema": {"type": "string", "format": "binary"}}
    return {**_READING, 200: {"description": "To be saved, not shown: the agent wrote it.", "content": {kind: schema}}}


@router.get(
    "/api/executions/{execution_id}/screenshots/{name}",
    tags=["files"],
    summary="A picture of the site",
    response_class=Response,
    responses=_file("image/jpeg"),
)
def screenshot(
    front: TheFront, visit: Reading, name: Annotated[str, Path(description="As `artefacts` lists it.")]
) -> Response:
    if not files.PICTURE.fullmatch(name):
        raise Problem(404, "there is no such picture; the list of artefacts says which there are")
    return files.Shelf.of(front, visit.execution_id).sent(f"{files.PICTURES}/{name}", "image/jpeg")


@router.get(
    "/api/executions/{execution_id}/report",
    tags=["files"],
    summary="The report of the browser tests",
    response_class=Response,
    responses=_file("text/html"),
)
def report(front: TheFront, visit: Reading) -> Response:
    return files.Shelf.of(front, visit.execution_id).sent(files.REPORT, "text/html")


@router.get(
    "/api/executions/{execution_id}/plan",
    tags=["files"],
    summary="The agent's plan",
    response_class=Response,
    responses=_file("text/markdown"),
)
def plan(front: TheFront, visit: Reading) -> Response:
    return files.Shelf.of(front, visit.execution_id).sent(files.PLAN, "text/markdown")


hook_router = APIRouter()


@hook_router.post(
    "/hooks/form",
    status_code=202,
    tags=["webhook"],
    summary="A form's webhook",
    response_model=models.HookReceipt | models.DryRun,
    responses=_WRITING,
    openapi_extra={"requestBody": {"content": {"application/json": {"schema": {"type": "object"}}}, "required": True}},
)
async def form(
    request: Request,
    response: Response,
    front: TheFront,
    dry_run: Annotated[bool, Query(description="true: only say what it would become.")] = False,
) -> models.HookReceipt | models.DryRun:
    """A delivery signed with the operator's secret, by Standard Webhooks, Tally or Typeform, as the settings say.

    The same delivery again gets the same ids. A dry run answers 200 and keeps nothing.
    """
    raw = await request.body()
    headers = {name.lower(): value for name, value in request.headers.items()}
    allowed = await run_in_threadpool(allowed_words, request.app.openapi())
    if dry_run:
        response.status_code = 200
    return await run_in_threadpool(hooks.receive, front, headers, raw, allowed, dry_run)


@hook_router.get("/hooks/form", tags=["webhook"], summary="How the webhook fares", responses=problems(401, 403))
def form_state(front: TheFront, caller: TheCaller) -> models.HookState:
    caller.need_everybodys()
    return hooks.state(front)


@hook_router.post("/hooks/form/resume", tags=["webhook"], summary="Resume the webhook", responses=problems(401, 403))
def form_resume(front: TheFront, caller: TheCaller) -> models.HookState:
    """After too many refused deliveries in a row; the count begins anew."""
    caller.need_everybodys()
    front.registry.resume_hook(hooks.NAME)
    return hooks.state(front)
