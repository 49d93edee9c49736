"""400 writers at once, of a node with little memory: each is served or told to come back, and the node stays as small as it must."""

import asyncio
import contextlib
import hashlib
import http
import os
import pathlib
import re
import signal
import time

import pytest
import wire
from test_cairn import binary  # noqa: F401 (a fixture)
from test_crash import Node

WRITERS = 400
BUCKET = "writers"
# A run with objects of 64 MiB writes 25 GiB and takes minutes.
OBJECT = int(os.environ.get("S3_TESTS_WRITERS_MIB", "4")) << 20
PIECE = 64 << 10
# How long a writer takes to send its object at least: so long that not all can be served before they have waited too long.
SLOWNESS = 0.4
MEMORY = 128 << 20
# What docs/operations.md says of the memory beside that of the setting: LMDB's while each of the two lanes commits, the slots', and
# that of connections.
BESIDE = (2 * 64 + 90 + 60) << 20
TRIES = 200


class Writers:
    """Programs that each store one object, and count what they are told."""

    def __init__(self, server):
        self.server = server
        self.slowed = self.stored = 0

    def body(self, number):
        """Bytes like no other writer's, of which any piece is quickly made."""
        return hashlib.sha256(str(number).encode()).digest() * (PIECE // 32)

    async def store(self, number):
        for _ in range(TRIES):
            status, headers = await self.put(number)
            if status == http.HTTPStatus.OK:
                self.stored += 1
                return
            assert status == http.HTTPStatus.SERVICE_UNAVAILABLE, (status, headers)
            assert int(headers["retry-after"]) > 0, headers
            self.slowed += 1
            await asyncio.sleep(int(headers["retry-after"]) * (0.5 + number / WRITERS))
        pytest.fail(f"writer {number} was told {TRIES} times to come back")

    async def put(self, number):
        """Sends an object in pieces, and takes the answer whenever it comes: who is told to come back needn't send the rest."""
        path = f"/{BUCKET}/{number}"
        # Some wait to be told that they may send, as most clients do.
        expect = {"expect": "100-continue"} if number % 2 else {}
        headers = {"content-length": str(OBJECT), "connection": "close", **expect}
        headers = wire.Signed(self.server).headers("PUT", path, "", headers, "UNSIGNED-PAYLOAD")
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        host, port = self.server.host.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            writer.write(f"PUT {path} HTTP/1.1\r\n{lines}\r\n".encode())
            if expect:
                status, headers = await self.answer(reader)
                if status != http.HTTPStatus.CONTINUE:
                    return status, headers
            answer = asyncio.ensure_future(self.answer(reader))
            piece = self.body(number)
            for _ in range(0, OBJECT, PIECE):
                if answer.done():
                    break
                writer.write(piece)
                # Who has hung up has answered before.
                with contextlib.suppress(ConnectionError):
                    await writer.drain()
                await asyncio.sleep(SLOWNESS * PIECE / OBJECT)
            return await answer
        finally:
            writer.transport.abort()

    async def answer(self, reader):
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines if line)
        return int(first.split(" ")[1]), headers

    async def all(self):
        await asyncio.gather(*(self.store(number) for number in range(WRITERS)))


def peak(process) -> int:
    """The most memory that a process ever had, in bytes."""
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) << 10


def test_400_writers_stay_under_the_ceiling(binary, tmp_path):  # noqa: F811
    node = Node(binary, tmp_path)
    node.words += ["--listen-rpc", "off", "--memory", f"{MEMORY >> 20}MiB", "--cores", "2"]
    node.start()
    s3 = node.server.client()
    s3.create_bucket(Bucket=BUCKET)
    before, began = peak(node.process), time.monotonic()
    writers = Writers(node.server)
    asyncio.run(writers.all())
    took, held = time.monotonic() - began, peak(node.process)
    print(
        f"{WRITERS} objects of {OBJECT >> 20} MiB in {took:.0f} s; told to come back: {writers.slowed}; "
        f"memory at most: {held >> 20} MiB, {before >> 20} before"
    )
    assert writers.stored == WRITERS and writers.slowed > 0
    assert held < MEMORY + BESIDE, f"{held >> 20} MiB, {before >> 20} before"
    # All of it is there, and the node is as it was.
    listed = {entry["Key"]: entry["Size"] for entry in s3.list_objects_v2(Bucket=BUCKET)["Contents"]}
    assert listed == {str(number): OBJECT for number in range(WRITERS)}
    for number in range(0, WRITERS, 37):
        body = s3.get_object(Bucket=BUCKET, Key=str(number))["Body"].read()
        assert body == writers.body(number) * (OBJECT // PIECE), number
    s3.put_object(Bucket=BUCKET, Key="after", Body=b"x")
    node.process.send_signal(signal.SIGTERM)
    node.end()
    assert node.process.returncode == 0
