"""Runs an app inside its sandbox and lets visitors in: `python -I -S doorman.py PORT READY_S -- COMMAND…`.

Standard input is a unix socket that listens already, made outside, so that nothing in the sandbox chooses where
visitors are led. Each connection goes to 127.0.0.1:PORT; none is taken before COMMAND listens there: early visitors
wait in the socket's queue. SIGTERM: the queue is emptied, answers that are on their way are finished, then COMMAND is
asked to end. The exit code is COMMAND's. Standard library only.
"""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Awaitable

CONNECTIONS = 256
CHUNK = 1 << 16
LOOK_EVERY_S = 0.02
QUEUE_S, ANSWERS_S, END_S = 0.5, 8.0, 4.0
SILENCE_S = (
    0.1  # an app that is ending takes connections for a moment longer; the next visitor shall meet its successor
)
ADDRESSES = ("127.0.0.1", "::1")


def say(text: str) -> None:
    sys.stderr.write(f"[doorman] {text}\n")
    sys.stderr.flush()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, silence_s: float = 0) -> None:
    """``silence_s`` is how much later the other side learns that this one hung up without a word."""
    silent = True
    while data := await reader.read(CHUNK):
        silent = False
        writer.write(data)
        await writer.drain()
    if silent:
        await asyncio.sleep(silence_s)
    if writer.can_write_eof():
        writer.write_eof()


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def serve(near: socket.socket, far: Streams) -> None:
    far_in, far_out = far
    ends = [far_out]
    try:
        near_in, near_out = await asyncio.open_unix_connection(sock=near)
        ends.append(near_out)
        await asyncio.gather(pump(near_in, far_out), pump(far_in, near_out, SILENCE_S))
    except OSError:
        return
    finally:
        for end in ends:
            end.close()
        near.close()


async def first_open(port: int) -> str:
    """The loopback address on which somebody listens, once somebody does."""
    while True:
        for address in ADDRESSES:
            try:
                _, writer = await asyncio.open_connection(address, port)
            except OSError:
                continue
            writer.close()
            return address
        await asyncio.sleep(LOOK_EVERY_S)


class Door:
    def __init__(self, listener: socket.socket, port: int) -> None:
        self.listener, self.port = listener, port
        self.serving: set[asyncio.Task[None]] = set()
        self.free = asyncio.Semaphore(CONNECTIONS)

    async def open(self, address: str) -> None:
        """A visitor leaves the queue only once the app has taken the connection: the queue outlives the app."""
        while True:
            await self.free.acquire()
            await self.somebody_waits()
            try:
                far = await asyncio.open_connection(address, self.port)
            except OSError:
                self.free.release()
                await asyncio.sleep(LOOK_EVERY_S)
                continue
            try:
                near, _ = self.listener.accept()
            except OSError:  # the visitor has gone
                far[1].close()
                self.free.release()
                continue
            near.setblocking(False)
            task = asyncio.create_task(serve(near, far))
            self.serving.add(task)
            task.add_done_callback(self.serving.discard)
            task.add_done_callback(lambda _: self.free.release())

    async def somebody_waits(self) -> None:
        loop, waits = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self.listener, waits.set)
        try:
            await waits.wait()
        finally:
            loop.remove_reader(self.listener)

    async def finish(self) -> None:
        if self.serving:
            await asyncio.wait(set(self.serving), timeout=ANSWERS_S)


async def one_of(*waited: Awaitable[object]) -> None:
    await asyncio.wait([asyncio.ensure_future(each) for each in waited], return_when=asyncio.FIRST_COMPLETED)


def to_group(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return


async def run(listener: socket.socket, port: int, ready_s: float, command: list[str]) -> int:
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asked.set)
    try:
        process = await asyncio.create_subprocess_exec(*command, start_new_session=True)
    except OSError as error:
        say(f"cannot start {command[0]!r}: {error.strerror}")
        return 127
    ended, stop = asyncio.create_task(process.wait()), asyncio.create_task(asked.wait())
    opened = asyncio.create_task(first_open(port))
    await asyncio.wait([ended, stop, opened], timeout=ready_s, return_when=asyncio.FIRST_COMPLETED)
    if opened.done():
        door = Door(listener, port)
        taking = asyncio.create_task(door.open(opened.result()))
        await one_of(ended, stop, taking)
        if not ended.done():
            await asyncio.wait([ended], timeout=QUEUE_S)
        taking.cancel()
        listener.close()
        if not ended.done():
            await door.finish()
    elif not (ended.done() or stop.done()):
        say(f"nothing listened on 127.0.0.1:{port} within {ready_s:.0f} s; the app must listen on the port in PORT")
        to_group(process, signal.SIGKILL)
        return 124
    if not ended.done():
        to_group(process, signal.SIGTERM)
        await asyncio.wait([ended], timeout=END_S)
    to_group(process, signal.SIGKILL)
    code = await ended
    return code if code >= 0 else 128 - code


def main() -> None:
    port, ready_s, separator, *command = sys.argv[1:]
    if separator != "--" or not command:
        sys.exit("doorman: expected PORT READY_S -- COMMAND")
    listener = socket.socket(fileno=os.dup(0))
    listener.setblocking(False)
    os.set_inheritable(listener.fileno(), False)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    code = asyncio.run(run(listener, int(port), float(ready_s), command))
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
