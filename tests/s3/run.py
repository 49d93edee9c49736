#!/usr/bin/env python3
"""Runs real S3 clients against a server and checks what each stores and reads.

    tests/s3/run.py --endpoint http://127.0.0.1:9000 --access-key KEY --secret-key SECRET
    tests/s3/run.py ... -- -k boto3 -x            whatever follows -- goes to pytest

The clients come from PyPI into an environment under the target directory; restic comes from Debian. A client that is
missing fails its tests, unless --allow-missing says otherwise. The `cairn` command is tested too where CAIRN_BIN or
--cairn names it.
"""

import argparse
import hashlib
import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent


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


def check_server(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Complains about what wasn't said."""
    missing = [name for name in ("endpoint", "access_key", "secret_key") if not getattr(args, name)]
    if missing:
        parser.error("name " + ", ".join("--" + name.replace("_", "-") for name in missing))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    server_arguments(parser)
    parser.add_argument("--cairn", default=os.environ.get("CAIRN_BIN"), help="the cairn command to test; or CAIRN_BIN")
    parser.add_argument("--allow-missing", action="store_true", help="skip the tests of clients that aren't there")
    parser.add_argument("pytest", nargs="*", help="handed to pytest")
    args = parser.parse_args()
    check_server(parser, args)
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
