"""Many clients at once, and a server that is killed: nothing that was accepted is lost or mixed up.

    load.py PROGRAM [--clients 20] [--requests 200] [--kills 10]

Load: every client asks for pictures of its own seeds, each is compared with the same seed drawn once before, while another
client asks for `progress` and measures how long the answers take, and the server's memory is read.

Kills: jobs are queued while the server is killed (SIGKILL) at random moments and started again. In the end every accepted
job must be done, with the picture of its seed.
"""

import argparse
import base64
import http.client
import json
import os
import random
import signal
import subprocess
import tempfile
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SEEDS = 10
REQUEST = {"prompt": "a fox", "width": 64, "height": 64, "steps": 2, "cfg_scale": 3}


class Server:
    """A server process on a folder."""

    def __init__(self, program, folder, port=0):
        self.log = open(Path(folder) / "log", "ab")
        command = [program, "serve", "--port", str(port), "--output-dir", f"{folder}/output", "--max-queue", "100000"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, text=True)
        self.address = self.process.stdout.readline().strip().rstrip("/")
        assert self.address, "the server does not start; see its log"

    def ask(self, path, body=None, method=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data, {"content-type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=600) as answer:
            content = answer.read()
            return json.loads(content) if answer.headers["content-type"].startswith("application/json") else content

    def memory(self):
        """Megabytes that are resident."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def kill(self, sign=signal.SIGKILL):
        self.process.send_signal(sign)
        return self.process.wait()


def pictures(server):
    """The bytes of each seed's picture."""
    found = {}
    for seed in range(SEEDS):
        answer = server.ask("/sdapi/v1/txt2img", {**REQUEST, "seed": seed})
        found[seed] = answer["images"][0]
    return found


def load(program, clients, requests):
    with tempfile.TemporaryDirectory() as folder:
        server = Server(program, folder)
        expected = pictures(server)
        waits, memory, over = [], [], threading.Event()

        def watch():
            while not over.is_set():
                start = time.monotonic()
                server.ask("/sdapi/v1/progress")
                waits.append(time.monotonic() - start)
                memory.append(server.memory())
                time.sleep(0.05)

        watcher = threading.Thread(target=watch)
        watcher.start()

        def one(number):
            seed = number % SEEDS
            answer = server.ask("/sdapi/v1/txt2img", {**REQUEST, "seed": seed})
            assert answer["images"] == [expected[seed]], f"request {number} has the picture of another"

        start = time.monotonic()
        with ThreadPoolExecutor(clients) as pool:
            list(pool.map(one, range(requests)))
        seconds = time.monotonic() - start
        over.set()
        watcher.join()
        waits.sort()
        p99 = 1000 * waits[int(0.99 * (len(waits) - 1))]
        half = len(memory) // 2
        grown = max(memory[half:]) - max(memory[:half])
        print(f"{requests} requests of {clients} clients in {seconds:.1f} s, none lost or mixed up; progress p99 {p99:.1f} ms", flush=True)
        print(f"memory {max(memory):.0f} MB, in the second half {grown:+.0f} MB")
        assert grown < 50, "memory grows"
        assert server.kill(signal.SIGTERM) == 0


def kills(program, count):
    with tempfile.TemporaryDirectory() as folder:
        server = Server(program, folder)
        expected = pictures(server)
        choose = random.Random(7)
        accepted = {}
        for _ in range(count):
            over = threading.Event()

            def queue():
                while not over.is_set():
                    seed = choose.randrange(SEEDS)
                    try:
                        request = {**REQUEST, "seed": seed, "prompt_syntax": "a1111"}
                        job = server.ask("/api/jobs", {"kind": "txt2img", "request": request})
                        accepted[job["id"]] = seed
                    except (OSError, http.client.HTTPException):  # it was killed meanwhile; nothing was promised
                        return
                    time.sleep(0.02)

            writer = threading.Thread(target=queue)
            writer.start()
            time.sleep(choose.uniform(0.05, 1.5))
            server.kill()
            over.set()
            writer.join()
            server = Server(program, folder)
        for job_id, seed in accepted.items():
            while (job := server.ask(f"/api/jobs/{job_id}"))["state"] in ("queued", "running"):
                time.sleep(0.1)
            assert job["state"] == "done", job
            found = base64.b64encode(server.ask(job["images"][0]["url"])).decode()
            assert found == expected[seed], f"job {job_id} has the picture of another"
        parts = [name for name in os.listdir(f"{folder}/output") if name.endswith(".part")]
        print(f"{count} times killed: {len(accepted)} accepted jobs, all done; {len(parts)} unfinished files left")
        assert server.kill(signal.SIGTERM) == 0


arguments = argparse.ArgumentParser()
arguments.add_argument("program")
arguments.add_argument("--clients", type=int, default=20)
arguments.add_argument("--requests", type=int, default=200)
arguments.add_argument("--kills", type=int, default=10)
options = arguments.parse_args()
load(options.program, options.clients, options.requests)
kills(options.program, options.kills)
