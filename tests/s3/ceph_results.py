"""A plugin of pytest that writes each test's result and markers as a line of JSON. Used by ceph.py alone."""

import json
import os

import pytest

PHASES = {}


def name_of(nodeid: str) -> str:
    """As `test_s3.py::test_bucket_list_empty`."""
    return nodeid.rsplit("/", 1)[-1]


def write(entry: dict) -> None:
    with open(os.environ["CEPH_RESULTS"], "a", encoding="utf-8") as out:
        out.write(json.dumps(entry) + "\n")


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session):
    """What is to be run: a test that kills its process is in no report. Written by the first worker, or the only process."""
    worker = getattr(session.config, "workerinput", {}).get("workerid", "gw0")
    if worker != "gw0" or not session.items:
        return
    markers = lambda item: sorted({mark.name for mark in item.iter_markers()} - {"parametrize", "skipif", "skip"})
    write({"collected": {name_of(item.nodeid): markers(item) for item in session.items}})


def reason(report) -> str:
    """The last line of an error, which says what it is."""
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash else str(report.longrepr or "")
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[0].strip() if lines else ""


def pytest_runtest_logreport(report):
    """Good is what is good from its preparation to its cleaning up. With workers, the first process hears of all."""
    if os.environ.get("PYTEST_XDIST_WORKER"):
        return
    name = name_of(report.nodeid)
    seen = PHASES.setdefault(name, {"name": name, "outcome": "passed", "why": ""})
    if report.outcome == "failed" or report.outcome == "skipped" and seen["outcome"] == "passed":
        first = seen["outcome"] != "failed"
        seen["outcome"] = report.outcome
        if first:
            phase = "" if report.when == "call" else f"{report.when}: "
            seen["why"] = phase + reason(report)
    if report.when == "teardown":
        write(PHASES.pop(name))
