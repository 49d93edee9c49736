#!/usr/bin/env python3
"""Runs the public Ceph S3 suite against a server, tells what passed group by group, and compares with what is kept.

    tests/s3/ceph.py --suite DIR --endpoint http://127.0.0.1:9000 --access-key KEY --secret-key SECRET \\
        --alt-access-key KEY2 --alt-secret-key SECRET2
    tests/s3/ceph.py ... --only test_bucket_list      only tests with this in their names; nothing is compared
    tests/s3/ceph.py ... --update                     keep the names that pass now

The suite (ceph/s3-tests, commit 8f0ae7b4) is no part of this project: DIR holds a copy of it, by default s3-tests under
the target directory. Nothing of it is changed. The second key must belong to somebody else than the first.

Exit codes: 0 nothing is lost; 1 a test that is kept in expected.txt passes no more; 2 it could not be run.
"""

import argparse
import collections
import json
import os
import pathlib
import signal
import subprocess
import sys
import urllib.parse

from run import HERE, check_server, environment, server_arguments, target

EXPECTED = HERE / "expected.txt"
FILES = ["test_s3.py", "test_headers.py"]
NEEDS = ["boto3", "httplib2", "isodate", "lxml", "munch", "python-dateutil", "pytz", "PyYAML", "requests"]
RUNNERS = ["pytest>=9", "pytest-timeout>=2.4", "pytest-xdist>=3"]

# They look at all buckets of an owner, so nobody else may make or delete one meanwhile.
ALONE = "list_buckets or buckets_list or buckets_create"

# Groups that are no aim so far, by the suite's markers.
OUT_OF_SCOPE = {
    "encryption", "bucket_encryption", "sse_s3", "bucket_logging", "bucket_logging_cleanup", "cloud_transition",
    "cloud_restore", "target_by_bucket", "sns", "s3select", "abac_test", "test_of_sts", "webidentity_test", "iam_account",
    "iam_cross_account", "iam_role", "iam_tenant", "iam_user", "group", "group_policy", "role_policy", "session_policy",
    "user_policy", "token_claims_trust_policy_test", "token_principal_tag_role_policy_test",
    "token_request_tag_trust_policy_test", "token_resource_tags_test", "token_role_tags_test", "token_tag_keys_test",
}
# Markers that say nothing about what is tested.
NO_GROUPS = {"fails_on_aws", "fails_on_dbstore", "fails_on_dho", "fails_on_mod_proxy_fcgi", "fails_on_rgw", "fails_on_s3"}


def account(section: str, who: dict, keys: tuple[str, str], more: str = "") -> str:
    return (
        f"[{section}]\ndisplay_name = {who['name']}\nuser_id = {who['id']}\nemail = {section.replace(' ', '-')}@example.com\n"
        f"access_key = {keys[0]}\nsecret_key = {keys[1]}\n{more}\n"
    )


def settings(args, owners: dict) -> str:
    """The suite's configuration. Accounts that the server doesn't have stand in for each other: their tests fail."""
    url = urllib.parse.urlsplit(args.endpoint)
    main, alt = (args.access_key, args.secret_key), (args.alt_access_key, args.alt_secret_key)
    tenant = (args.tenant_access_key or alt[0], args.tenant_secret_key or alt[1])
    head = (
        f"[DEFAULT]\nhost = {url.hostname}\nport = {url.port or 80}\nis_secure = False\nssl_verify = False\n\n"
        "[fixtures]\nbucket prefix = cairn-{random}-\niam name prefix = s3-tests-\niam path prefix = /s3-tests/\n\n"
    )
    more = f"api_name = {args.region}\nlc_debug_interval = {args.lifecycle_day}\nkms_keyid = none\n"
    return head + "".join([
        account("s3 main", owners["main"], main, more),
        account("s3 alt", owners["alt"], alt),
        account("s3 tenant", owners["tenant"], tenant, "tenant = tenant\n"),
        account("iam", owners["alt"], alt),
        account("iam root", owners["main"], main),
        account("iam alt root", owners["alt"], alt),
    ])


def stop(why: str):
    """It can't be run."""
    print(why, file=sys.stderr)
    raise SystemExit(2)


WHO = """
import json, sys, boto3
endpoint, region, *keys = sys.argv[1:]
for at in range(0, len(keys), 2):
    s3 = boto3.client("s3", endpoint_url=endpoint, region_name=region, aws_access_key_id=keys[at], aws_secret_access_key=keys[at + 1])
    owner = s3.list_buckets().get("Owner", {})
    print(json.dumps({"id": owner.get("ID") or "unknown", "name": owner.get("DisplayName") or owner.get("ID") or "unknown"}))
"""


def ask_owners(args, python: pathlib.Path) -> dict:
    """What the server calls the owners of the keys: the suite compares it with its configuration."""
    keys = [args.access_key, args.secret_key, args.alt_access_key, args.alt_secret_key]
    keys += [args.tenant_access_key or args.alt_access_key, args.tenant_secret_key or args.alt_secret_key]
    done = subprocess.run(
        [python, "-c", WHO, args.endpoint, args.region, *keys], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        stop(f"the keys don't work at {args.endpoint}: {done.stderr.strip().splitlines()[-1]}")
    return dict(zip(("main", "alt", "tenant"), map(json.loads, done.stdout.splitlines())))


def run_tests(args, bin_dir: pathlib.Path, work: pathlib.Path, jobs: int, chosen: list[str]) -> dict:
    """Runs some of the tests in so many processes; each one's result by its name."""
    results = work / "results.jsonl"
    results.unlink(missing_ok=True)
    paths = [str(args.suite / "s3tests" / "functional" / name) for name in FILES]
    # A process has a prefix of its own for buckets, and deletes those alone.
    spread = ["-n", str(jobs), "--dist", "load"] if jobs > 1 else []
    command = [bin_dir / "python", "-m", "pytest", "-p", "ceph_results", "-p", "no:cacheprovider", "-q", "--no-header"]
    command += ["--tb", "no", "-W", "ignore", "--timeout", str(args.test_seconds), "--rootdir", str(args.suite)]
    env = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    env |= {
        "S3TEST_CONF": str(work / "s3tests.conf"),
        "CEPH_RESULTS": str(results),
        "PYTHONPATH": f"{HERE}{os.pathsep}{args.suite}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    with open(work / "pytest.log", "ab") as log:
        process = subprocess.Popen(
            [*command, *spread, *chosen, *paths], env=env, stdout=log, stderr=log, cwd=args.suite, start_new_session=True
        )
        try:
            process.wait(timeout=args.seconds)
        except subprocess.TimeoutExpired:
            print(f"stopped after {args.seconds} s; what was not run counts as failed", file=sys.stderr)
        finally:
            # Its workers too.
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if not results.exists():
        tail = (work / "pytest.log").read_text(errors="replace").splitlines()[-20:]
        print("\n".join(tail), file=sys.stderr)
        stop(f"no test ran; {work}/pytest.log says why")
    found = {}
    for line in results.read_text().splitlines():
        entry = json.loads(line)
        if "collected" in entry:
            for name, markers in entry["collected"].items():
                found.setdefault(name, {"outcome": "not run", "markers": markers, "why": ""})
        else:
            found[entry["name"]] |= entry
    return found


def show_groups(found: dict) -> None:
    groups = collections.defaultdict(collections.Counter)
    for entry in found.values():
        for group in set(entry["markers"]) - NO_GROUPS or {"(no group)"}:
            groups[group][entry["outcome"]] += 1
    print(f"\n{'group':34} {'passed':>7} {'failed':>7} {'skipped':>8}")
    for group, counts in sorted(groups.items()):
        failed = sum(counts.values()) - counts["passed"] - counts["skipped"]
        note = "  out of scope" if group in OUT_OF_SCOPE else ""
        print(f"{group:34} {counts['passed']:7} {failed:7} {counts['skipped']:8}{note}")


def show_reasons(found: dict, most: int) -> None:
    reasons = collections.Counter(entry["why"] for entry in found.values() if entry["outcome"] == "failed")
    print(f"\nwhy tests fail, the {most} most frequent of {len(reasons)}:")
    for why, count in reasons.most_common(most):
        print(f"{count:5}  {why[:150]}")


def share(part: list, whole: list) -> str:
    return f"{len(part)} of {len(whole)} ({100 * len(part) / max(len(whole), 1):.1f} %)"


def show_bars(found: dict) -> None:
    passed = [name for name, entry in found.items() if entry["outcome"] == "passed"]
    scope = [
        name
        for name, entry in found.items()
        if "fails_on_aws" not in entry["markers"] and not OUT_OF_SCOPE & set(entry["markers"])
    ]
    print(f"\npassed: {share(passed, list(found))}; the bar is 500")
    within = [name for name in scope if found[name]["outcome"] == "passed"]
    print(f"passed of those in scope that AWS passes: {share(within, scope)}; the bar is 90 %")


def compare(found: dict) -> int:
    """Tells what is lost and what is won against the names that are kept."""
    kept = {line for line in EXPECTED.read_text().splitlines() if line and not line.startswith("#")}
    passed = {name for name, entry in found.items() if entry["outcome"] == "passed"}
    for name in sorted(passed - kept):
        print(f"passes now: {name}")
    for name in sorted(kept - passed):
        entry = found.get(name, {"outcome": "gone from the suite", "why": ""})
        print(f"LOST: {name}: {entry['outcome']}: {entry['why'][:200]}")
    print(f"{len(kept & passed)} of {len(kept)} kept tests pass, {len(passed - kept)} more do")
    return 1 if kept - passed else 0


def keep(found: dict) -> None:
    passed = sorted(name for name, entry in found.items() if entry["outcome"] == "passed")
    head = "# Tests of the public Ceph S3 suite (commit 8f0ae7b4) that pass; tests/s3/ceph.py compares and updates.\n"
    EXPECTED.write_text(head + "".join(f"{name}\n" for name in passed))
    print(f"{len(passed)} names are kept in {EXPECTED.name}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    server_arguments(parser)
    for who in ("alt", "tenant"):
        for what in ("access", "secret"):
            parser.add_argument(f"--{who}-{what}-key", default=os.environ.get(f"S3_TESTS_{who}_{what}_KEY".upper()))
    parser.add_argument("--suite", type=pathlib.Path, default=target() / "s3-tests", help="where the suite is")
    parser.add_argument("--jobs", type=int, default=4, help="processes; 1 runs one test after the other")
    parser.add_argument("--seconds", type=int, default=3600, help="for all of it")
    parser.add_argument("--test-seconds", type=int, default=120, help="for one test")
    parser.add_argument("--lifecycle-day", type=int, default=10, help="seconds that the server takes for a day")
    parser.add_argument("--only", help="only tests with this in their names, as pytest's -k has it")
    parser.add_argument("--update", action="store_true", help="keep the names that pass now")
    parser.add_argument("--reasons", type=int, default=25, help="how many reasons of failures to show")
    args = parser.parse_args()
    check_server(parser, args)
    if not (args.alt_access_key and args.alt_secret_key):
        parser.error("name --alt-access-key and --alt-secret-key: the suite asks in the name of two owners")
    args.suite = args.suite.resolve()
    if not (args.suite / "s3tests" / "functional" / FILES[0]).exists():
        parser.error(f"{args.suite} isn't the suite; put a copy of ceph/s3-tests at commit 8f0ae7b4 there")
    return args


def main() -> int:
    args = parse()
    bin_dir = environment("s3-suite", NEEDS + RUNNERS)
    work = target() / "s3-suite-run"
    work.mkdir(parents=True, exist_ok=True)
    (work / "pytest.log").unlink(missing_ok=True)
    config = work / "s3tests.conf"
    config.touch(mode=0o600)
    config.write_text(settings(args, ask_owners(args, bin_dir / "python")))
    if args.only:
        found = run_tests(args, bin_dir, work, args.jobs, ["-k", args.only])
    else:
        found = run_tests(args, bin_dir, work, args.jobs, ["-k", f"not ({ALONE})"])
        found |= run_tests(args, bin_dir, work, 1, ["-k", ALONE])
    (work / "results.json").write_text(json.dumps(found, indent=1, sort_keys=True))
    show_groups(found)
    show_reasons(found, args.reasons)
    counts = collections.Counter(entry["outcome"] for entry in found.values())
    if not args.only:
        show_bars(found)
    ended = 0
    if args.update and not args.only:
        keep(found)
    elif not args.only and EXPECTED.exists():
        ended = compare(found)
    failed = len(found) - counts["passed"] - counts["skipped"]
    print(f"suite: {counts['passed']} passed, {failed} failed, {counts['skipped']} skipped; all of it in {work}/results.json")
    return ended


if __name__ == "__main__":
    sys.exit(main())
