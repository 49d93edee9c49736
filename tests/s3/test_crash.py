"""A node that is killed, or whose disk loses power, under boto3: nothing answered is lost, nothing is half there."""

import contextlib
import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import threading
import time

import botocore.exceptions
import pytest
from conftest import Server
from test_cairn import binary  # noqa: F401 (a fixture)

ROUNDS = 3
WRITERS = 6
KEYS_OF_EACH = 8
BUCKET = "crash"
PART = 5 << 20


class Node:
    """One on a directory, that can be killed and started again."""

    def __init__(self, binary, home):  # noqa: F811
        made = subprocess.run([binary, "init", "--json", f"{home}/disk"], stdout=subprocess.PIPE, check=True)
        key = json.loads(made.stdout)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.words = [binary, "serve", "--data", f"{home}/disk", "--listen-s3", f"127.0.0.1:{self.port}"]
        self.words += ["--listen-management", "off"]
        self.server = Server(f"http://127.0.0.1:{self.port}", key["access"], key["secret"], "us-east-1")
        # A setting that it doesn't know would be refused.
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("CAIRN_")}
        self.process = None

    def start(self):
        self.process = subprocess.Popen(self.words, stderr=subprocess.PIPE, env=self.env)
        for _ in range(600):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            assert self.process.poll() is None, self.process.stderr.read()
            time.sleep(0.05)
        pytest.fail("it doesn't answer")

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.end()

    def end(self) -> str:
        said = self.process.communicate(timeout=60)[1].decode(errors="replace")
        assert "panicked" not in said, said
        return said


class Writer:
    """Writes its own keys, one after the other, and knows what each may hold: `None` for nothing."""

    def __init__(self, server, number):
        self.s3 = server.client(read_timeout=20)
        self.number, self.random, self.answered = number, random.Random(number), 0
        self.may_hold = {f"writer-{number}/{key}": {None} for key in range(KEYS_OF_EACH)}

    def run(self, is_over):
        while not is_over.is_set():
            key, body = self.random.choice(list(self.may_hold)), self.body()
            wanted = None if body is None else (len(body), body[:64])
            self.may_hold[key].add(wanted)
            try:
                self.write(key, body)
            except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError):
                continue
            self.may_hold[key] = {wanted}
            self.answered += 1

    def body(self):
        kind = self.random.randrange(20)
        if kind < 4:
            return None
        length = PART + 70_000 if kind == 4 else self.random.choice([100, 4096, 50_000, 900_000])
        start = self.random.randbytes(64)
        return (start * (length // 64 + 1))[:length]

    def write(self, key, body):
        if body is None:
            self.s3.delete_object(Bucket=BUCKET, Key=key)
        elif len(body) <= PART:
            self.s3.put_object(Bucket=BUCKET, Key=key, Body=body)
        else:
            of = {"Bucket": BUCKET, "Key": key}
            of["UploadId"] = self.s3.create_multipart_upload(**of)["UploadId"]
            parts = [body[:PART], body[PART:]]
            made = [self.s3.upload_part(PartNumber=at, Body=part, **of)["ETag"] for at, part in enumerate(parts, 1)]
            parts = [{"PartNumber": at, "ETag": etag} for at, etag in enumerate(made, 1)]
            self.s3.complete_multipart_upload(MultipartUpload={"Parts": parts}, **of)

    def check(self):
        """Reads all of it; what is there counts from now on."""
        listed = {
            entry["Key"]: entry["Size"]
            for page in self.s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"writer-{self.number}/")
            for entry in page.get("Contents", [])
        }
        for key, may_hold in self.may_hold.items():
            found = self.read(key)
            assert found in may_hold, f"{key} holds {found}, and may hold {may_hold}"
            assert listed.get(key) == (found and found[0]), f"{key} is listed as {listed.get(key)}, and read as {found}"
            self.may_hold[key] = {found}

    def read(self, key):
        try:
            body = self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        except self.s3.exceptions.NoSuchKey:
            return None
        start = body[:64]
        assert body == (start * (len(body) // 64 + 1))[: len(body)], f"{key} is of several pieces"
        return len(body), start


def storm(node, lose):
    """Rounds of writing, and of losing the node in the middle of it."""
    node.start()
    node.server.client().create_bucket(Bucket=BUCKET)
    writers = [Writer(node.server, number) for number in range(WRITERS)]
    for round in range(ROUNDS):
        is_over = threading.Event()
        threads = [threading.Thread(target=writer.run, args=[is_over]) for writer in writers]
        for thread in threads:
            thread.start()
        before = sum(writer.answered for writer in writers)
        # At another moment of the work each time, once there is some.
        while sum(writer.answered for writer in writers) < before + 60 + 25 * round:
            time.sleep(0.01)
        lose()
        is_over.set()
        for thread in threads:
            thread.join()
        node.start()
        for writer in writers:
            writer.check()
    node.process.terminate()
    node.end()
    assert node.process.returncode == 0


@pytest.fixture
def place():
    """A directory on the disk that the node is built on."""
    place = pathlib.Path(os.environ["CAIRN_BIN"]).parent / f"crash-{os.getpid()}"
    place.mkdir()
    yield place
    subprocess.run(["rm", "-rf", place], check=True)


def test_what_was_answered_survives_kills(binary, place):  # noqa: F811
    node = Node(binary, place)
    storm(node, node.kill)


def test_what_was_answered_survives_power_cuts(binary, place):  # noqa: F811
    image, disk = place / "image", place / "mounted"
    image.touch()
    os.truncate(image, 6 << 30)
    disk.mkdir()
    subprocess.run(["mkfs.xfs", "-q", image], check=True)
    mount = ["mount", "-o", "loop", image, disk]
    subprocess.run(mount, check=True)
    try:
        node = Node(binary, disk)

        def cut():
            # It drops what it hasn't written, and does nothing any more.
            subprocess.run(["xfs_io", "-x", "-c", "shutdown", disk], check=True)
            node.kill()
            unmount(disk)
            subprocess.run(mount, check=True)

        storm(node, cut)
    finally:
        unmount(disk)


def unmount(disk):
    """The kernel lets go of the files on a dead process's ring a little after it is gone."""
    for _ in range(100):
        if subprocess.run(["umount", disk], capture_output=True, check=False).returncode == 0:
            return
        time.sleep(0.05)
    pytest.fail(f"{disk} can't be unmounted")
