"""What rclone stores and reads. It compares lengths, times and hashes by itself."""

import pytest
from conftest import contents


@pytest.fixture
def rclone(program, server):
    remote = {
        "TYPE": "s3",
        "PROVIDER": "Other",
        "ENDPOINT": server.endpoint,
        "ACCESS_KEY_ID": server.access_key,
        "SECRET_ACCESS_KEY": server.secret_key,
        "REGION": server.region,
        "FORCE_PATH_STYLE": "true",
        "UPLOAD_CUTOFF": "8Mi",
        "CHUNK_SIZE": "5Mi",
    }
    env = {f"RCLONE_CONFIG_CAIRN_{name}": value for name, value in remote.items()}
    return lambda *words, **options: program("rclone", "--config", "/dev/null", "--retries", "1", *words, env=env, **options)


def test_files_are_synced_and_checked(rclone, bucket, tree, tmp_path):
    there = f"cairn:{bucket}/a"
    rclone("sync", tree, there)
    rclone("check", tree, there)
    rclone("check", "--download", tree, there)
    rclone("sync", there, tmp_path / "back")
    assert contents(tmp_path / "back") == contents(tree)
    (tree / "one").unlink()
    rclone("sync", tree, there)
    assert b"one" not in rclone("lsf", "-R", there).splitlines()


def test_times_are_kept(rclone, bucket, tree, tmp_path):
    there = f"cairn:{bucket}/a"
    rclone("copy", tree, there)
    rclone("copy", there, tmp_path / "back")
    for name in contents(tree):
        assert abs((tree / name).stat().st_mtime - (tmp_path / "back" / name).stat().st_mtime) < 0.001, name


def test_a_stream_of_unknown_length_is_stored(rclone, bucket, data):
    body = data(13 << 20)
    rclone("rcat", f"cairn:{bucket}/stream", stdin=body)
    assert rclone("cat", f"cairn:{bucket}/stream") == body
    assert rclone("cat", "--offset", "1000", "--count", "50", f"cairn:{bucket}/stream") == body[1000:1050]


def test_moves_and_removals_leave_nothing(rclone, bucket, tree):
    rclone("copy", tree, f"cairn:{bucket}/a")
    rclone("move", f"cairn:{bucket}/a", f"cairn:{bucket}/b")
    names = rclone("lsf", "-R", "--files-only", f"cairn:{bucket}").decode().splitlines()
    assert sorted(names) == sorted(f"b/{name}" for name in contents(tree))
    rclone("purge", f"cairn:{bucket}/b")
    assert rclone("lsf", "-R", f"cairn:{bucket}") == b""


def test_a_bucket_is_made_and_removed(rclone, bucket):
    rclone("mkdir", f"cairn:{bucket}-more")
    assert f"{bucket}-more/".encode() in rclone("lsf", "cairn:").splitlines()
    rclone("rmdir", f"cairn:{bucket}-more")
    assert f"{bucket}-more/".encode() not in rclone("lsf", "cairn:").splitlines()
