"""What the Prefect server does by itself: it notices runs whose whole machine is gone.

A worker sees the end of its engines, and the dispatcher that of engines without a worker. Where a machine vanishes
with both, nothing but missing heartbeats tells. The run is then marked as crashed, and some dispatcher starts it again.
"""

from datetime import timedelta

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

from deployments.configuration import HEARTBEAT_S

SILENT_S = 6 * HEARTBEAT_S
"""How long a run may be without a sign of life. A machine that is only busy must not look dead."""

ZOMBIES = "tmux-builder: runs whose machine is gone"

_RUN = "prefect.flow-run"
_LIFE = ("heartbeat", "Completed", "Failed", "Cancelled", "Crashed", "Suspended", "AwaitingRetry")


def zombies(silent_s: float = SILENT_S) -> AutomationCore:
    return AutomationCore(
        name=ZOMBIES,
        description="Marks a run as crashed when its heartbeats stop; the dispatcher starts it again.",
        trigger=EventTrigger(
            after={f"{_RUN}.heartbeat"},
            expect={f"{_RUN}.{sign}" for sign in _LIFE},
            match={"prefect.resource.id": [f"{_RUN}.*"]},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=silent_s),
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED, message=f"no sign of life for {silent_s:.0f} s: its machine may be gone"
            )
        ],
    )


async def register_automations(silent_s: float = SILENT_S) -> None:
    """Safe to repeat; one that somebody switched off stays off."""
    wanted = zombies(silent_s)
    async with get_client() as client:
        known = await client.read_automations_by_name(ZOMBIES)
        if not known:
            await client.create_automation(wanted)
            return
        wanted.enabled = known[0].enabled
        if known[0].trigger != wanted.trigger:
            await client.update_automation(known[0].id, wanted)
