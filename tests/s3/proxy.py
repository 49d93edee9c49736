"""A way to the server that misbehaves: it cuts answers off, or lets them stall."""

import contextlib
import socket
import threading


class Proxy:
    """Forwards connections of the loopback. After `every` bytes of answers on one connection, `then` happens to it:
    "cut" or "stall". `spare` connections are forwarded whole first."""

    def __init__(self, host: str, every: int, then: str, spare: int = 0):
        name, port = host.rsplit(":", 1)
        self.server, self.every, self.then, self.spare = (name, int(port)), every, then, spare
        self.cuts = 0
        self.stalled = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.open = [self.listener]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def endpoint(self) -> str:
        return "http://127.0.0.1:%d" % self.listener.getsockname()[1]

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                server = socket.create_connection(self.server)
                self.open += [client, server]
                self.spare -= 1
                limit = None if self.spare >= 0 else self.every
                threading.Thread(target=self._forward, args=(client, server, None), daemon=True).start()
                threading.Thread(target=self._forward, args=(server, client, limit), daemon=True).start()

    def _forward(self, source, target, limit):
        with contextlib.suppress(OSError):
            left = limit
            while data := source.recv(65_536 if left is None else min(65_536, left)):
                target.sendall(data)
                if left is None:
                    continue
                left -= len(data)
                if left == 0:
                    if self.then == "stall":
                        self.stalled.set()
                        return
                    self.cuts += 1
                    break
            # Also if the other direction still waits.
            for end in (source, target):
                end.shutdown(socket.SHUT_RDWR)

    def close(self):
        for end in self.open:
            end.close()


def hostile(answer: bytes):
    """A server that answers everything with these bytes and hangs up. Returns its endpoint and what closes it."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                with contextlib.suppress(OSError), client:
                    client.settimeout(5)
                    client.recv(65_536)
                    client.sendall(answer)

    threading.Thread(target=serve, daemon=True).start()
    return "http://127.0.0.1:%d" % listener.getsockname()[1], listener.close
