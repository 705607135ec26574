"""The least that a worker can run: what starting any flow costs."""

from prefect import flow, get_run_logger


@flow(name="empty")
async def empty() -> None:
    get_run_logger().info("first line")
