"""Backups of restic, which reads everything again and checks it against its own hashes."""

from conftest import contents


def test_a_backup_is_whole_and_comes_back(program, server, bucket, tree, tmp_path):
    env = {
        "RESTIC_REPOSITORY": f"s3:{server.endpoint}/{bucket}/backup",
        "RESTIC_PASSWORD": "of this test",
        "RESTIC_CACHE_DIR": str(tmp_path / "cache"),
    }
    restic = lambda *words: program("restic", *words, env=env)
    restic("init")
    restic("backup", tree)
    before = contents(tree)
    (tree / "small.txt").write_bytes(b"changed")
    restic("backup", tree)
    restic("check", "--read-data")
    restic("restore", "latest", "--target", tmp_path / "now")
    restored = tmp_path / "now" / tree.relative_to("/")
    assert contents(restored) == contents(tree)
    first = restic("snapshots", "--json").decode().split('"short_id":"')[1].split('"')[0]
    restic("restore", first, "--target", tmp_path / "then")
    assert contents(tmp_path / "then" / tree.relative_to("/")) == before
    restic("forget", "--keep-last", "1", "--prune")
    restic("check", "--read-data")
