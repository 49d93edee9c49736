"""`cairn demo` as a person runs it: ready, shown, and gone without a trace."""

import os
import pathlib
import signal
import subprocess

from test_cairn import binary  # noqa: F401 (a fixture)


def demo(binary, directory, *words):
    """Starts it; returns the process and what it printed until it was ready."""
    words = [binary, "demo", "--dir", str(directory), *words]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    said = []
    for line in process.stdout:
        said.append(line)
        if line.startswith("Ctrl-C"):
            break
    assert said and said[-1].startswith("Ctrl-C"), process.communicate(timeout=60)
    return process, "".join(said)


def stop(process):
    process.send_signal(signal.SIGINT)
    _, complaints = process.communicate(timeout=60)
    assert process.returncode == 0, complaints
    return complaints


def test_it_is_ready_shows_an_object_and_leaves_nothing(binary, tmp_path):  # noqa: F811
    place = pathlib.Path(os.environ["CAIRN_BIN"]).parent / f"demo-{os.getpid()}"
    place.mkdir()
    try:
        process, said = demo(binary, place)
        assert "S3 endpoint   http://127.0.0.1:" in said and said.count("the same bytes") == 2, said
        assert len(list(place.iterdir())) == 1
        assert stop(process) == ""
        assert list(place.iterdir()) == []
    finally:
        place.rmdir()
