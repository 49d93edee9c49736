"""What the tests share: the server, buckets that vanish, programs run as people run them."""

import dataclasses
import os
import pathlib
import random
import shutil
import subprocess
import uuid

import boto3
import botocore.config
import pytest


@dataclasses.dataclass(frozen=True)
class Server:
    """Where the server is and who asks."""

    endpoint: str
    access_key: str
    secret_key: str
    region: str

    @property
    def host(self) -> str:
        return self.endpoint.split("://", 1)[1].rstrip("/")

    def client(self, **options):
        """A boto3 client; options go into its configuration."""
        s3 = {"addressing_style": "path", **options.pop("s3", {})}
        # What is presigned would be by version 2 otherwise, which AWS gave up.
        options.setdefault("signature_version", "s3v4")
        config = botocore.config.Config(s3=s3, retries={"max_attempts": 1}, max_pool_connections=64, **options)
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=self.region,
            config=config,
        )


@pytest.fixture(scope="session")
def server() -> Server:
    get = os.environ.__getitem__
    return Server(get("CAIRN_ENDPOINT"), get("AWS_ACCESS_KEY_ID"), get("AWS_SECRET_ACCESS_KEY"), get("AWS_REGION"))


@pytest.fixture(scope="session")
def s3(server):
    return server.client()


def empty(s3, bucket: str) -> None:
    """Deletes all that a bucket holds, and the bucket."""
    for upload in s3.list_multipart_uploads(Bucket=bucket).get("Uploads", []):
        s3.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    while True:
        page = s3.list_object_versions(Bucket=bucket)
        entries = page.get("Versions", []) + page.get("DeleteMarkers", [])
        if not entries:
            break
        objects = [{"Key": entry["Key"], "VersionId": entry["VersionId"]} for entry in entries]
        s3.delete_objects(Bucket=bucket, Delete={"Objects": objects, "Quiet": True})
    s3.delete_bucket(Bucket=bucket)


@pytest.fixture
def bucket(s3):
    """A bucket of the test's own."""
    name = f"cairn-test-{uuid.uuid4().hex[:16]}"
    s3.create_bucket(Bucket=name)
    yield name
    empty(s3, name)


@pytest.fixture
def data():
    """Bytes like no others of a length; the same in every run."""
    return lambda length, seed=1: random.Random(seed).randbytes(length)


@pytest.fixture
def program(tmp_path):
    """Runs a program to its end; one that fails fails the test. Returns what it printed."""

    def run(*words, env=None, stdin=None, code=0, cwd=None) -> bytes:
        found = shutil.which(str(words[0]))
        if found is None:
            message = f"{words[0]} isn't there; tests/s3/README.md says where it comes from"
            pytest.skip(message) if os.environ.get("S3_TESTS_ALLOW_MISSING") else pytest.fail(message)
        whole = {**os.environ, "HOME": str(tmp_path), **(env or {})}
        done = subprocess.run(
            [found, *map(str, words[1:])], env=whole, input=stdin, capture_output=True, timeout=240, cwd=cwd or tmp_path
        )
        said = done.stdout[-2000:].decode(errors="replace") + done.stderr[-4000:].decode(errors="replace")
        assert done.returncode == code, f"{words}: exit code {done.returncode}\n{said}"
        return done.stdout

    return run


@pytest.fixture
def tree(tmp_path, data):
    """A directory of files of many lengths and names."""
    lengths = {
        "empty": 0,
        "one": 1,
        "small.txt": 4096,
        "odd/name with spaces & more.bin": 70_001,
        "odd/ünïcödé-日本語-🪨.bin": 12_345,
        "deep/er/and/deeper/x": 100,
        "large.bin": 20 << 20,
    }
    root = tmp_path / "tree"
    for seed, (name, length) in enumerate(lengths.items()):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data(length, seed))
    return root


def contents(root: pathlib.Path) -> dict[str, bytes]:
    """Every file below a directory."""
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
