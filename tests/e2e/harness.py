"""What the end-to-end tests share: real daemons on free ports, the real client, and small readers.

Every test makes a Cluster in a temporary folder and leaves no process behind. Waiting is always for
a condition, with one bound that is generous enough for a machine that is busy with other tests.
"""

import csv
import io
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import tempfile
import time
import unittest

BUILD = os.environ.get("SINKFORGE_BUILD_DIR", "build/release")
BIN = os.path.join(os.path.abspath(BUILD), "bin")
MAKE_CERTIFICATES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "deploy",
                                 "tls", "make-certificates.sh")
# A bound against hanging, not an expectation; sanitizers make everything several times slower.
WAIT_SECONDS = 120 * int(os.environ.get("SINKFORGE_PATIENCE", "1"))


def wait_until(condition, what, seconds=WAIT_SECONDS):
    """The first true value of condition(); fails the test when the time is over."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"after {seconds} s still waiting until {what}")
        time.sleep(0.02)


def make_text(path, bytes_wanted, seed=7):
    """English-like text: words of a small vocabulary in random order, fixed by the seed."""
    chance = random.Random(seed)
    syllables = ["ka", "lo", "mi", "ren", "tu", "sha", "vel", "or", "in", "est", "qua", "dem"]
    words = ["".join(chance.choices(syllables, k=chance.randint(1, 3))) for _ in range(400)]
    parts, size = [], 0
    while size < bytes_wanted:
        sentence = " ".join(chance.choices(words, k=chance.randint(4, 12))).capitalize() + ".\n"
        parts.append(sentence)
        size += len(sentence)
    with open(path, "w", encoding="ascii") as file:
        file.write("".join(parts)[:bytes_wanted])


def start_ticks(pid):
    """Start time of a process, or None where it is gone or a zombie."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def children_of(pid, name):
    """Pids of the living children of a process whose program is called so."""
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat", encoding="ascii", errors="replace") as file:
                fields = file.read().rpartition(")")[2].split()
            with open(f"/proc/{entry}/cmdline", "rb") as file:
                program = os.path.basename(file.read().split(b"\0")[0].decode())
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] not in "ZX" and program == name:
            found.append(int(entry))
    return found


class Run:
    """What one call of the client did."""

    def __init__(self, process):
        self.code, self.out, self.err = process.returncode, process.stdout, process.stderr

    def json(self):
        return json.loads(self.out)

    def __str__(self):
        return f"exit code {self.code}\nstdout: {self.out}\nstderr: {self.err}"


class Daemon:
    """A daemon of ours, or another server, with its log in a file."""

    def __init__(self, command, log_path):
        self.log_path = log_path
        with open(log_path, "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=subprocess.STDOUT)

    @property
    def pid(self):
        return self.process.pid

    def alive(self):
        return self.process.poll() is None

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def await_file(self, path):
        def ready():
            if not self.alive():
                raise AssertionError(f"the daemon ended at its start:\n{self.log()}")
            return os.path.exists(path)
        wait_until(ready, f"{path} is there")
        with open(path, encoding="utf-8") as file:
            return json.load(file)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self, seconds=WAIT_SECONDS):
        """SIGTERM; returns the exit status."""
        if self.alive():
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"did not end after SIGTERM:\n{self.log()[-3000:]}") from None


def make_certificates(folder, *names):
    """For hosts or people, by one authority for each folder."""
    subprocess.run([MAKE_CERTIFICATES, folder, *names], check=True, capture_output=True)


def tls_files(folder, name):
    """What Cluster.tls takes."""
    return {"tls-cert": os.path.join(folder, f"{name}.crt"),
            "tls-key": os.path.join(folder, f"{name}.key"),
            "tls-ca": os.path.join(folder, "ca.crt")}


class Cluster:
    """A coordinator and workers in one temporary folder."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="sinkforge-e2e-")
        self.data = os.path.join(self.folder, "data")
        os.mkdir(self.data)
        make_text(os.path.join(self.data, "train.txt"), 60_000)
        make_text(os.path.join(self.data, "validation.txt"), 4_000, seed=8)
        self.coordinator = None
        self.address = None
        self.metrics_address = None
        self.http_address = None
        self.workers = {}
        self.worker_ports = {}
        self.worker_arguments = {}
        # Of a cluster whose workers have hosts of their own: see tests/stress.
        self.coordinator_host = "127.0.0.1"
        self.worker_hosts = {}
        self.worker_prefixes = {}  # words before a worker's command line
        self.tls = {}  # option without "--": file; of daemons and clients

    def path(self, name):
        return os.path.join(self.folder, name)

    def start_coordinator(self):
        """Again at the port of the first start, so that workers find it."""
        ports = self.path("coordinator.json")
        if os.path.exists(ports):
            os.remove(ports)
        self.coordinator = Daemon(
            [os.path.join(BIN, "sinkforge-coordinator"), "--listen",
             self.address or f"{self.coordinator_host}:0", "--insecure-listen",
             "--metrics-listen", "127.0.0.1:0", "--http", self.http_address or "127.0.0.1:0",
             "--data-dir", self.path("coordinator"),
             "--port-file", ports, *self.tls_options()], self.path("coordinator.log"))
        found = self.coordinator.await_file(ports)
        self.address = f"{self.coordinator_host}:{found['port']}"
        self.metrics_address = f"127.0.0.1:{found['metrics_port']}"
        self.http_address = f"127.0.0.1:{found['http_port']}"

    def start_worker(self, name="w", slots=1, more=()):
        ports = self.path(f"{name}.json")
        if os.path.exists(ports):
            os.remove(ports)
        self.worker_arguments[name] = (slots, more)
        daemon = Daemon(
            [*self.worker_prefixes.get(name, ()), os.path.join(BIN, "sinkforge-worker"), "--name",
             name, "--coordinator", self.address, "--data-dir", self.path(name), "--slots",
             str(slots), "--data-root", self.data, "--listen",
             f"{self.worker_hosts.get(name, '127.0.0.1')}:0", "--insecure-listen",
             "--metrics-listen", "127.0.0.1:0", "--port-file", ports, *self.tls_options(),
             *more],
            self.path(f"{name}.log"))
        self.workers[name] = daemon
        self.worker_ports[name] = daemon.await_file(ports)

    def tls_options(self):
        return [word for option, file in self.tls.items() for word in (f"--{option}", file)]

    def restart_worker(self, name="w"):
        slots, more = self.worker_arguments[name]
        self.start_worker(name, slots, more)

    def trainers(self, name="w"):
        return children_of(self.workers[name].pid, "sinkforge-trainer")

    def daemons(self):
        return [*self.workers.values()] + ([self.coordinator] if self.coordinator else [])

    def close(self):
        for daemon in self.daemons():
            daemon.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    # The client.

    def start_client(self, *arguments, stdout=subprocess.PIPE, **more):
        environment = dict(os.environ, SINKFORGE_COORDINATOR=self.address or "127.0.0.1:1",
                           HOME=self.folder, NO_COLOR="1")
        environment.pop("XDG_STATE_HOME", None)
        for option, file in self.tls.items():
            environment["SINKFORGE_" + option.upper().replace("-", "_")] = file
        return subprocess.Popen([os.path.join(BIN, "sinkforge"), *arguments], env=environment,
                                cwd=self.folder, text=True, stdin=subprocess.DEVNULL,
                                stdout=stdout, stderr=subprocess.PIPE, **more)

    def client(self, *arguments):
        process = self.start_client(*arguments)
        process.stdout, process.stderr = process.communicate(timeout=2 * WAIT_SECONDS)
        return Run(process)

    def ok(self, *arguments):
        run = self.client(*arguments)
        if run.code != 0:
            raise AssertionError(f"sinkforge {' '.join(arguments)}: {run}")
        return run

    # Jobs.

    def write_job(self, file="job.yaml", text=None, **settings):
        """A job that trains a tiny model in seconds; keys like train__steps replace its values."""
        values = {
            "name": "tiny", "model": {"layers": 2, "width": 32, "heads": 4, "attention": "gated"},
            "head_balance": {"loss": "cv", "coefficient": 1e-3},
            "data": {"train": ["train.txt"], "validation": ["validation.txt"],
                     "sequence_length": 64},
            "train": {"steps": 60, "batch_tokens": 512, "micro_batch": 8, "seed": 1},
            "evaluation": {"every_steps": 30}, "checkpoint": {"every_steps": 20, "keep": 3},
            "resources": {"threads": 1},
        }
        for key, value in settings.items():
            group, _, name = key.partition("__")
            if name:
                values.setdefault(group, {})[name] = value
            else:
                values[group] = value
        path = self.path(file)
        with open(path, "w", encoding="utf-8") as out:
            # JSON is YAML.
            out.write(text if text is not None else json.dumps(values, indent=1))
        return path

    def submit(self, **settings):
        return self.ok("submit", self.write_job(**settings)).out.strip()

    def job(self, job_id):
        return self.ok("show", job_id, "-o", "json").json()

    def step(self, job_id):
        return int(self.job(job_id).get("progress", {}).get("step", 0))

    def await_step(self, job_id, step):
        wait_until(lambda: self.step(job_id) >= step, f"{job_id} has done {step} steps")

    def submit_and_meet(self, step, worker="w", **settings):
        """A job in the middle of its steps, and its trainer there; another one if it was too soon
        at its end."""
        def met():
            job_id = self.submit(**settings)
            self.await_step(job_id, step)
            trainers = self.trainers(worker)
            runs = self.job(job_id)["state"] == "JOB_STATE_RUNNING"
            return (job_id, trainers[0]) if runs and len(trainers) == 1 else None
        return wait_until(met, f"a job is met after step {step}")

    def await_state(self, job_id, state):
        def reached():
            job = self.job(job_id)
            ended = job["state"] in ("JOB_STATE_SUCCEEDED", "JOB_STATE_FAILED",
                                     "JOB_STATE_CANCELLED")
            if ended and job["state"] != f"JOB_STATE_{state}":
                raise AssertionError(f"{job_id} is {job['state']}: {job['message']}\n" +
                                     self.client("logs", job_id).out[-3000:])
            return job["state"] == f"JOB_STATE_{state}" and job
        return wait_until(reached, f"{job_id} is {state}")

    def events(self, job_id):
        return self.ok("events", job_id, "-o", "json").json()["events"]

    def history(self, job_id, series):
        """{series: [(step, text of the value)]}; the text has every digit."""
        rows = list(csv.reader(io.StringIO(
            self.ok("metrics", job_id, "--series", series, "-o", "csv").out)))
        return {name: [(int(row[0]), row[column]) for row in rows[1:] if row[column] != ""]
                for column, name in enumerate(rows[0]) if column > 0}

    def export(self, job_id, name, *more):
        path = self.path(name)
        self.ok("checkpoints", "export", job_id, path, *more)
        return read_safetensors(path)


def read_safetensors(path):
    """(metadata, {name: (dtype, shape, bytes)}) by the format's rules, each of which is checked."""
    with open(path, "rb") as file:
        content = file.read()
    (size,) = struct.unpack("<Q", content[:8])
    header_bytes = content[8:8 + size]
    assert len(header_bytes) == size and header_bytes[:1] == b"{", "header"

    def no_duplicates(pairs):
        assert len({key for key, _ in pairs}) == len(pairs), "a key is there twice"
        return dict(pairs)

    header = json.loads(header_bytes.decode("utf-8"), object_pairs_hook=no_duplicates)
    metadata = header.pop("__metadata__", {})
    assert all(isinstance(value, str) for value in metadata.values()), "metadata are texts"
    data = content[8 + size:]
    widths = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "BF16": 2, "F16": 2, "U8": 1}
    tensors, expected = {}, 0
    for name, info in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        assert set(info) == {"dtype", "shape", "data_offsets"}, info
        begin, end = info["data_offsets"]
        assert begin == expected, f"{name}: a hole or an overlap before it"
        elements = 1
        for dimension in info["shape"]:
            elements *= dimension
        assert end - begin == elements * widths[info["dtype"]], f"{name}: shape and bytes differ"
        tensors[name] = (info["dtype"], tuple(info["shape"]), data[begin:end])
        expected = end
    assert expected == len(data), "bytes after the last tensor"
    return metadata, tensors


class ClusterTest(unittest.TestCase):
    """A running cluster with one worker for all tests of the class."""

    SLOTS = 1
    WORKER_OPTIONS = ()
    ENCRYPTED = False

    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster()
        cls.addClassCleanup(cls.cluster.close)
        if cls.ENCRYPTED:
            make_certificates(cls.cluster.path("tls"), "127.0.0.1")
            cls.cluster.tls = tls_files(cls.cluster.path("tls"), "127.0.0.1")
        cls.cluster.start_coordinator()
        cls.cluster.start_worker(slots=cls.SLOTS, more=cls.WORKER_OPTIONS)

    def check_history(self, job_id, steps):
        """Every step is there once, in order."""
        loss = self.cluster.history(job_id, "loss")["loss"]
        self.assertEqual([step for step, _ in loss], list(range(1, steps + 1)))
