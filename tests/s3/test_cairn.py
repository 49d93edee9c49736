"""The object commands of `cairn`, as processes: contents both ways, what breaks off, exit codes, hostile servers."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import time

import pytest
from conftest import contents
from proxy import Proxy, hostile

MIB = 1 << 20


@pytest.fixture
def binary():
    found = os.environ.get("CAIRN_BIN")
    if not found:
        message = "CAIRN_BIN names no cairn command; give run.py --cairn"
        pytest.skip(message) if os.environ.get("S3_TESTS_ALLOW_MISSING") else pytest.fail(message)
    return found


@pytest.fixture
def cairn(program, binary):
    return lambda *words, **options: program(binary, *words, **options)


@pytest.fixture
def start(binary, tmp_path):
    """Starts it and leaves it running."""

    def run(*words, env=None, **options):
        whole = {**os.environ, "HOME": str(tmp_path), **(env or {})}
        words = [binary, *map(str, words)]
        return subprocess.Popen(words, env=whole, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)

    return run


def objects(said: bytes) -> list[dict]:
    return [json.loads(line) for line in said.splitlines()]


def test_files_go_there_and_back(cairn, s3, bucket, tree, tmp_path):
    cairn("put", "-r", tree, f"cairn://{bucket}/a", "--part-size", "5MiB")
    listed = s3.list_objects_v2(Bucket=bucket)["Contents"]
    assert {entry["Key"]: entry["Size"] for entry in listed} == {
        f"a/{name}": len(body) for name, body in contents(tree).items()
    }
    for name, body in contents(tree).items():
        assert s3.get_object(Bucket=bucket, Key=f"a/{name}")["Body"].read() == body
    cairn("get", "-r", f"cairn://{bucket}/a", "back", "--part-size", "5MiB")
    assert contents(tmp_path / "back") == contents(tree)
    # Also by another's hand, in pieces of other lengths.
    cairn("cp", "-r", f"cairn://{bucket}/a/", "again", "--part-size", "7MiB", "--jobs", "3")
    assert contents(tmp_path / "again") == contents(tree)


@pytest.mark.parametrize("length", [0, 1, 5 * MIB - 1, 5 * MIB, 5 * MIB + 1, 23 * MIB])
def test_one_file_of_any_length(cairn, s3, bucket, data, tmp_path, length):
    body = data(length)
    (tmp_path / "f").write_bytes(body)
    said = objects(cairn("put", "f", f"cairn://{bucket}", "--part-size", "5MiB", "--json"))
    assert [(it["source"], it["target"], it["bytes"], it["outcome"]) for it in said] == [
        ("f", f"cairn://{bucket}/f", length, "copied")
    ]
    head = s3.head_object(Bucket=bucket, Key="f")
    assert head["ContentLength"] == length and head["ETag"].strip('"') == said[0]["etag"]
    cairn("get", f"cairn://{bucket}/f", "g", "--part-size", "5MiB")
    assert (tmp_path / "g").read_bytes() == body
    assert cairn("cat", f"cairn://{bucket}/f") == body


@pytest.mark.parametrize("length", [0, 100, 5 * MIB, 5 * MIB + 1, 12 * MIB])
def test_streams(cairn, bucket, data, length):
    body = data(length)
    cairn("put", "-", f"cairn://{bucket}/s", "--part-size", "5MiB", stdin=body)
    assert cairn("get", f"cairn://{bucket}/s", "-") == body


def test_ranges_of_an_object(cairn, s3, bucket, data):
    body = data(100_000)
    s3.put_object(Bucket=bucket, Key="k", Body=body)
    for wanted, expected in [("0-9", body[:10]), ("99990-", body[-10:]), ("-7", body[-7:]), ("50-200000", body[50:])]:
        assert cairn("cat", f"cairn://{bucket}/k", "--range", wanted) == expected
    cairn("cat", f"cairn://{bucket}/k", "--range", "100000-", code=2)


def test_what_is_said_beside_the_bytes(cairn, s3, bucket, tmp_path):
    (tmp_path / "f").write_bytes(b"x")
    said = ["--content-type", "text/rock", "--metadata", "colour=grey", "--header", "cache-control=max-age=9"]
    cairn("put", "f", f"cairn://{bucket}/k", *said)
    head = s3.head_object(Bucket=bucket, Key="k")
    assert (head["ContentType"], head["Metadata"], head["CacheControl"]) == ("text/rock", {"colour": "grey"}, "max-age=9")
    stat = json.loads(cairn("stat", f"cairn://{bucket}/k", "--json"))
    assert stat["bytes"] == 1 and stat["headers"]["x-amz-meta-colour"] == "grey"
    assert b"x-amz-meta-colour" in cairn("stat", f"cairn://{bucket}/k")


def test_conditions_hold_or_refuse(cairn, s3, bucket, data, tmp_path):
    (tmp_path / "f").write_bytes(b"one")
    (tmp_path / "large").write_bytes(data(11 * MIB))
    cairn("put", "f", f"cairn://{bucket}/k", "--if-absent")
    cairn("put", "f", f"cairn://{bucket}/k", "--if-absent", code=4)
    etag = s3.head_object(Bucket=bucket, Key="k")["ETag"].strip('"')
    cairn("put", "f", f"cairn://{bucket}/k", "--if-match", "0" * 32, code=4)
    cairn("put", "f", f"cairn://{bucket}/k", "--if-match", etag)
    cairn("put", "large", f"cairn://{bucket}/k", "--if-absent", "--part-size", "5MiB", code=4)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"one"
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket), "what is refused is given up"


def test_an_upload_is_gone_on_with(cairn, s3, bucket, data, tmp_path):
    body = data(23 * MIB)
    (tmp_path / "f").write_bytes(body)
    begun = s3.create_multipart_upload(Bucket=bucket, Key="k")
    upload = {"Bucket": bucket, "Key": "k", "UploadId": begun["UploadId"]}
    s3.upload_part(**upload, PartNumber=2, Body=body[5 * MIB : 10 * MIB])
    # Of the right length, but of another file: must not be believed.
    s3.upload_part(**upload, PartNumber=3, Body=data(5 * MIB, 9))
    cairn("put", "f", f"cairn://{bucket}/k", "--resume", "--part-size", "5MiB")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == body
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket), "it is the one that was begun"
    said = objects(cairn("put", "f", f"cairn://{bucket}/k", "--resume", "--part-size", "5MiB", "--json"))
    assert [it["outcome"] for it in said] == ["unchanged"]


def test_a_killed_upload_is_gone_on_with(cairn, start, s3, bucket, data, tmp_path, server):
    body = data(60 * MIB)
    (tmp_path / "f").write_bytes(body)
    words = ["put", "f", f"cairn://{bucket}/k", "--part-size", "5MiB", "--jobs", "1"]
    running = start(*words)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and running.poll() is None:
        uploads = s3.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
        if uploads and s3.list_parts(Bucket=bucket, Key="k", UploadId=uploads[0]["UploadId"]).get("Parts"):
            break
    running.kill()
    running.communicate()
    assert running.returncode == -signal.SIGKILL, "it was over before it could be killed"
    cairn(*words, "--resume")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == body
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)


def test_a_resumed_tree_moves_what_is_missing(cairn, s3, bucket, tree, tmp_path):
    there = f"cairn://{bucket}/a"
    cairn("put", "-r", tree, there, "--part-size", "5MiB")
    (tree / "small.txt").write_bytes(b"other bytes of another length")
    (tree / "one").write_bytes(b"!")
    s3.delete_object(Bucket=bucket, Key="a/deep/er/and/deeper/x")
    outcomes = lambda said: {it["target"].split("/")[-1]: it["outcome"] for it in objects(said)}
    said = outcomes(cairn("put", "-r", tree, there, "--part-size", "5MiB", "--resume", "--json"))
    assert {name for name, outcome in said.items() if outcome == "copied"} == {"small.txt", "one", "x"}, said
    cairn("get", "-r", there, "back", "--part-size", "5MiB")
    (tmp_path / "back" / "large.bin").write_bytes(b"")
    (tmp_path / "back" / "one").write_bytes(b"?")
    said = outcomes(cairn("get", "-r", there, "back", "--part-size", "5MiB", "--resume", "--json"))
    assert {name for name, outcome in said.items() if outcome == "copied"} == {"large.bin", "one"}, said
    assert contents(tmp_path / "back") == contents(tree)


def test_answers_that_break_off_are_gone_on_with(cairn, server, s3, bucket, data, tmp_path):
    body = data(9 * MIB)
    s3.put_object(Bucket=bucket, Key="k", Body=body)
    proxy = Proxy(server.host, every=3 * MIB + 17, then="cut")
    try:
        cairn("get", f"cairn://{bucket}/k", "f", "--endpoint", proxy.endpoint)
        assert (tmp_path / "f").read_bytes() == body
        assert cairn("cat", f"cairn://{bucket}/k", "--endpoint", proxy.endpoint) == body
        assert proxy.cuts >= 4
    finally:
        proxy.close()


def test_what_is_stopped_leaves_no_half_file(start, server, s3, bucket, data, tmp_path):
    s3.put_object(Bucket=bucket, Key="k", Body=data(9 * MIB))
    (tmp_path / "f").write_bytes(b"before")
    for stop in (signal.SIGINT, signal.SIGTERM):
        proxy = Proxy(server.host, every=MIB, then="stall")
        try:
            running = start("get", f"cairn://{bucket}/k", "f", "--endpoint", proxy.endpoint)
            assert proxy.stalled.wait(30), "the transfer never began"
            running.send_signal(stop)
            running.communicate(timeout=30)
            assert running.returncode == 130
        finally:
            proxy.close()
        assert contents(tmp_path) == {"f": b"before"}, "the old file is there, and nothing else"


def test_an_object_that_changes_meanwhile_is_not_mixed(start, server, s3, bucket, data, tmp_path):
    """The first range is read before, the next after it was replaced: no file may have bytes of both."""
    s3.put_object(Bucket=bucket, Key="k", Body=data(12 * MIB, 1))
    proxy = Proxy(server.host, every=6 * MIB, then="cut")
    try:
        running = start(
            "get", f"cairn://{bucket}/k", "f", "--endpoint", proxy.endpoint, "--part-size", "5MiB", "--jobs", "1"
        )
        while proxy.cuts == 0 and running.poll() is None:
            time.sleep(0.001)
        s3.put_object(Bucket=bucket, Key="k", Body=data(12 * MIB, 2))
        running.communicate(timeout=60)
    finally:
        proxy.close()
    if running.returncode == 0:
        assert hashlib.md5((tmp_path / "f").read_bytes()).hexdigest() in [
            hashlib.md5(data(12 * MIB, seed)).hexdigest() for seed in (1, 2)
        ]
    else:
        assert running.returncode == 4 and contents(tmp_path) == {}


def test_no_key_leads_out_of_a_directory(cairn, s3, bucket, tmp_path):
    for key in ["a/../../evil", "a//evil", "a/./evil", "a/good", "a/folder/"]:
        s3.put_object(Bucket=bucket, Key=key, Body=b"" if key.endswith("/") else b"x")
    cairn("get", "-r", f"cairn://{bucket}/a", "in/side", code=1)
    assert contents(tmp_path) == {"in/side/good": b"x"}
    assert (tmp_path / "in/side/folder").is_dir()


def test_listings(cairn, s3, bucket):
    keys = sorted([f"k{number:04}" for number in range(1200)] + ["d/1", "d/2", "e/x/1", "ü ber"], key=str.encode)
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=b"abc")
    listed = objects(cairn("ls", "-r", f"cairn://{bucket}", "--json"))
    assert [it["key"] for it in listed] == keys and {it["bytes"] for it in listed} == {3}
    top = objects(cairn("ls", f"cairn://{bucket}", "--json"))
    assert {it["key"] for it in top if it["kind"] == "folder"} == {"d/", "e/"} and len(top) == 1203
    assert [it["key"] for it in objects(cairn("ls", f"cairn://{bucket}/d/", "--json"))] == ["d/1", "d/2"]
    assert len(cairn("ls", "-r", f"cairn://{bucket}/k").splitlines()) == 1200
    assert bucket in [it["bucket"] for it in objects(cairn("ls", "--json"))]
    assert cairn("ls", f"cairn://{bucket}/nothing") == b""
    assert f"cairn://{bucket}".encode() in cairn("bucket", "list")


def test_removals(cairn, s3, bucket):
    keys = [f"a/{number}" for number in range(1100)] + ["a", "ab/1", "line\nbreak"]
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=b"")
    there = lambda: [entry["key"] for entry in objects(cairn("ls", "-r", f"cairn://{bucket}", "--json"))]
    assert len(objects(cairn("rm", "-r", f"cairn://{bucket}/a", "--dry-run", "--json"))) == 1100
    assert sorted(there()) == sorted(keys)
    cairn("rm", "-r", f"cairn://{bucket}/a")
    assert sorted(there()) == ["a", "ab/1", "line\nbreak"]
    cairn("rm", f"cairn://{bucket}/a", f"cairn://{bucket}/ab/1")
    cairn("rm", f"cairn://{bucket}", code=2)
    cairn("rm", "-r", f"cairn://{bucket}")
    assert there() == []


def test_versions(cairn, s3, bucket, tmp_path):
    (tmp_path / "f").write_bytes(b"one")
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    first = objects(cairn("put", "f", f"cairn://{bucket}/k", "--json"))[0]["version"]
    (tmp_path / "f").write_bytes(b"two")
    cairn("put", "f", f"cairn://{bucket}/k")
    cairn("rm", f"cairn://{bucket}/k")
    cairn("cat", f"cairn://{bucket}/k", code=3)
    assert cairn("cat", f"cairn://{bucket}/k", "--version", first) == b"one"
    cairn("get", f"cairn://{bucket}/k", "g", "--version", first)
    assert (tmp_path / "g").read_bytes() == b"one"
    kinds = [it["kind"] for it in objects(cairn("ls", "--versions", f"cairn://{bucket}", "--json"))]
    assert sorted(kinds) == ["delete_marker", "version", "version"]
    cairn("rm", "-r", "--versions", f"cairn://{bucket}")
    assert cairn("ls", "--versions", f"cairn://{bucket}") == b""


def test_branches_are_shown_and_merged(cairn, s3, bucket, tmp_path):
    if s3.list_buckets()["ResponseMetadata"]["HTTPHeaders"].get("server") != "Cairn":
        pytest.skip("only Cairn keeps branches")
    at = f"cairn://{bucket}/k"
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    assert b"nothing to merge" in cairn("merge", at, "--keep", put(s3, bucket, b"base"))
    base, left = put(s3, bucket, b"base"), put(s3, bucket, b"left")
    (tmp_path / "f").write_bytes(b"right")
    branch = ["--header", "x-cairn-mode=derive", "--header", f"x-cairn-parents={base}"]
    right = objects(cairn("put", "f", at, *branch, "--json"))[0]["version"]
    heads = {it["version"] for it in objects(cairn("versions", at, "--json")) if it["head"]}
    assert heads == {left, right} and b"cairn merge" in cairn("versions", at)
    assert objects(cairn("conflicts", f"cairn://{bucket}/k", "--json")) == [{"object": at, "heads": 2}]
    assert b"2 heads" in cairn("conflicts", f"cairn://{bucket}")
    assert b"nothing" in cairn("conflicts", f"cairn://{bucket}/l")
    cairn("conflicts", "cairn://none-such", code=3)
    cairn("merge", at, "--keep", left)
    assert cairn("conflicts", f"cairn://{bucket}", "--json") == b""
    cairn("put", "f", at, *branch)
    s3.delete_object(Bucket=bucket, Key="k")
    assert objects(cairn("conflicts", f"cairn://{bucket}", "--json")) == [{"object": at, "heads": 2}]
    assert [it["head"] for it in objects(cairn("versions", at, "--json"))].count(True) == 2
    cairn("merge", at, "--keep", left)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"left"
    said = objects(cairn("versions", at, "--json"))
    assert [it["head"] for it in said].count(True) == 1 and len(said) == 8
    cairn("put", "f", at, *branch)
    assert b"3 heads" not in cairn("merge", at, "--delete")
    cairn("stat", at, code=3)
    assert cairn("conflicts", f"cairn://{bucket}", "--json") == b""
    cairn("merge", at, "--delete", "--keep", left, code=2)
    cairn("versions", f"cairn://{bucket}/none", code=3)
    cairn("merge", f"cairn://{bucket}/none", "--keep", left, code=3)


def put(s3, bucket: str, body: bytes) -> str:
    return s3.put_object(Bucket=bucket, Key="k", Body=body)["VersionId"]


def test_an_object_is_told_how_long_to_live(cairn, s3, bucket, data, tmp_path):
    if s3.list_buckets()["ResponseMetadata"]["HTTPHeaders"].get("server") != "Cairn":
        pytest.skip("only Cairn has lives of objects")
    (tmp_path / "f").write_bytes(b"x")
    (tmp_path / "long").write_bytes(data(6 * MIB))
    expires = lambda key: json.loads(cairn("stat", f"cairn://{bucket}/{key}", "--json"))["headers"].get("x-cairn-expires")
    cairn("put", "f", f"cairn://{bucket}/a", "--ttl", "12h")
    cairn("put", "long", f"cairn://{bucket}/b", "--ttl", "7d", "--part-size", "5MiB")
    cairn("cp", f"cairn://{bucket}/b", f"cairn://{bucket}/c", "--ttl", "30m")
    cairn("cp", f"cairn://{bucket}/b", f"cairn://{bucket}/d")
    assert expires("a") and expires("b") and expires("c") and not expires("d")
    for wrong in ["", "0s", "12", "1.5h", "-3d", "9" * 30 + "d"]:
        cairn("put", "f", f"cairn://{bucket}/e", f"--ttl={wrong}", code=2)
    cairn("put", "f", f"cairn://{bucket}/e", "--ttl", "1s")
    for _ in range(400):
        if "e" not in [it["key"] for it in objects(cairn("ls", f"cairn://{bucket}", "--json"))]:
            break
        time.sleep(0.1)
    else:
        pytest.fail("it is still listed")
    cairn("cat", f"cairn://{bucket}/e", code=3)


def test_settings_of_buckets(cairn, s3, bucket, tmp_path):
    cairn("bucket", "set", bucket, "versioning", "enabled")
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    rule = {"ID": "r", "Status": "Enabled", "Filter": {"Prefix": "tmp/"}, "Expiration": {"Days": 3}}
    s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [rule]})
    document = cairn("bucket", "info", bucket, "lifecycle")
    cairn("bucket", "set", bucket, "lifecycle", "--none")
    cairn("bucket", "info", bucket, "lifecycle", code=3)
    cairn("bucket", "set", bucket, "lifecycle", "-", stdin=document)
    assert s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"][0]["Expiration"] == {"Days": 3}
    policy = {"Principal": "*", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{bucket}/*", "Effect": "Allow"}
    (tmp_path / "p").write_text(json.dumps({"Version": "2012-10-17", "Statement": [policy]}))
    cairn("bucket", "set", bucket, "policy", "p")
    said = json.loads(cairn("bucket", "info", bucket, "--json"))["settings"]
    assert json.loads(said["policy"])["Statement"] and said["cors"] is None
    assert b"enabled" in cairn("bucket", "info", bucket)
    cairn("bucket", "set", bucket, "versioning", "perhaps", code=2)
    cairn("bucket", "set", bucket, "cors", "p", code=2)
    cairn("bucket", "info", f"{bucket}-none", code=3)


def test_copies_between_objects(cairn, s3, bucket, data):
    body = data(7 * MIB)
    s3.put_object(Bucket=bucket, Key="a/x y", Body=body, Metadata={"m": "1"})
    cairn("cp", f"cairn://{bucket}/a/x y", f"cairn://{bucket}/b/")
    got = s3.get_object(Bucket=bucket, Key="b/x y")
    assert got["Body"].read() == body and got["Metadata"] == {"m": "1"}
    cairn("cp", f"cairn://{bucket}/a/x y", f"cairn://{bucket}/d", "--content-type", "text/rock", "--metadata", "n=2")
    head = s3.head_object(Bucket=bucket, Key="d")
    assert (head["ContentType"], head["Metadata"]) == ("text/rock", {"m": "1", "n": "2"})
    cairn("cp", "-r", f"cairn://{bucket}/a", f"cairn://{bucket}/c")
    assert s3.head_object(Bucket=bucket, Key="c/x y")["ContentLength"] == len(body)


def test_buckets(cairn, s3, bucket, tmp_path):
    name = f"{bucket}-2"
    cairn("bucket", "create", name, "--versioning")
    assert s3.get_bucket_versioning(Bucket=name)["Status"] == "Enabled"
    (tmp_path / "f").write_bytes(b"x")
    for _ in range(3):
        cairn("put", "f", f"cairn://{name}/k")
    s3.create_multipart_upload(Bucket=name, Key="begun")
    cairn("bucket", "delete", name, code=4)
    cairn("bucket", "delete", name, "--force")
    cairn("bucket", "delete", name, code=3)


def test_exit_codes_and_next_steps(start, server, bucket, tmp_path):
    def said(*words, env=None):
        running = start(*words, env=env)
        out, error = running.communicate(timeout=60)
        assert out == b"", out
        return running.returncode, error.decode()

    for words, code, hint in [
        (["cat", f"cairn://{bucket}/missing"], 3, "cairn ls"),
        (["ls", f"cairn://{bucket}-missing"], 3, "cairn bucket create"),
        (["put", "missing", f"cairn://{bucket}/k"], 3, "missing"),
        (["put", ".", f"cairn://{bucket}/k"], 2, "-r"),
        (["cat", "no-object"], 2, "cairn://BUCKET/KEY"),
        (["cp", "a", "b"], 2, "cairn://BUCKET/KEY"),
        (["ls", "--endpoint", "http://127.0.0.1:1"], 2, "--endpoint"),
        (["ls", "--endpoint", "https://127.0.0.1:1"], 2, "TLS"),
        (["bucket", "create", bucket + "/x"], 2, "name"),
    ]:
        ended, error = said(*words)
        assert ended == code and hint in error and error.count("\n") == 1, (words, ended, error)
    ended, error = said("ls", env={"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""})
    assert ended == 2 and "AWS_ACCESS_KEY_ID" in error
    (tmp_path / "client.toml").write_text('secret_key = "hush-hush\n')
    ended, error = said("ls", env={"CAIRN_CLIENT_CONFIG": "client.toml"})
    assert ended == 2 and "hush" not in error, error


def test_settings_come_from_a_file(cairn, server, bucket, tmp_path):
    (tmp_path / ".config/cairn").mkdir(parents=True)
    text = f'endpoint = "{server.endpoint}"\naccess_key = "{server.access_key}"\nsecret_key = "{server.secret_key}"\n'
    (tmp_path / ".config/cairn/client.toml").write_text(text)
    nothing = {"CAIRN_ENDPOINT": "", "AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    assert f"cairn://{bucket}".encode() in cairn("ls", env=nothing)
    cairn("ls", "--endpoint", "http://127.0.0.1:1", code=2)


HOSTILE = [
    b"",
    b"\x00" * 1000,
    b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n<a><b",
    b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n\xff\xfe\xfd",
    b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999999\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\nshort",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
    b"HTTP/1.1 301 Moved\r\nlocation: http://elsewhere/\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: 90020\r\n\r\n" + b"<a>" * 30_000 + b" " * 20,
    b"HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\n\r\n\x1b[2J",
    b"HTTP/1.1 200 OK\r\nx-long: " + b"y" * 2_000_000,
    b"HTTP/1.1 200 OK\r\netag: \xff\xff\r\ncontent-length: 0\r\n\r\n",
]


@pytest.mark.parametrize("answer", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_servers_are_told_and_survived(start, answer, tmp_path):
    (tmp_path / "f").write_bytes(b"x")
    endpoint, close = hostile(answer)
    try:
        for words in (["ls"], ["ls", "-r", "cairn://b"], ["get", "cairn://b/k", "out"], ["stat", "cairn://b/k"],
                      ["bucket", "delete", "b", "--force"], ["cp", "cairn://b/k", "cairn://b/l"]):
            running = start(*words, "--endpoint", endpoint)
            out, error = running.communicate(timeout=60)
            assert running.returncode in (0, 1, 2, 3, 4), (words, running.returncode, error)
            assert b"panicked" not in error and b"\x1b" not in error + out, error
            if running.returncode:
                assert error.startswith(b"cairn: ") and len(error) < 2000, error
        # Some of these could be an object's bytes.
        body = answer.split(b"\r\n\r\n", 1)[-1]
        assert not (tmp_path / "out").exists() or (tmp_path / "out").read_bytes() == body
    finally:
        close()


def test_it_is_there_for_shells(cairn, binary):
    for command in ("put", "get", "cat", "cp", "ls", "rm", "stat", "bucket"):
        assert b"Exit codes" in cairn(command, "--help")
        assert b".TH" in cairn("man", command)
    assert shutil.which(binary)
