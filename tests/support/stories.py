"""Executions in the states that a page shows, written to the registry and the workspace as the pipeline writes them."""

import io
from dataclasses import dataclass, field

from PIL import Image, ImageDraw

from tasks.adapters.registry import Registry
from tasks.adapters.workspace import Workspace
from tasks.domain.check import Check, Finding, Outcome
from tasks.domain.hosting import Site
from tasks.domain.pipeline import Failure, SiteState, Status, Step, Verb, Verdict
from tasks.domain.release import FileEntry, Manifest, Release, release_id_for
from tasks.domain.request import SiteRequest
from tests.support.front import Door

WISH = (
    "A website for Brot & Butter, a bakery in Leipzig. Warm colours. Pages: home, our breads with prices, opening "
    "hours (Tuesday to Saturday, 7 to 18), and how to find us."
)
PLAN = """\
# Plan: Brot & Butter

A warm, quiet site for a bakery in Leipzig. Four pages, one menu.

| page | what is on it |
|---|---|
| Home | who we are, a picture, today's hours |
| Breads | twelve breads with prices |

## How it is built
1. One stylesheet, no framework.
2. Hours as text, so that a screen reader reads them.
"""


def picture(width: int, height: int, colour: str) -> bytes:
    image = Image.new("RGB", (width, height), colour)
    drawing = ImageDraw.Draw(image)
    for top in range(60, height, 160):
        drawing.rectangle((width // 10, top, width * 9 // 10, top + 90), fill="#fffaf0")
    data = io.BytesIO()
    image.save(data, "JPEG", quality=80)
    return data.getvalue()


@dataclass
class Story:
    """One execution, and what happens to it."""

    registry: Registry
    workspace: Workspace
    execution_id: str
    run_id: str
    site_name: str
    releases: list[str] = field(default_factory=list)

    def reach(self, last: Step, first: Step = Step.CREATE_USER) -> None:
        """Everything before ``last`` is done, and that is begun."""
        for step in Step:
            if first <= step < last:
                self.registry.begin_step(self.run_id, step)
                self.registry.finish_step(self.run_id, step, {})
        self.registry.begin_step(self.run_id, last)

    def say(self, author: str, body: str, kind: str = "say") -> None:
        self.registry.note_said(self.execution_id, [(f"{author}-{kind}-{body[:40]}", author, kind, body)])

    def ask(self, kind: str, body: str, number: int = 1) -> str:
        question = self.registry.ask_question(self.run_id, kind, number, body, 3600)  # type: ignore[arg-type]
        self.registry.set_status(self.execution_id, Status.WAITING_INPUT)
        return question.question_id

    def publish(self, text: str = "home") -> str:
        number = 1 + len(self.releases)
        files = (FileEntry(path="index.html", size=48_211, sha256=f"{number:064x}", headers={"x": text}),)
        release_id = release_id_for(number, files)
        manifest = Manifest(release_id=release_id, files=files)
        self.registry.record_release(
            self.execution_id, Release(number=number, release_id=release_id, root="/x", manifest=manifest)
        )
        site = Site(name=self.site_name, url=f"http://{self.site_name}.localhost:8401/", release_id=release_id)
        self.registry.record_published(self.execution_id, site)
        self.registry.record_good(self.execution_id, release_id)
        self.releases.append(release_id)
        return release_id

    def photograph(self) -> None:
        (self.workspace.screenshots / "desktop.jpg").write_bytes(picture(1280, 2400, "#b5651d"))
        (self.workspace.screenshots / "phone.jpg").write_bytes(picture(390, 2000, "#b5651d"))
        (self.workspace.screenshots / "desktop-breads.jpg").write_bytes(picture(1280, 800, "#8a4b12"))

    def check(self, outcome: Outcome = Outcome.PASSED) -> None:
        found = [Finding(name="release id", outcome=Outcome.PASSED, detail="the served release is the published one")]
        self.registry.record_check(
            self.run_id, Check(name="health_check", outcome=Outcome.PASSED, findings=tuple(found), seconds=0.2)
        )
        looked = (
            Finding(name="links", outcome=Outcome.PASSED, detail="14 links, all answered"),
            Finding(name="console", outcome=outcome, detail="/breads/: Uncaught ReferenceError", gate=False),
        )
        paths = ("deployment/screenshots/desktop.jpg", "deployment/screenshots/phone.jpg")
        self.registry.record_check(
            self.run_id, Check(name="screenshot", outcome=outcome, findings=looked, evidence=paths, seconds=7.4)
        )
        self.workspace.report.write_text("<script>window.__xss = 1</script>")

    def finish(self) -> None:
        for _ in range(2):
            self.publish(f"text {len(self.releases)}")
        self.photograph()
        self.check()
        self.reach(Step.E2E_TESTS)
        self.registry.finish_step(self.run_id, Step.E2E_TESTS, {})
        self.registry.set_site_state(self.site_name, SiteState.LIVE)
        self.registry.set_status(self.execution_id, Status.COMPLETED, verdict=Verdict.PASSED)

    def fail(self, step: Step, message: str) -> None:
        self.reach(step)
        self.registry.fail_step(self.run_id, step, message)
        failure = Failure(step=step, step_name=step.task_name, message=message)
        self.registry.set_status(self.execution_id, Status.FAILED, failure)


def a_story(door: Door, key: str, requirements: str = WISH, email: str = "ana@example.com", plan: str = PLAN) -> Story:
    """Accepted and begun, with a workspace and a plan in it."""
    request = SiteRequest(requirements=requirements, email=email, phone="+4915112345678")
    accepted = door.registry.accept(request, key)
    door.registry.adopt_run(accepted.execution_id, Verb.FULL_BUILD, f"flow-{key}")
    return told_of(door, accepted.execution_id, accepted.run_id, accepted.site_name, plan)


def told_of(door: Door, execution_id: str, run_id: str, site_name: str, plan: str = PLAN) -> Story:
    """What happens to an execution that was ordered by somebody else."""
    record = door.registry.execution(execution_id)
    workspace = Workspace.of(door.settings.home, record.user_id, record.session_id)
    workspace.lay_out()
    workspace.plan.write_text(plan)
    return Story(door.registry, workspace, execution_id, run_id, site_name)
