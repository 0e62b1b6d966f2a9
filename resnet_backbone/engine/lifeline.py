"""A process that dies or fails ends the others at once, with its reason.

Every process keeps a socket to the first one. The system closes it when a process dies, however it does, so nothing
has to be measured: a process that is slow, or stopped for a while, is not taken for dead.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import distributed

from resnet_backbone.engine.guard import say_and_leave

PATIENCE = 60.0
"""Seconds in which all processes have to connect."""
GRACE = 10.0
"""Seconds in which a process hears the others' reason, before it leaves with its own."""
LOOPBACK = ("localhost", "127.0.0.1")
Message = dict[str, Any]


@dataclass(frozen=True)
class _Peer:
    """The other end of a socket, who it is, and what it has to say from the first byte on."""

    socket: socket.socket
    who: Message
    messages: Iterator[Message]


class Lifeline:
    """Binds this process to the others; needs torch.distributed, and all processes have to make one.

    Args:
        host: where the first process is reached; empty: at its machine's name.
        remedy: what to do after a process has died.

    Raises:
        ValueError: a process cannot reach the first.
    """

    def __init__(self, host: str, remedy: str) -> None:
        self.rank, self.world = distributed.get_rank(), distributed.get_world_size()
        self._remedy, self._left = remedy, False
        self._deciding = threading.Lock()
        self._me: Message = {"rank": self.rank, "host": socket.gethostname(), "pid": os.getpid()}
        self._peers: list[_Peer] = []
        told: list[Any] = [None]
        if self.rank == 0:
            server = _server(host)
            told = [{**self._me, "port": server.getsockname()[1], "token": secrets.token_hex(8)}]
        distributed.broadcast_object_list(told, src=0)
        first = told[0]
        host = host or first["host"]
        try:
            if self.rank == 0:
                self._peers = _accepted(server, self.world - 1, first["token"])
            else:
                self._peers = [_connected(host, first, {**self._me, "token": first["token"]})]
        except OSError as error:
            raise ValueError(
                f"process {self.rank} of {self.world}: no connection between it and the first process at "
                f"{host}:{first['port']} ({error}); let the machines connect to each other at any port"
            ) from None
        # A child, as a data loader's worker, would hold the sockets open after its parent's death.
        os.register_at_fork(after_in_child=self._close)
        for peer in self._peers:
            threading.Thread(target=self._listen, args=(peer,), name="lifeline", daemon=True).start()

    def done(self) -> None:
        """This process has done its part: from now on it may end, and so may the others."""
        self._left = True
        for peer in self._peers:
            _send(peer.socket, {"done": True})

    def fail(self, line: str, code: int) -> int:
        """Ends this process and all others; of those that fail together on one machine only one says why.

        Args:
            line: what is wrong, for people.
            code: the exit code of all.

        Returns:
            `code`, if nobody answers.
        """
        message = {**self._me, "line": line, "code": code}
        if self.rank == 0:
            self._decide(message)
        for first in self._peers:  # the only one
            _send(first.socket, message)
        time.sleep(GRACE)  # a thread ends the process, as soon as the first process has decided
        return say_and_leave(line, code)

    def lost(self, line: str) -> int:
        """As `fail`, after torch lost a connection: whose death it was, is what the threads are about to hear."""
        time.sleep(GRACE)
        return self.fail(line, 1)

    def _listen(self, peer: _Peer) -> None:
        for message in peer.messages:
            if "done" in message:
                return
            self._decide(message)
        self._decide({**peer.who, "line": "", "code": 1})

    def _decide(self, message: Message) -> None:
        """The first failure ends everything: the first process tells the others, and each ends itself."""
        if self._left:
            return
        self._deciding.acquire()  # for good: who fails second waits here for the end
        try:
            if self.rank == 0:
                for peer in self._peers:
                    _send(peer.socket, message)
            self._say(message)
            if self.rank == 0:
                time.sleep(0.5)  # sockets that are closed with something unread in them lose what was sent
        finally:
            os._exit(message["code"])  # not sys.exit: the main thread may be waiting for the dead in torch's own code

    def _say(self, message: Message) -> None:
        who = f"process {message['rank']} of {self.world} (host {message['host']}, pid {message['pid']})"
        if message["rank"] == self.rank:
            say_and_leave(message["line"], message["code"])
        elif not message["line"]:
            died = "has died: killed, out of memory, or its machine is gone"
            say_and_leave(f"error: {who} {died}; {self._remedy}", 1)
        elif message["host"] != self._me["host"]:  # on its own machine it says it itself
            say_and_leave(f"{who}: {message['line']}", message["code"])

    def _close(self) -> None:
        for peer in self._peers:
            peer.socket.close()


def _server(host: str) -> socket.socket:
    if host in LOOPBACK:
        return socket.create_server(("127.0.0.1", 0), backlog=1024)
    try:
        return socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024)
    except (OSError, ValueError):  # no IPv6 here
        return socket.create_server(("", 0), backlog=1024)


def _accepted(server: socket.socket, count: int, token: str) -> list[_Peer]:
    """The other processes; strangers are sent away."""
    peers: list[_Peer] = []
    server.settimeout(PATIENCE)
    with server:
        while len(peers) < count:
            peer, _ = server.accept()
            peer.settimeout(5)
            messages = _messages(peer)  # one reader for good: who fails at once says so together with its hello
            hello = next(messages, {})
            if hello.get("token") == token:
                _keep_alive(peer)
                peers.append(_Peer(peer, hello, messages))
            else:
                peer.close()
    return peers


def _connected(host: str, first: Message, hello: Message) -> _Peer:
    made = socket.create_connection((host, first["port"]), timeout=PATIENCE)
    _send(made, hello)
    _keep_alive(made)
    return _Peer(made, first, _messages(made))


def _keep_alive(peer: socket.socket) -> None:
    """A machine that went dark closes no socket: the system asks after 10 s, and gives up 15 s later."""
    peer.settimeout(None)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):  # not everywhere
            peer.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _send(peer: socket.socket, message: Message) -> None:
    with contextlib.suppress(OSError):  # gone already: its listener says so
        peer.sendall(json.dumps(message).encode() + b"\n")


def _messages(peer: socket.socket) -> Iterator[Message]:
    """What a peer sends, a JSON object a line, until it is gone; anything else is passed over."""
    rest = b""
    while True:
        try:
            data = peer.recv(1 << 16)
        except OSError:  # reset, or silent for too long
            return
        if not data:
            return
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            with contextlib.suppress(ValueError):
                message = json.loads(line)
                if isinstance(message, dict):
                    yield message
