"""Listens on loopback inside the sandbox and hands each connection to the bridge's unix socket.

`python -I -S relay.py PORT SOCKET -- COMMAND…`: listens first, so that COMMAND never meets a closed port, then a child
serves and this process becomes COMMAND. Standard library only.
"""

import os
import signal
import socket
import sys
import threading

CONNECTIONS = 128
CHUNK = 1 << 16


def pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(CHUNK):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        for end in (source, target):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


def relay(near: socket.socket, path: str, free: threading.Semaphore) -> None:
    try:
        with near, socket.socket(socket.AF_UNIX) as far:
            far.connect(path)
            back = threading.Thread(target=pump, args=(far, near), daemon=True)
            back.start()
            pump(near, far)
            back.join()
    except OSError:
        return
    finally:
        free.release()


def serve(listener: socket.socket, path: str) -> None:
    free = threading.Semaphore(CONNECTIONS)
    while True:
        free.acquire()
        near, _ = listener.accept()
        near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=relay, args=(near, path, free), daemon=True).start()


def listeners(port: int) -> list[socket.socket]:
    found = [socket.create_server(("127.0.0.1", port), backlog=CONNECTIONS)]
    if socket.has_ipv6:
        try:
            found.append(socket.create_server(("::1", port), family=socket.AF_INET6, backlog=CONNECTIONS))
        except OSError:
            return found
    return found


def main() -> None:
    port, path, separator, *command = sys.argv[1:]
    if separator != "--":
        sys.exit("relay: expected PORT SOCKET -- COMMAND")
    found = listeners(int(port))
    if os.fork() == 0:
        os.setsid()
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        for listener in found[1:]:
            threading.Thread(target=serve, args=(listener, path), daemon=True).start()
        serve(found[0], path)
    for listener in found:
        listener.close()
    os.execvp(command[0], command)  # noqa: S606 (a shell is what must not be here)


if __name__ == "__main__":
    main()
