"""The pages: an order form, one page for each execution, and the operator's list.

Made here, in HTML that works without JavaScript; with it, `live.js` fetches the same page again when something has
happened. They call what the API's routes call. Nothing that an agent made is shown but text, escaped, and pictures that
were drawn anew.
"""

import hashlib
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path as FilePath
from types import UnionType
from typing import Annotated, Any, TypeVar, get_args
from uuid import uuid4

from fastapi import APIRouter, Depends, FastAPI, Header, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse, StreamingResponse
from fastapi.routing import APIRoute
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import BaseModel, ValidationError

from deployments.front import bodies, files, hooks, models, service, showing
from deployments.front.access import Caller, TheFront, Visit, known, may_order, visit_of
from deployments.front.problems import Problem, problem_of
from deployments.front.scopes import Scope
from deployments.front.service import Front
from deployments.front.session import Seal, caller_of, close_session, open_session, same_origin, secret_in
from deployments.front.settings import FrontSettings
from deployments.front.stream import EventStream, Streams
from deployments.front.tokens import KEY, LINK, sha256_of
from tasks.adapters.workspace import Workspace
from tasks.domain.agent import QUESTION_TOOL
from tasks.domain.pipeline import SiteState, Status, Step, Verb
from tasks.domain.release import MARKER_PATH
from tasks.domain.request import AgentKind, HostProvider, SiteRequest, SiteType
from tasks.domain.text import plain_text

HERE = FilePath(__file__).parent
KINDS = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
LINES, LISTED, LOGINS = 60, 40, 10
_JPEG = b"\xff\xd8\xff"
_YEAR = "public, max-age=31536000, immutable"


class Static:
    """The files that pages load, read once; an address names the content, so that a browser may keep it."""

    def __init__(self, folder: FilePath = HERE / "static") -> None:
        self.content = {file.name: file.read_bytes() for file in sorted(folder.iterdir()) if file.suffix in KINDS}
        self._versions = {name: hashlib.sha256(data).hexdigest()[:12] for name, data in self.content.items()}

    def address(self, name: str) -> str:
        return f"/static/{name}?v={self._versions[name]}"


class Pages:
    """What the pages share: templates, files, and the seal of their cookies."""

    def __init__(self, settings: FrontSettings) -> None:
        self.static = Static()
        self.seal = Seal(secret_in(settings.home))
        self.templates = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        words = ("duration", "moment", "size", "taken", "rendered", "asked", "is_web", "STEPS", "STATUSES", "CHECKS")
        self.templates.globals.update({name: getattr(showing, name) for name in words})
        self.templates.globals.update(static=self.static.address, plain=plain_text, may=_may, Scope=Scope)

    def show(self, name: str, status: int = 200, headers: Mapping[str, str] | None = None, **told: Any) -> HTMLResponse:
        now = datetime.now(UTC)
        html = self.templates.get_template(name).render(now=now, **told)
        return HTMLResponse(html, status, {"Content-Security-Policy": CSP, **(headers or {})})


def _may(visit: Visit, scope: Scope) -> bool:
    return scope in visit.caller.scopes


class PageRoute(APIRoute):
    """A route for browsers: what changes something must come from a page of this origin, as a form."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def careful(request: Request) -> Response:
            if request.method not in ("GET", "HEAD"):
                same_origin(request)
                request.state.form = bodies.form(await request.body(), request.headers.get("content-type", ""))
            return await handle(request)

        return careful


router = APIRouter(route_class=PageRoute, include_in_schema=False, default_response_class=HTMLResponse)


def install(app: FastAPI, settings: FrontSettings) -> Callable[[Request, Problem], Response | None]:
    """Add the pages; what is returned shows a problem as one of them, to a browser that wants pages."""
    pages = app.state.pages = Pages(settings)
    app.include_router(router)

    def shown(request: Request, problem: Problem) -> Response | None:
        of_the_api = request.url.path.startswith(("/api/", "/hooks/"))
        wants_page = "text/html" in request.headers.get("accept", "")
        if of_the_api or not (wants_page or isinstance(request.scope.get("route"), PageRoute)):
            return None
        back = f"/e/{request.path_params['execution_id']}" if "execution_id" in request.path_params else "/"
        headers = {name: value for name, value in problem.headers.items() if name != "WWW-Authenticate"}
        return pages.show("problem.html", problem.status, headers, problem=problem, back=back)

    return shown


async def _pages(request: Request) -> Pages:
    found: Pages = request.app.state.pages
    return found


async def _form(request: Request) -> dict[str, str]:
    found: dict[str, str] = request.state.form
    return found


ThePages = Annotated[Pages, Depends(_pages)]
TheForm = Annotated[dict[str, str], Depends(_form)]


def _caller(request: Request, front: TheFront, pages: ThePages) -> Caller:
    return caller_of(request, front, pages.seal)


Browsing = Annotated[Caller, Depends(_caller)]


class Watching:
    """As the API's `Visiting`, for who comes with a cookie."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    def __call__(self, front: TheFront, caller: Browsing, execution_id: str) -> Visit:
        return visit_of(front, caller, execution_id, self.scope)


Reading = Annotated[Visit, Depends(Watching(Scope.READ))]
Chatting = Annotated[Visit, Depends(Watching(Scope.CHAT))]
Changing = Annotated[Visit, Depends(Watching(Scope.CHANGE))]
Ending = Annotated[Visit, Depends(Watching(Scope.TEARDOWN))]

Model = TypeVar("Model", bound=BaseModel)


def _made(model: type[Model], **values: Any) -> Model:
    """Raises Problem that names the first field which is not as it has to be."""
    try:
        return model(**values)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        name = str(first["loc"][0]) if first["loc"] else "form"
        field = model.model_fields.get(name)
        raise Problem.about(name, first["msg"], (field and field.description) or "text") from None


def _to(address: str) -> RedirectResponse:
    return RedirectResponse(address, 303)


@router.get("/static/{name}")
async def static(pages: ThePages, name: str) -> Response:
    data = pages.static.content.get(name)
    if data is None:
        raise Problem(404, "there is no such file")
    headers = {"Cache-Control": _YEAR, "Content-Security-Policy": "default-src 'none'; sandbox"}
    return Response(data, media_type=KINDS[FilePath(name).suffix], headers=headers)


# -- ordering --


class Example(BaseModel):
    name: str
    requirements: str
    site_type: SiteType = SiteType.STATIC


EXAMPLES = {
    "bakery": Example(
        name="A bakery",
        requirements="A website for Brot & Butter, a bakery in Leipzig. Warm colours. Pages: home, our breads with "
        "prices, opening hours (Tuesday to Saturday, 7 to 18), and how to find us.",
    ),
    "photographer": Example(
        name="A photographer",
        requirements="A dark portfolio for the photographer Ana Reis with a projects gallery, a short page about her, "
        "and a contact form.",
    ),
    "yoga": Example(
        name="A studio with bookings",
        requirements="A calm site for Studio Ruhe, yoga in small groups. Visitors see the week's classes and book a "
        "place with name and e-mail; the bookings are kept.",
        site_type=SiteType.DYNAMIC,
    ),
    "meetup": Example(
        name="An event",
        requirements="One page for the Rust Meetup Lisbon on 14 May: three talks with speakers, the venue with "
        "directions, a timetable from 18:30, and a code of conduct.",
    ),
}

_CHOICES: Mapping[StrEnum, tuple[str, str]] = {
    SiteType.STATIC: ("Pages", "Pages, styles and scripts. Nothing runs on the server."),
    SiteType.DYNAMIC: ("With memory", "A program of its own that keeps what visitors send, such as bookings."),
    AgentKind.OFFLINE: ("The template generator", "No language model. Ready in under a minute."),
    AgentKind.CLAUDE: ("Claude Code", "A coding agent. Takes its time, and may ask you something."),
    HostProvider.LOCAL: ("This machine", "At an address of its own under localhost."),
}
_HELP = {
    "requirements": "In your own words and language: what it is for, its name, the pages it needs, colours, mood.",
    "email": "Such as ana@example.com. Never published.",
    "phone": "With country code, such as +49 151 12345678. Never published.",
    "approve_plan": "The plan is shown to you first: you say yes, no, or what to change.",
    "keep_days": "Counted from the first time that it is live. Empty: it stays until somebody takes it down.",
}
"""Where a page says it another way than Prefect's form; everything else is the model's own description."""

_TITLES = {"approve_plan": "Show me the plan before anything is built", "keep_days": "Take it down after (days)"}
_WRONG = {
    "requirements": "Say in a few words what the website shall be; at most 20,000 characters.",
    "email": "This is no e-mail address that can exist. It looks like ana@example.com.",
    "phone": "This is no number that exists. It begins with + and the country code, such as +49 151 12345678.",
    "keep_days": "A whole number of days from 1 to 3650, or nothing.",
    "invite": "This invite code is not known. Ask whoever invited you for it.",
}
_BLOCKS = ("hosting", "coding_agent")


class Field(BaseModel):
    """One field of the form, as the template shows it."""

    name: str
    title: str
    help: str
    value: str = ""
    error: str = ""
    choices: list[tuple[str, str, str]] = []


def fields(values: Mapping[str, str], errors: Mapping[str, str]) -> dict[str, Field]:
    """The model's fields with what was typed; a choice has (value, title, help)."""
    found = {}
    for name, field in SiteRequest.model_fields.items():
        default = "" if field.default in (None, False) or field.is_required() else str(field.default)
        found[name] = Field(
            name=name,
            title=_TITLES.get(name) or field.title or name,
            help=_HELP.get(name) or field.description or "",
            value=values.get(name, default),
            error=errors.get(name, ""),
            choices=_choices(field.annotation),
        )
    words = "Orders are by invitation: the code that you were given."
    invite = {"value": values.get("invite", ""), "error": errors.get("invite", "")}
    found["invite"] = Field(name="invite", title="Invite code", help=words, **invite)
    return found


def _choices(annotation: Any) -> list[tuple[str, str, str]]:
    kinds = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
    enums = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, StrEnum)]
    return [(str(each), *_CHOICES.get(each, (str(each), ""))) for enum in enums for each in enum]


def _order_page(
    pages: Pages,
    front: Front,
    caller: Caller,
    values: Mapping[str, str],
    errors: Mapping[str, str] | None = None,
    problem: Problem | None = None,
    status: int = 200,
) -> Response:
    headers = problem.headers if problem else {}
    if caller.is_stranger and front.settings.web_form == "closed":
        return pages.show("closed.html", status, headers)
    return pages.show(
        "order.html",
        status,
        headers,
        fields=fields(values, errors or {}),
        errors=errors or {},
        problem=problem,
        key=values.get("key") or str(uuid4()),
        examples=EXAMPLES,
        invited=caller.is_stranger and front.settings.web_form == "invite",
        operator=not caller.is_stranger,
    )


@router.get("/")
def order_form(
    pages: ThePages,
    front: TheFront,
    caller: Browsing,
    example: str = "",
    invite: Annotated[str, Query(max_length=200)] = "",
) -> Response:
    chosen = EXAMPLES.get(example)
    values = {"requirements": chosen.requirements, "site_type": str(chosen.site_type)} if chosen else {}
    return _order_page(pages, front, caller, {**values, "invite": invite})


@router.get("/e/{execution_id}/again")
def order_again(pages: ThePages, front: TheFront, visit: Reading) -> Response:
    """The form, filled in with what was ordered; who may order is asked when it is sent."""
    request = front.registry.execution(visit.execution_id).request.model_dump(mode="json", exclude_none=True)
    values = {name: "" if value is False else str(value) for name, value in request.items()}
    caller = Caller("", visit.caller.address) if visit.caller.execution_id else visit.caller
    return _order_page(pages, front, caller, values)


@router.post("/")
def order(pages: ThePages, front: TheFront, caller: Browsing, form: TheForm) -> Response:
    """Take the order and go to its page; or show the form again with what was typed, and what is wrong with it."""
    try:
        may_order(front, caller)
    except Problem as refused:
        return _order_page(pages, front, caller, form, problem=refused, status=refused.status)
    given = {name: hooks.as_people_write(name, value.strip()) for name, value in form.items()}
    key, invite = given.pop("key", ""), given.pop("invite", "")
    try:
        request = SiteRequest.model_validate({name: value for name, value in given.items() if value})
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False, include_context=False)
        wrong = {str(each["loc"][0]): each["msg"] for each in found if each["loc"]}
        errors = {name: _WRONG.get(name, words) for name, words in wrong.items() if name in SiteRequest.model_fields}
        problem = None if errors else Problem(422, "There is a field in it that this form does not have.")
        return _order_page(pages, front, caller, form, errors, problem, 422)
    try:
        created = service.order(front, caller, request, key or None, invite)
    except Exception as error:
        problem = problem_of(error)
        if problem is None:
            raise
        names = {"Invite-Code": "invite", "Idempotency-Key": "key"}
        told = {names.get(each.field, each.field): each for each in problem.errors}
        errors = {name: _WRONG.get(name, each.reason) for name, each in told.items() if name != "key"}
        again = {**form, "key": ""} if problem.status == 409 or "key" in told else form
        return _order_page(pages, front, caller, again, errors, None if errors else problem, problem.status)
    path = f"/e/{created.execution_id}"
    response = _to(f"{path}?ordered=1")
    open_session(response, front, pages.seal, "link", sha256_of(created.token), path)
    return response


# -- one execution --


@router.get("/e/{execution_id}")
def execution(
    request: Request,
    pages: ThePages,
    front: TheFront,
    execution_id: str,
    token: Annotated[str, Query(max_length=200)] = "",
    ordered: bool = False,
    before: Annotated[int | None, Query(ge=1, le=2**62)] = None,
    hold: bool = False,
) -> Response:
    """The link that a requester has opens a session, and goes on to an address without the token."""
    if token:
        caller = known(front, "link", sha256_of(token), "") if token.startswith(LINK) else None
        if caller is None or caller.execution_id != execution_id:
            raise Problem(404, "this link is good no more, or was not copied to its end")
        response = _to(f"/e/{execution_id}")
        open_session(response, front, pages.seal, "link", sha256_of(token), f"/e/{execution_id}")
        return response
    visit = visit_of(front, caller_of(request, front, pages.seal), execution_id, Scope.READ)
    told = _told(front, visit, before)
    return pages.show("execution.html", **told, ordered=ordered, before=before, hold=hold, link=None)


def _told(front: Front, visit: Visit, before: int | None = None) -> dict[str, Any]:
    """All that an execution's page shows. What happened up to ``seq`` is in it; the stream brings what comes after."""
    registry, execution_id = front.registry, visit.execution_id
    seq = registry.newest([execution_id]).get(execution_id, (0, None))[0]
    view = service.view(front, visit)
    record = registry.execution(execution_id)
    runs = registry.unfinished_runs(execution_id)
    shelf = files.Shelf.of(front, execution_id)
    plan = shelf.read(files.PLAN) or b""
    messages = registry.last_messages(execution_id, before, LINES + 1)
    screen = registry.screen(execution_id)
    live = view.site_state is not SiteState.TAKEN_DOWN and record.live_release is not None
    settled = view.status.is_final and not runs
    built = settled and front.registry.ever_did(execution_id, Step.GENERATE_CODE)
    workspace = Workspace.of(front.settings.home, record.user_id, record.session_id)
    if view.site_state is SiteState.TAKEN_DOWN and workspace.is_bare():
        last = registry.last_run(execution_id, Verb.TEARDOWN)
        built = built and bool(last and last.parameters and last.parameters.get("keep_files"))
    lead = registry.leading_runs([execution_id]).get(execution_id)
    pictures = _pictures(shelf, execution_id)
    return {
        "visit": visit,
        "view": view,
        "record": record,
        "seq": seq,
        "happens": showing.happens(view, runs),
        "plan": plan[: showing.PLAN_BYTES].decode("utf-8", "replace"),
        "plan_is_cut": len(plan) > showing.PLAN_BYTES,
        "messages": [message for message in messages[-LINES:] if message.body != QUESTION_TOOL],
        "picked": showing.picked(messages, registry.questions(execution_id, "agent")),
        "earlier": messages[-LINES].message_id if len(messages) > LINES else None,
        "screen": plain_text(screen.body) if screen else "",
        "pictures": pictures,
        "outdated": _outdated(shelf, view),
        "evidence": _evidence(shelf, execution_id, pictures),
        "checks": showing.newest_checks(service.checks(front, visit)),
        "releases": service.releases(front, visit).releases,
        "live": live,
        "marker": f"{record.url.rstrip('/')}/{MARKER_PATH}" if live and record.url else "",
        "talks": view.status in (Status.RUNNING, Status.WAITING_INPUT),
        "can": {
            "order": visit.caller.execution_id is None or front.settings.web_form != "closed",
            "cancel": not view.status.is_final and not any(run.cancel_requested for run in runs),
            "retry": settled and service.can_retry(front, record),
            "redeploy": built,
            "rollback": settled and live,
            "teardown": settled and view.site_state is not SiteState.TAKEN_DOWN,
        },
        "flow_run": lead.flow_run_id if lead and visit.caller.execution_id is None else None,
        "prefect": front.settings.web_prefect.rstrip("/"),
    }


def _pictures(shelf: files.Shelf, execution_id: str) -> list[tuple[str, str]]:
    """Each with an address that changes when the picture does."""
    known = [(name, shelf.written(f"{files.PICTURES}/{name}")) for name in shelf.pictures()]
    return [(name, f"/e/{execution_id}/pictures/{name}?v={taken}") for name, taken in known if taken]


def _outdated(shelf: files.Shelf, view: models.ExecutionView) -> bool:
    """Whether the pictures were taken before what is live was put there, as after a rollback.

    Files' clocks are coarse, and a picture that counts is taken seconds after publishing.
    """
    taken = shelf.written(f"{files.PICTURES}/desktop.jpg")
    return taken is not None and view.last_deployed is not None and taken / 1e9 + 1 < view.last_deployed.timestamp()


def _evidence(shelf: files.Shelf, execution_id: str, pictures: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Where each file that a check may name is fetched, by its path in the workspace; only those that are there."""
    found = {f"{files.PICTURES}/{name}": address for name, address in pictures}
    for name, path in (("report", files.REPORT), ("results", files.RESULTS)):
        if shelf.written(path) is not None:
            found[path] = f"/e/{execution_id}/{name}"
    return found


@router.get("/e/{execution_id}/events", response_class=StreamingResponse)
async def events(
    request: Request,
    front: TheFront,
    visit: Reading,
    after: Annotated[int, Query(ge=0, le=2**62)] = 0,
    last_event_id: Annotated[str | None, Header(alias="Last-Event-ID")] = None,
) -> EventStream:
    streams: Streams = request.app.state.streams
    words = front.words_for(visit.caller)
    return streams.answer(visit.caller.name, visit.execution_id, after, True, last_event_id, "news", words)


@router.get("/e/{execution_id}/pictures/{name}", response_class=Response)
def picture(front: TheFront, visit: Reading, name: str) -> Response:
    """A JPEG that our own program drew, or nothing."""
    shelf = files.Shelf.of(front, visit.execution_id)
    data = shelf.read(f"{files.PICTURES}/{name}") if files.PICTURE.fullmatch(name) else None
    if data is None or not data.startswith(_JPEG):
        raise shelf.lacking() if shelf.elsewhere else Problem(404, "there is no such picture")
    headers = {"Content-Security-Policy": "default-src 'none'; sandbox", "Cache-Control": "private, max-age=3600"}
    return Response(data, media_type="image/jpeg", headers=headers)


@router.get("/e/{execution_id}/report", response_class=Response)
def report(front: TheFront, visit: Reading) -> Response:
    """To be saved: no browser shows it in this origin."""
    return files.Shelf.of(front, visit.execution_id).sent(files.REPORT, "application/octet-stream")


@router.get("/e/{execution_id}/results", response_class=Response)
def results(front: TheFront, visit: Reading) -> Response:
    return files.Shelf.of(front, visit.execution_id).sent(files.RESULTS, "application/octet-stream")


@router.get("/e/{execution_id}/plan", response_class=Response)
def plan(front: TheFront, visit: Reading) -> Response:
    return files.Shelf.of(front, visit.execution_id).sent(files.PLAN, "application/octet-stream")


@router.post("/e/{execution_id}/chat")
def chat(front: TheFront, visit: Chatting, form: TheForm) -> Response:
    said = _made(models.ChatMessage, message=form.get("message", ""), interrupt="interrupt" in form)
    service.say(front, visit, said.message, said.interrupt)
    return _to(f"/e/{visit.execution_id}#conversation")


@router.post("/e/{execution_id}/questions/{question_id}")
def answer(front: TheFront, visit: Chatting, question_id: str, form: TheForm) -> Response:
    """A press on a choice sends its number; what was written beside it is sent by a button of its own."""
    values: dict[str, Any] = {name: form[name] for name in ("decision", "changes") if form.get(name)}
    text = form.get("choice") or form.get("text")
    if "decision" not in form or text:
        values = {"text": text or ""}
    service.answer(front, visit, question_id, _made(models.Answer, **values))
    return _to(f"/e/{visit.execution_id}")


def _key(form: Mapping[str, str], what: str) -> str | None:
    """Pressing twice on a page that shows the same is one press."""
    seq = form.get("seq", "")
    return f"page-{what}-{seq}" if seq.isdecimal() and seq.isascii() and len(seq) < 20 else None


@router.post("/e/{execution_id}/retry")
def retry(front: TheFront, visit: Changing, form: TheForm) -> Response:
    service.retry(front, visit, _key(form, "retry"))
    return _to(f"/e/{visit.execution_id}")


@router.post("/e/{execution_id}/redeploy")
def redeploy(front: TheFront, visit: Changing, form: TheForm) -> Response:
    service.redeploy(front, visit, _key(form, "redeploy"))
    return _to(f"/e/{visit.execution_id}")


@router.post("/e/{execution_id}/rollback")
def rollback(front: TheFront, visit: Changing, form: TheForm) -> Response:
    wanted = _made(models.Rollback, release=form.get("release") or None)
    service.roll_back(front, visit, wanted, _key(form, f"rollback-{wanted.release}"))
    return _to(f"/e/{visit.execution_id}#releases")


@router.post("/e/{execution_id}/cancel")
def cancel(front: TheFront, visit: Changing) -> Response:
    service.cancel(front, visit)
    return _to(f"/e/{visit.execution_id}")


@router.get("/e/{execution_id}/teardown")
def teardown_form(pages: ThePages, front: TheFront, visit: Ending) -> Response:
    return pages.show("teardown.html", **_told(front, visit))


@router.post("/e/{execution_id}/teardown")
def teardown(front: TheFront, visit: Ending, form: TheForm) -> Response:
    wanted = models.Teardown(keep_files="keep_files" in form)
    service.tear_down(front, visit, wanted, _key(form, f"teardown-{wanted.keep_files}"))
    return _to(f"/e/{visit.execution_id}")


@router.post("/e/{execution_id}/link")
def link(pages: ThePages, front: TheFront, visit: Reading) -> Response:
    """One more link to this page, shown this once. Whoever opens it may do what its holder may."""
    token = service.new_link(front, visit)
    address = service.page_link(front.settings.base_url, visit.execution_id, token)
    told = _told(front, visit)
    return pages.show("execution.html", **told, ordered=False, before=None, hold=True, link=address)


# -- the operator --


@router.get("/operator")
def operator(
    pages: ThePages,
    front: TheFront,
    caller: Browsing,
    q: Annotated[str, Query(max_length=254)] = "",
    status: str = "",
    cursor: Annotated[str, Query(max_length=60)] = "",
) -> Response:
    if Scope.OPERATE not in caller.scopes:
        return pages.show("login.html", error="")
    wanted, words, user_id = (Status(status) if status in set(Status) else None), q.strip(), caller.user_id
    waiting = []
    if wanted in (None, Status.WAITING_INPUT) and not cursor:
        waiting = service.summaries(
            front, words=words, status=Status.WAITING_INPUT, user_id=user_id, cursor=None, limit=LISTED
        ).executions
    page = service.summaries(front, words=words, status=wanted, user_id=user_id, cursor=cursor or None, limit=LISTED)
    ids = [each.execution_id for each in [*waiting, *page.executions]]
    return pages.show(
        "operator.html",
        caller=caller,
        waiting=waiting,
        executions=[each for each in page.executions if each not in waiting],
        cursor=page.next_cursor,
        runs=front.registry.leading_runs(ids),
        prefect=front.settings.web_prefect.rstrip("/"),
        traffic=service.traffic(front),
        hook=hooks.state(front) if caller.user_id is None else None,
        q=q,
        wanted=wanted,
        statuses=list(Status),
    )


@router.post("/operator")
def log_in(pages: ThePages, front: TheFront, form: TheForm, caller: Browsing) -> Response:
    front.rates.spend(f"logins {caller.address}", LOGINS)
    key = form.get("key", "").strip()
    found = known(front, "key", sha256_of(key), caller.address) if key.startswith(KEY) else None
    if found is None or Scope.OPERATE not in found.scopes:
        words = "This key is not good, or does not have the scope operate."
        return pages.show("login.html", 403, error=words)
    response = _to("/operator")
    open_session(response, front, pages.seal, "key", sha256_of(key), "/")
    return response


@router.post("/operator/leave")
def log_out(front: TheFront) -> Response:
    response = _to("/operator")
    close_session(response, front)
    return response


@router.post("/operator/hook")
def resume_hook(front: TheFront, caller: Browsing) -> Response:
    caller.need_everybodys()
    front.registry.resume_hook(hooks.NAME)
    return _to("/operator")
