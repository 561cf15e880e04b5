"""What the tests share: the embedded model, the program, and a few pictures."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

import aquatint

QUICK = dict(num_inference_steps=2, width=64, height=64)
"""Settings with which the embedded model takes a tenth of a second."""

QUICK_FLAGS = ["--steps", "2", "-W", "64", "-H", "64"]


@pytest.fixture(scope="session")
def pipe() -> aquatint.Pipeline:
    return aquatint.Pipeline()


@pytest.fixture
def program(tmp_path: pathlib.Path):
    """Runs the command line program in a folder of its own; `AQUATINT_PROGRAM` names another one."""
    other = os.environ.get("AQUATINT_PROGRAM")
    command = [other] if other else [sys.executable, "-m", "aquatint"]

    def run(*arguments: str, code: int = 0, **environment: str) -> str:
        done = subprocess.run(
            [*command, *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env={**os.environ, **environment},
        )
        assert done.returncode == code, done.stderr
        return done.stdout

    return run


@pytest.fixture
def script(tmp_path: pathlib.Path):
    """Starts Python with a program text of its own."""

    def start(text: str, *, isolated: bool = False) -> subprocess.Popen[str]:
        command = [sys.executable, *(["-S"] if isolated else []), "-c", text]
        return subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    return start


def gradient(width: int = 64, height: int = 64) -> bytes:
    """The bytes of a picture, row by row."""
    return bytes(
        value for y in range(height) for x in range(width) for value in (3 * x % 256, 3 * y % 256, 100)
    )
