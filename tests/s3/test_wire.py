"""Forms of requests that boto3 doesn't make over plain HTTP: aws-chunked, trailers, clocks, signatures that are wrong."""

import datetime
import os

import pytest
import wire


@pytest.mark.parametrize("length", [0, 1, 65_536, 200_000])
def test_signed_chunks_are_stored(server, s3, bucket, data, length):
    body = data(length)
    status, _, said = wire.put_in_chunks(server, f"/{bucket}/k", body)
    assert status == 200, said
    got = s3.get_object(Bucket=bucket, Key="k")
    assert got["Body"].read() == body
    assert "aws-chunked" not in got.get("ContentEncoding", "")


@pytest.mark.parametrize("sign", [True, False], ids=["signed", "unsigned"])
@pytest.mark.parametrize("algorithm", wire.ALGORITHMS)
def test_a_trailer_is_checked_and_kept(server, s3, bucket, data, algorithm, sign):
    body = data(150_000)
    status, _, said = wire.put_in_chunks(server, f"/{bucket}/k", body, sign=sign, trailer=algorithm)
    assert status == 200, said
    got = s3.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert got["Body"].read() == body
    assert got[f"Checksum{algorithm.upper()}"] == wire.checksum(algorithm, body)


@pytest.mark.parametrize("algorithm", wire.ALGORITHMS)
def test_a_wrong_trailer_stores_nothing(server, s3, bucket, data, algorithm):
    put = wire.put_in_chunks(server, f"/{bucket}/k", data(9000), sign=False, trailer=algorithm, spoil="checksum")
    assert put[0] == 400, put
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


@pytest.mark.parametrize(
    ("spoil", "trailer", "statuses"),
    [
        ("chunk", None, {403}),
        ("chunk", "crc32", {403}),
        ("signature", "crc32c", {403}),
        ("length", None, {400}),
    ],
)
def test_damaged_chunks_store_nothing(server, s3, bucket, data, spoil, trailer, statuses):
    put = wire.put_in_chunks(server, f"/{bucket}/k", data(100_000), trailer=trailer, spoil=spoil)
    assert put[0] in statuses, put
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


def test_a_body_without_its_end_stores_nothing(server, s3, bucket, data):
    put = wire.put_in_chunks(server, f"/{bucket}/k", data(100_000), sign=False, trailer="crc32", spoil="end")
    assert put[0] == 400, put
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


def test_a_wrong_body_hash_stores_nothing(server, s3, bucket):
    signed = wire.Signed(server)
    headers = signed.headers("PUT", f"/{bucket}/k", "", {"content-length": "5"}, wire.EMPTY)
    status, _, said = wire.send(server, "PUT", f"/{bucket}/k", headers, b"hello")
    assert status == 400 and b"XAmzContentSHA256Mismatch" in said, said
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


def test_a_clock_that_is_wrong_is_refused(server, bucket):
    now = datetime.datetime.now(datetime.timezone.utc)
    for away in (datetime.timedelta(minutes=-16), datetime.timedelta(minutes=16)):
        status, _, said = wire.request(server, "GET", f"/{bucket}", at=now + away)
        assert status == 403 and b"RequestTimeTooSkewed" in said, said


def test_a_wrong_signature_is_refused(server, bucket):
    signed = wire.Signed(server)
    headers = signed.headers("GET", f"/{bucket}", "", {}, wire.EMPTY)
    headers["authorization"] = headers["authorization"][:-4] + "0000"
    status, _, said = wire.send(server, "GET", f"/{bucket}", headers)
    assert status == 403 and b"SignatureDoesNotMatch" in said, said


def test_a_header_added_later_is_refused(server, bucket):
    """What says what to do must be signed: or somebody on the way could have the server copy instead of store."""
    signed = wire.Signed(server)
    headers = signed.headers("PUT", f"/{bucket}/k", "", {"content-length": "0"}, wire.EMPTY)
    headers["x-amz-copy-source"] = f"/{bucket}/other"
    assert wire.send(server, "PUT", f"/{bucket}/k", headers)[0] == 403


def test_nobody_in_particular_is_refused(server, bucket):
    for method, path in [("GET", f"/{bucket}"), ("GET", f"/{bucket}/k"), ("PUT", f"/{bucket}/k"), ("GET", "/")]:
        status, _, said = wire.send(server, method, path, {"host": server.host, "content-length": "0"})
        assert status == 403, (method, path, said)


def test_answers_name_their_request(server, bucket):
    for path in (f"/{bucket}", f"/{bucket}/missing"):
        _, headers, _ = wire.request(server, "GET", path)
        assert headers.get("x-amz-request-id"), headers


def test_a_bucket_may_be_named_by_the_host(server, s3, bucket):
    domain = os.environ.get("S3_TESTS_DOMAIN")
    if not domain:
        pytest.skip("S3_TESTS_DOMAIN names no domain of the server")
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    signed = wire.Signed(server, host=f"{bucket}.{domain}")
    headers = signed.headers("GET", "/k", "", {}, wire.EMPTY)
    assert wire.send(server, "GET", "/k", headers)[::2] == (200, b"x")
