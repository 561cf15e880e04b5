"""What concerns the process: Python's lock, signals, threads, forks, memory, missing packages."""

from __future__ import annotations

import os
import signal
import sys
import threading

import pytest
from conftest import QUICK

import aquatint


def test_other_threads_of_python_run_while_a_picture_is_made(pipe):
    counted, done = 0, threading.Event()

    def count():
        nonlocal counted
        while not done.is_set():
            counted += 1

    thread = threading.Thread(target=count)
    thread.start()
    before = counted
    pipe("a fox", seed=1, num_inference_steps=1)
    during = counted - before
    done.set()
    thread.join()
    assert during > 10_000  # holding the lock would leave it a turn or two of 5 ms


def test_threads_share_a_pipeline(pipe):
    expected = [pipe("a fox", seed=seed, **QUICK).pictures[0].encode() for seed in range(3)]
    found: dict[int, bytes] = {}

    def make(seed: int) -> None:
        found[seed] = pipe("a fox", seed=seed, **QUICK).pictures[0].encode()

    threads = [threading.Thread(target=make, args=(seed,)) for seed in range(3)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert [found[seed] for seed in range(3)] == expected


def test_ctrl_c_ends_a_run_after_its_step(script):
    process = script(
        "import signal, aquatint\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it\n"
        "def show(pipe, step, timestep, kwargs):\n"
        "    print(step, flush=True)\n"
        "aquatint.Pipeline()('a fox', num_inference_steps=1000, callback_on_step_end=show)\n"
    )
    assert process.stdout is not None and process.stdout.readline() == "0\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert "KeyboardInterrupt" in err and process.returncode != 0
    assert out.count("\n") < 900


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_fork_without_threads_says_so(script):
    process = script(
        "import os, aquatint\n"
        "aquatint.get_num_threads()\n"
        "if os.fork() == 0:\n"
        "    try:\n"
        "        aquatint.Pipeline()\n"
        "    except aquatint.RunError as error:\n"
        "        print(error, flush=True)\n"
        "    os._exit(0)\n"
        "os.wait()\n"
    )
    out, err = process.communicate(timeout=120)
    assert "was forked from" in out and "spawn" in out, err


def test_the_number_of_threads_is_chosen_before_the_first_model(script):
    process = script(
        "import aquatint\n"
        "aquatint.set_num_threads(3)\n"
        "assert aquatint.get_num_threads() == 3\n"
        "aquatint.set_num_threads(3)\n"
        "try:\n"
        "    aquatint.set_num_threads(2)\n"
        "except aquatint.RequestError as error:\n"
        "    print(error)\n"
    )
    out, err = process.communicate(timeout=120)
    assert "3 threads compute already" in out, err


def test_it_works_without_numpy_and_pillow(script):
    process = script(
        "import sys\n"
        "sys.modules.update(dict.fromkeys(('numpy', 'PIL')))  # importing them fails\n"
        "import aquatint\n"
        "from aquatint import kernels, samplers\n"
        "out = aquatint.Pipeline()('a fox', seed=1, num_inference_steps=1, width=64, height=64)\n"
        "image = out.images[0]\n"
        "assert isinstance(image, memoryview) and image.shape == (64, 64, 3) and image.format == 'B'\n"
        "again = aquatint.Pipeline()('a fox', seed=1, num_inference_steps=2, image=image)\n"
        "assert again.images[0].shape == (64, 64, 3)\n"
        "x = kernels.nearest([[[[1.0], [2.0]]]])\n"
        "assert x.tolist() == [[[[1.0], [1.0], [2.0], [2.0]], [[1.0], [1.0], [2.0], [2.0]]]]\n"
        "assert kernels.softmax(memoryview(bytes(8)).cast('f', shape=(1, 2))).tolist() == [[0.5, 0.5]]\n"
        "assert len(samplers.sigmas('karras', 3)) == 4\n"
        "try:\n"
        "    kernels.nearest([[[[1.0], [2.0, 3.0]]]])\n"
        "except aquatint.RequestError as error:\n"
        "    assert 'rectangle' in str(error)\n"
        "print('done')\n"
    )
    out, err = process.communicate(timeout=120)
    assert out == "done\n", err


def resident() -> int:
    """Bytes of memory that this process holds."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks Linux for the memory")
def test_pictures_leave_no_memory_behind(pipe):
    """`AQUATINT_PICTURES=1000` makes as many; a picture that stayed would be 12 KB, its latents 1 KB."""
    count = int(os.environ.get("AQUATINT_PICTURES", "60"))

    def make(pictures: int) -> None:
        for seed in range(pictures):
            out = pipe("a fox", seed=seed, num_inference_steps=1, width=64, height=64)
            out.pictures[0].encode()

    make(20)
    before = resident()
    make(count)
    assert resident() - before < 4 << 20


def test_the_program_is_inside(program):
    assert program("--version").startswith("aquatint ")
    assert "DPM++ 2M" in program("samplers")
    program("a fox", "--steps", "0", code=2)
    program("-m", "nothing-here", "a fox", code=3)


def test_the_version_is_that_of_the_program(program):
    assert program("--version").split()[1] == aquatint.__version__
