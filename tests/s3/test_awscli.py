"""What the AWS command line stores and reads."""

import json

import pytest
from conftest import contents


@pytest.fixture
def aws(program, server):
    return lambda *words, **options: program("aws", "--endpoint-url", server.endpoint, *words, **options)


def test_files_are_synced_both_ways(aws, bucket, tree, tmp_path):
    aws("s3", "sync", tree, f"s3://{bucket}/a", "--no-progress")
    aws("s3", "sync", f"s3://{bucket}/a", tmp_path / "back", "--no-progress")
    assert contents(tmp_path / "back") == contents(tree)
    # What is the same is not moved again; what vanished here vanishes there.
    assert aws("s3", "sync", tree, f"s3://{bucket}/a", "--no-progress") == b""
    (tree / "one").unlink()
    (tree / "small.txt").write_bytes(b"changed, and of another length")
    said = aws("s3", "sync", tree, f"s3://{bucket}/a", "--no-progress", "--delete").decode()
    assert len(said.splitlines()) == 2 and "delete:" in said and "upload:" in said, said


def test_a_stream_of_any_length_is_stored(aws, bucket, data):
    body = data(21 << 20)
    aws("s3", "cp", "-", f"s3://{bucket}/stream", stdin=body)
    assert aws("s3", "cp", f"s3://{bucket}/stream", "-") == body


def test_moves_and_removals_leave_nothing(aws, bucket, tree):
    aws("s3", "cp", "--recursive", tree, f"s3://{bucket}/a", "--no-progress")
    aws("s3", "mv", "--recursive", f"s3://{bucket}/a", f"s3://{bucket}/b", "--no-progress")
    listed = aws("s3", "ls", "--recursive", f"s3://{bucket}").decode()
    assert len(listed.splitlines()) == len(contents(tree)) and " a/" not in listed
    aws("s3", "rm", "--recursive", f"s3://{bucket}")
    assert aws("s3", "ls", f"s3://{bucket}", code=0) == b""


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"])
def test_checksums_of_parts_and_whole(aws, bucket, data, tmp_path, algorithm):
    (tmp_path / "f").write_bytes(data(17 << 20))
    aws("s3", "cp", tmp_path / "f", f"s3://{bucket}/f", "--checksum-algorithm", algorithm, "--no-progress")
    aws("s3", "cp", f"s3://{bucket}/f", tmp_path / "g", "--checksum-mode", "ENABLED", "--no-progress")
    assert (tmp_path / "g").read_bytes() == (tmp_path / "f").read_bytes()
    head = json.loads(aws("s3api", "head-object", "--bucket", bucket, "--key", "f", "--checksum-mode", "ENABLED"))
    assert head[f"Checksum{algorithm}"]


def test_a_presigned_url_is_fetched(aws, bucket, data, tmp_path):
    import urllib.request

    (tmp_path / "f").write_bytes(data(1000))
    aws("s3", "cp", tmp_path / "f", f"s3://{bucket}/a b", "--no-progress")
    # Version 2 otherwise, which AWS gave up.
    aws("configure", "set", "default.s3.signature_version", "s3v4")
    url = aws("s3", "presign", f"s3://{bucket}/a b").decode().strip()
    with urllib.request.urlopen(url, timeout=60) as answer:
        assert answer.read() == data(1000)
