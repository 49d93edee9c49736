"""What boto3 stores and reads: objects, ranges, metadata, listings, versions, parts, conditions, presigned URLs."""

import base64
import concurrent.futures
import datetime
import hashlib
import io
import time
import urllib.error
import urllib.request

import botocore.exceptions
import pytest
import wire

MIB = 1 << 20


def refused(status, code=None):
    """Expects a refusal."""

    class Refused:
        def __enter__(self):
            return self

        def __exit__(self, kind, error, _):
            assert isinstance(error, botocore.exceptions.ClientError), f"it was not refused: {error!r}"
            said = error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"]
            assert said[0] == status and (code is None or said[1] == code), said
            return True

    return Refused()


@pytest.mark.parametrize("length", [0, 1, 4095, 4096, 4097, 65_536, MIB + 1, 4 * MIB, 9 * MIB + 7])
def test_an_object_comes_back_as_it_was(s3, bucket, data, length):
    body = data(length)
    put = s3.put_object(Bucket=bucket, Key="k", Body=body)
    assert put["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
    got = s3.get_object(Bucket=bucket, Key="k")
    assert (got["ContentLength"], got["ETag"]) == (length, put["ETag"])
    assert got["Body"].read() == body
    head = s3.head_object(Bucket=bucket, Key="k")
    assert (head["ContentLength"], head["ETag"]) == (length, put["ETag"])
    age = datetime.datetime.now(datetime.timezone.utc) - head["LastModified"]
    assert abs(age.total_seconds()) < 120


def test_the_last_put_counts(s3, bucket, data):
    for seed in range(5):
        s3.put_object(Bucket=bucket, Key="k", Body=data(5000, seed))
        assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == data(5000, seed)


def test_what_is_deleted_is_gone(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    s3.delete_object(Bucket=bucket, Key="k")
    with refused(404, "NoSuchKey"):
        s3.get_object(Bucket=bucket, Key="k")
    with refused(404):
        s3.head_object(Bucket=bucket, Key="k")
    # Again is no error.
    s3.delete_object(Bucket=bucket, Key="k")


def test_what_is_not_there_is_told(s3, bucket):
    with refused(404, "NoSuchBucket"):
        s3.list_objects_v2(Bucket=f"{bucket}-not")
    with refused(404, "NoSuchUpload"):
        s3.list_parts(Bucket=bucket, Key="k", UploadId="nothing-of-that-name")
    with refused(404, "NoSuchBucket"):
        s3.put_object(Bucket=f"{bucket}-not", Key="k", Body=b"")


def test_a_bucket_that_holds_something_stays(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    with refused(409, "BucketNotEmpty"):
        s3.delete_bucket(Bucket=bucket)
    assert bucket in [entry["Name"] for entry in s3.list_buckets()["Buckets"]]


@pytest.mark.parametrize(
    ("wanted", "first", "last"),
    [("0-0", 0, 0), ("0-99", 0, 99), ("4095-4096", 4095, 4096), ("100000-", 100_000, None), ("-7", -7, None),
     ("4194300-4194310", 4_194_300, 4_194_310), ("0-99999999", 0, None)],
)
def test_ranges_are_exact(s3, bucket, data, wanted, first, last):
    body = data(5 * MIB)
    s3.put_object(Bucket=bucket, Key="k", Body=body)
    got = s3.get_object(Bucket=bucket, Key="k", Range=f"bytes={wanted}")
    expected = body[first : None if last is None else last + 1]
    assert got["ResponseMetadata"]["HTTPStatusCode"] == 206
    assert got["Body"].read() == expected
    start = first if first >= 0 else len(body) + first
    assert got["ContentRange"] == f"bytes {start}-{start + len(expected) - 1}/{len(body)}"


def test_a_range_beyond_the_end_is_refused(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"0123456789")
    with refused(416, "InvalidRange"):
        s3.get_object(Bucket=bucket, Key="k", Range="bytes=10-")


def test_metadata_comes_back(s3, bucket):
    headers = {
        "ContentType": "text/x-rock; charset=utf-8",
        "CacheControl": "max-age=60",
        "ContentDisposition": 'attachment; filename="a b.txt"',
        "ContentEncoding": "gzip",
        "ContentLanguage": "de",
    }
    metadata = {"colour": "grey", "weight-kg": "7.5", "empty": ""}
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Metadata=metadata, **headers)
    for got in (s3.head_object(Bucket=bucket, Key="k"), s3.get_object(Bucket=bucket, Key="k")):
        assert got["Metadata"] == metadata
        assert {name: got[name] for name in headers} == headers
    s3.put_object(Bucket=bucket, Key="k", Body=b"y")
    assert s3.head_object(Bucket=bucket, Key="k")["Metadata"] == {}, "it is of the new object"


def test_an_answer_says_what_the_reader_asks(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", ContentType="text/plain")
    got = s3.get_object(Bucket=bucket, Key="k", ResponseContentType="application/json", ResponseCacheControl="no-cache")
    assert (got["ContentType"], got["CacheControl"]) == ("application/json", "no-cache")


UNUSUAL = [
    "a b", "a+b", "a%20b", "a%2Fb", "ü/ö/ä", "日本語", "🪨", "a//b", "/leading", "trailing/", "quote'\"s", "<&>", "a=b&c=d?e#f",
    "tilde~", "back\\slash", "a:b;c,d", "(brackets)[]{}", "$!*@", "x" * 1024,
]


@pytest.mark.parametrize("key", UNUSUAL, ids=range(len(UNUSUAL)))
def test_unusual_keys_are_kept(s3, bucket, key):
    body = key.encode()
    s3.put_object(Bucket=bucket, Key=key, Body=body)
    assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == body
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]] == [key]
    s3.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": key})
    assert s3.get_object(Bucket=bucket, Key="copy")["Body"].read() == body
    s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key}]})
    with refused(404):
        s3.head_object(Bucket=bucket, Key=key)


def test_a_key_too_long_is_refused(s3, bucket):
    with refused(400, "KeyTooLongError"):
        s3.put_object(Bucket=bucket, Key="x" * 1025, Body=b"")


@pytest.fixture
def many(s3, bucket):
    """2,500 keys in 25 folders."""
    keys = [f"dir{number % 25:02}/key{number:05}" for number in range(2500)]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda key: s3.put_object(Bucket=bucket, Key=key, Body=key.encode()), keys))
    return sorted(keys)


def test_long_listings_come_in_pages(s3, bucket, many):
    pages = list(s3.get_paginator("list_objects_v2").paginate(Bucket=bucket))
    assert [len(page["Contents"]) for page in pages] == [1000, 1000, 500]
    assert [entry["Key"] for page in pages for entry in page["Contents"]] == many
    assert all(entry["Size"] == 14 for page in pages for entry in page["Contents"])
    old = [entry["Key"] for page in s3.get_paginator("list_objects").paginate(Bucket=bucket) for entry in page["Contents"]]
    assert old == many
    part = s3.list_objects_v2(Bucket=bucket, Prefix="dir07/", StartAfter=many[750], MaxKeys=10)
    expected = [key for key in many if key.startswith("dir07/") and key > many[750]][:10]
    assert [entry["Key"] for entry in part["Contents"]] == expected
    folders = [f"dir{number:02}/" for number in range(25)]
    for page_size in (1000, 7, 1):
        paginator = s3.get_paginator("list_objects_v2").paginate(
            Bucket=bucket, Delimiter="/", PaginationConfig={"PageSize": page_size}
        )
        pages = list(paginator)
        assert [entry["Prefix"] for page in pages for entry in page.get("CommonPrefixes", [])] == folders, page_size
        assert not any("Contents" in page for page in pages)
    failed = [
        failure
        for at in range(0, 2500, 1000)
        for failure in s3.delete_objects(
            Bucket=bucket, Delete={"Objects": [{"Key": key} for key in many[at : at + 1000]], "Quiet": True}
        ).get("Errors", [])
    ]
    assert failed == [] and "Contents" not in s3.list_objects_v2(Bucket=bucket)


def test_keys_and_folders_are_listed_together(s3, bucket):
    for key in ["a", "a/1", "a/2", "b/1/x", "c", "c/"]:
        s3.put_object(Bucket=bucket, Key=key, Body=b"")
    page = s3.list_objects_v2(Bucket=bucket, Delimiter="/")
    assert [entry["Key"] for entry in page["Contents"]] == ["a", "c"]
    assert [entry["Prefix"] for entry in page["CommonPrefixes"]] == ["a/", "b/", "c/"]
    page = s3.list_objects_v2(Bucket=bucket, Prefix="b/", Delimiter="/")
    assert [entry["Prefix"] for entry in page["CommonPrefixes"]] == ["b/1/"] and "Contents" not in page
    page = s3.list_objects_v2(Bucket=bucket, Prefix="c", Delimiter="/")
    assert [entry["Key"] for entry in page["Contents"]] == ["c"]


def test_parts_make_an_object(s3, bucket, data):
    parts = [data(5 * MIB, 1), data(6 * MIB, 2), data(77, 3)]
    begun = s3.create_multipart_upload(Bucket=bucket, Key="k", Metadata={"of": "parts"}, ContentType="text/rock")
    upload = {"Bucket": bucket, "Key": "k", "UploadId": begun["UploadId"]}
    # The last first, and one twice: the second time counts.
    etags = {3: s3.upload_part(**upload, PartNumber=3, Body=parts[2])["ETag"]}
    s3.upload_part(**upload, PartNumber=2, Body=data(5 * MIB, 9))
    for number in (2, 1):
        etags[number] = s3.upload_part(**upload, PartNumber=number, Body=parts[number - 1])["ETag"]
    listed = s3.list_parts(**upload)["Parts"]
    assert [(part["PartNumber"], part["Size"]) for part in listed] == [(1, 5 * MIB), (2, 6 * MIB), (3, 77)]
    assert [it["UploadId"] for it in s3.list_multipart_uploads(Bucket=bucket)["Uploads"]] == [begun["UploadId"]]
    with refused(404):
        s3.head_object(Bucket=bucket, Key="k")
    chosen = [{"PartNumber": number, "ETag": etags[number]} for number in (1, 2, 3)]
    made = s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": chosen})
    digests = b"".join(hashlib.md5(part).digest() for part in parts)
    assert made["ETag"] == f'"{hashlib.md5(digests).hexdigest()}-3"'
    got = s3.get_object(Bucket=bucket, Key="k")
    assert got["Body"].read() == b"".join(parts)
    assert (got["Metadata"], got["ContentType"]) == ({"of": "parts"}, "text/rock")
    across = s3.get_object(Bucket=bucket, Key="k", Range=f"bytes={5 * MIB - 10}-{5 * MIB + 9}")
    assert across["Body"].read() == parts[0][-10:] + parts[1][:10]
    second = s3.get_object(Bucket=bucket, Key="k", PartNumber=2)
    assert second["Body"].read() == parts[1] and second["PartsCount"] == 3


def test_parts_that_are_given_up_are_gone(s3, bucket, data):
    begun = s3.create_multipart_upload(Bucket=bucket, Key="k")
    upload = {"Bucket": bucket, "Key": "k", "UploadId": begun["UploadId"]}
    s3.upload_part(**upload, PartNumber=1, Body=data(5 * MIB))
    s3.abort_multipart_upload(**upload)
    with refused(404, "NoSuchUpload"):
        s3.upload_part(**upload, PartNumber=2, Body=b"x")
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)


def test_wrong_completions_are_refused(s3, bucket, data):
    begun = s3.create_multipart_upload(Bucket=bucket, Key="k")
    upload = {"Bucket": bucket, "Key": "k", "UploadId": begun["UploadId"]}
    lengths = {1: 100, 2: 5 * MIB, 3: 5 * MIB}
    etags = {
        number: s3.upload_part(**upload, PartNumber=number, Body=data(length))["ETag"] for number, length in lengths.items()
    }
    part = lambda number, etag=None: {"PartNumber": number, "ETag": etag or etags[number]}
    for parts, code in [
        ([part(1), part(2)], "EntityTooSmall"),
        ([part(3), part(2)], "InvalidPartOrder"),
        ([part(2, '"00000000000000000000000000000000"')], "InvalidPart"),
        ([part(7, etags[2])], "InvalidPart"),
    ]:
        with refused(400, code):
            s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})


def test_copies_move_no_bytes_through_here(s3, bucket, data):
    body = data(MIB)
    s3.put_object(Bucket=bucket, Key="from", Body=body, Metadata={"a": "1"}, ContentType="text/rock")
    copied = s3.copy_object(Bucket=bucket, Key="to", CopySource=f"{bucket}/from")
    assert copied["CopyObjectResult"]["ETag"] == s3.head_object(Bucket=bucket, Key="from")["ETag"]
    got = s3.get_object(Bucket=bucket, Key="to")
    assert (got["Body"].read(), got["Metadata"], got["ContentType"]) == (body, {"a": "1"}, "text/rock")
    s3.copy_object(
        Bucket=bucket, Key="to", CopySource=f"{bucket}/from", MetadataDirective="REPLACE", Metadata={"b": "2"}
    )
    assert s3.head_object(Bucket=bucket, Key="to")["Metadata"] == {"b": "2"}
    with refused(404, "NoSuchKey"):
        s3.copy_object(Bucket=bucket, Key="to", CopySource=f"{bucket}/missing")
    with refused(412, "PreconditionFailed"):
        s3.copy_object(Bucket=bucket, Key="to", CopySource=f"{bucket}/from", CopySourceIfMatch='"other"')


def test_a_part_may_be_a_copy(s3, bucket, data):
    body = data(6 * MIB)
    s3.put_object(Bucket=bucket, Key="from", Body=body)
    begun = s3.create_multipart_upload(Bucket=bucket, Key="to")
    upload = {"Bucket": bucket, "Key": "to", "UploadId": begun["UploadId"]}
    source = {"CopySource": f"{bucket}/from"}
    one = s3.upload_part_copy(**upload, **source, PartNumber=1)["CopyPartResult"]["ETag"]
    two = s3.upload_part_copy(**upload, **source, PartNumber=2, CopySourceRange="bytes=100-199")["CopyPartResult"]
    parts = [{"PartNumber": 1, "ETag": one}, {"PartNumber": 2, "ETag": two["ETag"]}]
    s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
    assert s3.get_object(Bucket=bucket, Key="to")["Body"].read() == body + body[100:200]


def test_versions_are_kept(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"before")
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    one = s3.put_object(Bucket=bucket, Key="k", Body=b"one")["VersionId"]
    two = s3.put_object(Bucket=bucket, Key="k", Body=b"two")["VersionId"]
    marker = s3.delete_object(Bucket=bucket, Key="k")
    assert marker["DeleteMarker"] and len({one, two, marker["VersionId"], "null"}) == 4
    with refused(404, "NoSuchKey"):
        s3.get_object(Bucket=bucket, Key="k")
    for version, body in [(one, b"one"), (two, b"two"), ("null", b"before")]:
        assert s3.get_object(Bucket=bucket, Key="k", VersionId=version)["Body"].read() == body
    with refused(405, "MethodNotAllowed"):
        s3.get_object(Bucket=bucket, Key="k", VersionId=marker["VersionId"])
    listed = s3.list_object_versions(Bucket=bucket)
    assert [entry["VersionId"] for entry in listed["Versions"]] == [two, one, "null"]
    assert [(entry["VersionId"], entry["IsLatest"]) for entry in listed["DeleteMarkers"]] == [(marker["VersionId"], True)]
    # Without the marker the object is back; without its newest version, the one before.
    s3.delete_object(Bucket=bucket, Key="k", VersionId=marker["VersionId"])
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"two"
    s3.delete_object(Bucket=bucket, Key="k", VersionId=two)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"one"


def test_suspended_versioning_replaces_one(s3, bucket):
    versioning = lambda status: s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": status})
    versioning("Enabled")
    kept = s3.put_object(Bucket=bucket, Key="k", Body=b"kept")["VersionId"]
    versioning("Suspended")
    for body in (b"x", b"y"):
        s3.put_object(Bucket=bucket, Key="k", Body=body)
    listed = s3.list_object_versions(Bucket=bucket)["Versions"]
    assert [entry["VersionId"] for entry in listed] == ["null", kept]
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"y"


def test_reads_on_conditions(s3, bucket):
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"x")["ETag"]
    when = s3.head_object(Bucket=bucket, Key="k")["LastModified"]
    day = datetime.timedelta(days=1)
    read = lambda **conditions: s3.get_object(Bucket=bucket, Key="k", **conditions)["Body"].read()
    assert read(IfMatch=etag) == read(IfNoneMatch='"other"') == b"x"
    assert read(IfModifiedSince=when - day) == read(IfUnmodifiedSince=when + day) == b"x"
    for status, conditions in [
        (412, {"IfMatch": '"other"'}), (304, {"IfNoneMatch": etag}),
        (304, {"IfModifiedSince": when}), (412, {"IfUnmodifiedSince": when - day}),
    ]:
        with refused(status):
            read(**conditions)


def test_of_many_first_writers_one_wins(s3, bucket):
    def write(number):
        try:
            s3.put_object(Bucket=bucket, Key="k", Body=f"{number}".encode(), IfNoneMatch="*")
            return "won"
        except botocore.exceptions.ClientError as error:
            return error.response["ResponseMetadata"]["HTTPStatusCode"]

    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        ends = list(pool.map(write, range(50)))
    assert ends.count("won") == 1, ends
    # 409 is what AWS answers while another such write is under way.
    assert set(ends) <= {"won", 409, 412}, ends
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == str(ends.index("won")).encode()


def test_of_many_replacements_of_one_version_one_wins(s3, bucket):
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"first")["ETag"]

    def replace(number):
        try:
            s3.put_object(Bucket=bucket, Key="k", Body=f"{number}".encode(), IfMatch=etag)
            return True
        except botocore.exceptions.ClientError as error:
            assert error.response["ResponseMetadata"]["HTTPStatusCode"] in (409, 412)
            return False

    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        assert sum(pool.map(replace, range(20))) == 1


def test_conditions_on_what_is_not_there(s3, bucket):
    with refused(404, "NoSuchKey"):
        s3.put_object(Bucket=bucket, Key="k", Body=b"x", IfMatch='"any"')
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", IfNoneMatch="*")
    with refused(412, "PreconditionFailed"):
        s3.put_object(Bucket=bucket, Key="k", Body=b"y", IfNoneMatch="*")


def test_a_completion_on_condition(s3, bucket, data):
    begun = s3.create_multipart_upload(Bucket=bucket, Key="k")
    upload = {"Bucket": bucket, "Key": "k", "UploadId": begun["UploadId"]}
    etag = s3.upload_part(**upload, PartNumber=1, Body=data(100))["ETag"]
    s3.put_object(Bucket=bucket, Key="k", Body=b"was faster")
    parts = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
    with refused(412, "PreconditionFailed"):
        s3.complete_multipart_upload(**upload, MultipartUpload=parts, IfNoneMatch="*")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"was faster"


def fetch(url, method="GET", data=None):
    asked = urllib.request.Request(url, data=data, method=method)
    if data is not None:
        asked.add_header("content-type", "application/octet-stream")
    try:
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_presigned_urls_work_until_they_expire(s3, bucket, data):
    body = data(5000)
    named = {"Bucket": bucket, "Key": "a b/ü"}
    put = s3.generate_presigned_url("put_object", Params=named, ExpiresIn=60)
    assert fetch(put, "PUT", body)[0] == 200
    get = s3.generate_presigned_url("get_object", Params=named, ExpiresIn=60)
    assert fetch(get) == (200, body)
    brief = s3.generate_presigned_url("get_object", Params=named, ExpiresIn=1)
    time.sleep(3)
    status, said = fetch(brief)
    assert status == 403 and b"AccessDenied" in said, said


def test_presigned_urls_allow_what_they_say(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    url = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "k"}, ExpiresIn=60)
    assert fetch(url, "DELETE")[0] == 403, "another method"
    assert fetch(url.replace("/k?", "/other?"))[0] == 403, "another key"
    assert fetch(url.replace("Expires=60", "Expires=6000"))[0] == 403, "longer"
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"


def test_a_form_stores_an_object(s3, bucket, server):
    conditions = [["content-length-range", 1, 100], {"acl": "private"}]
    post = s3.generate_presigned_post(bucket, "form/${filename}", {"acl": "private"}, conditions, ExpiresIn=60)

    def send(body):
        boundary = "cairnboundary"
        fields = "".join(
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            for name, value in post["fields"].items()
        )
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="f.txt"\r\n\r\n'
        form = (fields + head).encode() + body + f"\r\n--{boundary}--\r\n".encode()
        request = urllib.request.Request(post["url"], data=form, method="POST")
        request.add_header("content-type", f"multipart/form-data; boundary={boundary}")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    assert send(b"by a browser") in (200, 204)
    assert s3.get_object(Bucket=bucket, Key="form/f.txt")["Body"].read() == b"by a browser"
    assert send(b"x" * 101) == 400, "longer than the policy allows"


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"])
def test_checksums_are_checked_and_kept(s3, bucket, data, algorithm):
    body = data(70_000)
    put = s3.put_object(Bucket=bucket, Key="k", Body=body, ChecksumAlgorithm=algorithm)
    name = f"Checksum{algorithm}"
    got = s3.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert got[name] == put[name] and got["Body"].read() == body
    with refused(400):
        s3.put_object(Bucket=bucket, Key="bad", Body=body, **{name: wire.checksum(algorithm.lower(), b"other")})
    with refused(404):
        s3.head_object(Bucket=bucket, Key="bad")


def test_a_wrong_md5_stores_nothing(s3, bucket):
    with refused(400, "BadDigest"):
        wrong = base64.b64encode(hashlib.md5(b"other").digest()).decode()
        s3.put_object(Bucket=bucket, Key="k", Body=b"x", ContentMD5=wrong)
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


def test_tags_come_back(s3, bucket):
    tags = [{"Key": "colour", "Value": "grey"}, {"Key": "über", "Value": "a b+c"}]
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Tagging="colour=grey&%C3%BCber=a%20b%2Bc")
    got = s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"]
    assert sorted(got, key=lambda tag: tag["Key"]) == tags
    s3.put_object_tagging(Bucket=bucket, Key="k", Tagging={"TagSet": tags[:1]})
    assert s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == tags[:1]
    s3.delete_object_tagging(Bucket=bucket, Key="k")
    assert s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == []


def test_locked_versions_stay(s3, bucket):
    name = f"{bucket}-locked"
    s3.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    until = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=6)
    version = s3.put_object(
        Bucket=name, Key="k", Body=b"x", ObjectLockMode="COMPLIANCE", ObjectLockRetainUntilDate=until
    )["VersionId"]
    held = s3.put_object(Bucket=name, Key="held", Body=b"y", ObjectLockLegalHoldStatus="ON")["VersionId"]
    with refused(403, "AccessDenied"):
        s3.delete_object(Bucket=name, Key="k", VersionId=version)
    with refused(403, "AccessDenied"):
        s3.delete_object(Bucket=name, Key="held", VersionId=held)
    time.sleep(7)
    s3.put_object_legal_hold(Bucket=name, Key="held", VersionId=held, LegalHold={"Status": "OFF"})
    s3.delete_object(Bucket=name, Key="k", VersionId=version)
    s3.delete_object(Bucket=name, Key="held", VersionId=held)
    s3.delete_bucket(Bucket=name)


def test_transfers_of_boto3_are_whole(s3, bucket, data):
    body = data(40 * MIB + 123)
    s3.upload_fileobj(io.BytesIO(body), bucket, "k")
    back = io.BytesIO()
    s3.download_fileobj(bucket, "k", back)
    assert back.getvalue() == body


def test_one_client_does_much_at_once(s3, bucket, data):
    def one(number):
        body = data(10_000 + number, number)
        s3.put_object(Bucket=bucket, Key=f"k{number}", Body=body)
        return s3.get_object(Bucket=bucket, Key=f"k{number}")["Body"].read() == body

    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        assert all(pool.map(one, range(300)))
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 300
