#!/usr/bin/env python3
"""Runs real S3 clients against a server and checks what each stores and reads.

    tests/s3/run.py --node target/release/cairn      a node of its own, in a temporary directory
    tests/s3/run.py --endpoint http://127.0.0.1:9000 --access-key KEY --secret-key SECRET
    tests/s3/run.py ... -- -k boto3 -x            whatever follows -- goes to pytest

The clients come from PyPI into an environment under the target directory; restic comes from Debian. A client that is
missing fails its tests, unless --allow-missing says otherwise. The `cairn` command is tested too where CAIRN_BIN or
--cairn names it.
"""

import argparse
import contextlib
import hashlib
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent

# Below it the hosts of a node of our own are buckets. Nobody looks it up: the tests say where to connect.
DOMAIN = "s3.test"


def target() -> pathlib.Path:
    """Where cargo builds, and where this keeps what it installs."""
    return pathlib.Path(os.environ.get("CARGO_TARGET_DIR", HERE.parent.parent / "target"))


def environment(name: str, requirements: list[str]) -> pathlib.Path:
    """A virtual environment that has these packages; made once, then used again. Returns its bin directory."""
    wanted = hashlib.sha256("\n".join(requirements).encode()).hexdigest()
    home = target() / name
    stamp = home / "installed"
    if not stamp.exists() or stamp.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        pip = [str(home / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run(pip + requirements, check=True)
        stamp.write_text(wanted)
    return home / "bin"


def lines(path: pathlib.Path) -> list[str]:
    """The packages that a requirements file names."""
    named = (line.split("#")[0].strip() for line in path.read_text().splitlines())
    return [line for line in named if line]


def server_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that name a server, with the environment as their defaults."""
    get = os.environ.get
    parser.add_argument("--endpoint", default=get("CAIRN_ENDPOINT"), help="as http://host:9000; or CAIRN_ENDPOINT")
    parser.add_argument("--access-key", default=get("AWS_ACCESS_KEY_ID"), help="or AWS_ACCESS_KEY_ID")
    parser.add_argument("--secret-key", default=get("AWS_SECRET_ACCESS_KEY"), help="or AWS_SECRET_ACCESS_KEY")
    parser.add_argument("--region", default=get("AWS_REGION", "us-east-1"), help="or AWS_REGION")


@contextlib.contextmanager
def own_node(cairn: pathlib.Path):
    """A node with one disk in a directory that is removed at the end: its endpoint and keys. It must stop in order."""
    with tempfile.TemporaryDirectory(dir=target(), prefix="s3-node-") as home:
        made = subprocess.run([cairn, "init", "--json", f"{home}/disk"], stdout=subprocess.PIPE, check=True)
        key = json.loads(made.stdout)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        log = pathlib.Path(home, "log")
        words = [cairn, "serve", "--data", f"{home}/disk", "--listen-s3", f"127.0.0.1:{port}", "--listen-management", "off",
                 "--listen-rpc", "off", "--s3-domains", DOMAIN]
        with log.open("wb") as out, subprocess.Popen(words, stderr=out) as process:
            try:
                wait_for(port, process, log)
                yield f"http://127.0.0.1:{port}", key["access"], key["secret"]
            finally:
                process.terminate()
                code = process.wait(timeout=120)
        said = log.read_text(errors="replace")
        if code != 0 or "panic" in said:
            sys.exit(f"the node ended with exit code {code}; it said:\n{said[-4000:]}")


def wait_for(port: int, process: subprocess.Popen, log: pathlib.Path) -> None:
    """Waits until something answers there."""
    for _ in range(600):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        if process.poll() is not None:
            break
        time.sleep(0.1)
    sys.exit(f"the node doesn't answer; it said:\n{log.read_text(errors='replace')[-4000:]}")


def check_server(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Complains about what wasn't said."""
    missing = [name for name in ("endpoint", "access_key", "secret_key") if not getattr(args, name)]
    if missing:
        parser.error("name " + ", ".join("--" + name.replace("_", "-") for name in missing))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    server_arguments(parser)
    parser.add_argument("--node", help="the cairn command: a node of its own is started and tested, and the command, too")
    parser.add_argument("--cairn", default=os.environ.get("CAIRN_BIN"), help="the cairn command to test; or CAIRN_BIN")
    parser.add_argument("--allow-missing", action="store_true", help="skip the tests of clients that aren't there")
    parser.add_argument("pytest", nargs="*", help="handed to pytest")
    args = parser.parse_args()
    if not args.node:
        check_server(parser, args)
        return run(args)
    args.cairn = args.node
    os.environ["S3_TESTS_DOMAIN"] = DOMAIN
    with own_node(pathlib.Path(args.node).resolve()) as (args.endpoint, args.access_key, args.secret_key):
        return run(args)


def run(args: argparse.Namespace) -> int:
    """Runs the tests."""
    bin_dir = environment("s3-clients", lines(HERE / "requirements.txt"))
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "RCLONE_", "RESTIC_"))},
        "PATH": f"{bin_dir}{os.pathsep}{os.environ['PATH']}",
        "CAIRN_ENDPOINT": args.endpoint,
        "AWS_ACCESS_KEY_ID": args.access_key,
        "AWS_SECRET_ACCESS_KEY": args.secret_key,
        "AWS_REGION": args.region,
        "AWS_DEFAULT_REGION": args.region,
        "AWS_EC2_METADATA_DISABLED": "true",
        "S3_TESTS_ALLOW_MISSING": "1" if args.allow_missing else "",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    if args.cairn:
        env["CAIRN_BIN"] = str(pathlib.Path(args.cairn).resolve())
    command = [str(bin_dir / "python"), "-m", "pytest", "-p", "no:cacheprovider", "--timeout", "300"]
    command += ["-o", "tmp_path_retention_policy=none", str(HERE)]
    return subprocess.run(command + args.pytest, env=env, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
