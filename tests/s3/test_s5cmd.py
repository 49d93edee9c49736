"""What s5cmd stores and reads, many files at once."""

import json

import pytest
from conftest import contents


@pytest.fixture
def s5cmd(program, server):
    return lambda *words, **options: program("s5cmd", "--endpoint-url", server.endpoint, *words, **options)


def test_a_tree_goes_there_and_back(s5cmd, bucket, tree, tmp_path):
    s5cmd("cp", "--part-size", "5", f"{tree}/*", f"s3://{bucket}/a/")
    s5cmd("cp", "--part-size", "5", f"s3://{bucket}/a/*", tmp_path / "back/")
    assert contents(tmp_path / "back") == contents(tree)


def test_many_small_files(s5cmd, bucket, tmp_path):
    root = tmp_path / "many"
    for number in range(1500):
        path = root / f"d{number % 10}" / f"{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"number {number}")
    s5cmd("--numworkers", "32", "cp", f"{root}/*", f"s3://{bucket}/")
    listed = [json.loads(line)["key"] for line in s5cmd("--json", "ls", f"s3://{bucket}/*").splitlines()]
    assert len(listed) == 1500
    s5cmd("--numworkers", "32", "cp", f"s3://{bucket}/*", tmp_path / "back/")
    assert contents(tmp_path / "back") == contents(root)
    s5cmd("rm", f"s3://{bucket}/*")
    assert s5cmd("ls", f"s3://{bucket}") == b""


def test_a_sync_moves_what_changed(s5cmd, bucket, tree):
    s5cmd("sync", f"{tree}/", f"s3://{bucket}/a/")
    (tree / "small.txt").write_bytes(b"another length")
    said = s5cmd("sync", "--delete", "--size-only", f"{tree}/", f"s3://{bucket}/a/").decode()
    assert "small.txt" in said and "large.bin" not in said, said
    assert s5cmd("cat", f"s3://{bucket}/a/small.txt") == b"another length"


def test_a_pipe_is_stored(s5cmd, bucket, data):
    body = data(12 << 20)
    s5cmd("pipe", f"s3://{bucket}/p", stdin=body)
    assert s5cmd("cat", f"s3://{bucket}/p") == body
