#!/usr/bin/env python3
"""Disturbs a whole cluster at random and then checks that nothing came of it.

Jobs run undisturbed first. Then the same jobs run, round after round, while every kind of process
is killed with SIGKILL or stopped and continued, while disks fill up, and, for root on a machine
with network namespaces, while a worker's link to all others is cut. What fails because of a full
disk or a long row of faults is resumed, as its user would do. At the end of each round:

  * every job has ended as it should,
  * every curve is the undisturbed one's, bit for bit,
  * no acknowledged job or finished step is missing.

  tests/stress/stress.py --seconds 600 --workers 4 --jobs 6 --namespaces --full-disks
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))

import harness  # noqa: E402  (found by the line above)

SERIES = "loss,aux_loss,imbalance,importance"
STOP_SECONDS_MAX = 8  # longer than a lease, so that some stops are losses and some are not
DISK_MEGABYTES = 64
ASK_SECONDS = 2  # between two looks at the jobs
RESUMED = {"REASON_CHECKPOINT_FAILED", "REASON_RETRIES_EXHAUSTED"}


def run(*command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


class Network:
    """A bridge, and a namespace for each worker whose cable can be pulled."""

    def __init__(self):
        self.tag = f"sf{os.getpid() % 10000}"
        self.prefix = f"10.{200 + os.getpid() % 50}.{os.getpid() // 50 % 250}"
        self.namespaces = []

    def start(self):
        run("ip", "link", "add", self.tag, "type", "bridge")
        run("ip", "addr", "add", f"{self.prefix}.1/24", "dev", self.tag)
        run("ip", "link", "set", self.tag, "up")

    def add(self):
        """(address, words that run a command there) of a new namespace."""
        number = len(self.namespaces) + 2
        name, cable = f"{self.tag}-{number}", f"{self.tag}v{number}"
        address = f"{self.prefix}.{number}"
        run("ip", "netns", "add", name)
        self.namespaces.append(name)
        run("ip", "link", "add", cable, "type", "veth", "peer", "name", "inside", "netns", name)
        run("ip", "link", "set", cable, "master", self.tag, "up")
        run("ip", "-n", name, "addr", "add", f"{address}/24", "dev", "inside")
        run("ip", "-n", name, "link", "set", "inside", "up")
        run("ip", "-n", name, "link", "set", "lo", "up")
        return address, ("ip", "netns", "exec", name)

    def cable(self, index, state):
        run("ip", "link", "set", f"{self.tag}v{index + 2}", state)

    def close(self):
        for name in self.namespaces:
            subprocess.run(["ip", "netns", "del", name], check=False)
        subprocess.run(["ip", "link", "del", self.tag], check=False)


class Stress:
    """The cluster, the jobs and the disturbances."""

    def __init__(self, options):
        self.options = options
        self.chance = random.Random(options.seed)
        self.cluster = harness.Cluster()
        self.network = Network() if options.namespaces else None
        self.mounts = []
        self.pending = []  # (when, what to do) to undo disturbances
        self.stopped = set()  # pids
        self.counts = {}
        self.resumed = 0

    # The cluster.

    def start(self):
        if self.network:
            self.network.start()
            self.cluster.coordinator_host = f"{self.network.prefix}.1"
        self.cluster.start_coordinator()
        for index in range(self.options.workers):
            name = f"w{index}"
            if self.options.full_disks and index % 2 == 0:
                folder = self.cluster.path(name)
                os.mkdir(folder)
                run("mount", "-t", "tmpfs", "-o", f"size={DISK_MEGABYTES}m", "stress", folder)
                self.mounts.append(folder)
            more = ("--no-progress", "60s", "--disk-reserve", "1MB")
            if self.network:
                address, prefix = self.network.add()
                self.cluster.worker_hosts[name] = address
                self.cluster.worker_prefixes[name] = prefix
            self.cluster.start_worker(name, slots=2, more=more)

    def close(self):
        for daemon in self.cluster.daemons():
            daemon.kill()
        if self.options.keep:
            os.makedirs(self.options.keep, exist_ok=True)
            run("cp", "-a", f"{self.cluster.folder}/.", self.options.keep)
        for folder in self.mounts:
            subprocess.run(["umount", folder], check=False)
        self.cluster.close()
        if self.network:
            self.network.close()

    def submit(self, index, name):
        ranks = 2 if index % 3 == 2 else 1
        variant = ("vanilla", "sink", "gated")[index % 3]
        return self.cluster.submit(
            name=f"{name}-{index}", file=f"{name}-{index}.yaml", train__steps=self.options.steps,
            train__batch_tokens=1024, train__seed=index + 1, model__attention=variant,
            checkpoint__every_steps=25, evaluation__every_steps=100, resources__ranks=ranks)

    # Disturbances: each does one thing and says how it is undone.

    def later(self, seconds, action):
        self.pending.append((time.monotonic() + seconds, action))

    def undo(self, all_of_it=False):
        now = time.monotonic()
        due = [action for when, action in self.pending if all_of_it or when <= now]
        self.pending = [] if all_of_it else [one for one in self.pending if one[0] > now]
        for action in due:
            action()

    def any_worker(self):
        alive = sorted(name for name, worker in self.cluster.workers.items() if worker.alive())
        return self.chance.choice(alive) if alive else None

    def any_trainer(self):
        name = self.any_worker()
        pids = sorted(self.cluster.trainers(name)) if name else []
        return self.chance.choice(pids) if pids else None

    @staticmethod
    def send(pid, number):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass

    def kill_trainer(self):
        pid = self.any_trainer()
        if pid:
            self.send(pid, signal.SIGKILL)
        return pid

    def stop_for_a_while(self, pid):
        self.send(pid, signal.SIGSTOP)
        self.stopped.add(pid)

        def go_on():
            self.send(pid, signal.SIGCONT)
            self.stopped.discard(pid)
        self.later(self.chance.uniform(0.2, STOP_SECONDS_MAX), go_on)
        return True

    def stop_trainer(self):
        pid = self.any_trainer()
        return pid and self.stop_for_a_while(pid)

    def stop_worker(self):
        name = self.any_worker()
        return name and self.stop_for_a_while(self.cluster.workers[name].pid)

    def stop_coordinator(self):
        return (self.cluster.coordinator.alive() and
                self.stop_for_a_while(self.cluster.coordinator.pid))

    def kill_worker(self):
        name = self.any_worker()
        if name:
            self.cluster.workers[name].kill()
            self.later(self.chance.uniform(0.1, STOP_SECONDS_MAX),
                       lambda: self.bring_back(name))
        return name

    def bring_back(self, name):
        # A daemon does not start on a full disk, and says so; whoever starts it makes room first.
        ballast = os.path.join(self.cluster.path(name), "ballast")
        if os.path.exists(ballast):
            os.remove(ballast)
        self.cluster.restart_worker(name)

    def kill_coordinator(self):
        if not self.cluster.coordinator.alive():
            return False
        self.cluster.coordinator.kill()
        self.later(self.chance.uniform(0.1, 3), self.cluster.start_coordinator)
        return True

    def fill_disk(self):
        folder = self.chance.choice(self.mounts) if self.mounts else None
        if not folder:
            return False
        path = os.path.join(folder, "ballast")
        try:
            with open(path, "wb") as file:
                while True:
                    file.write(bytes(1 << 20))
        except OSError:
            pass  # it is full now

        def empty():
            if os.path.exists(path):
                os.remove(path)
        self.later(self.chance.uniform(0.5, 4), empty)
        return True

    def cut_link(self):
        if not self.network:
            return False
        index = self.chance.randrange(self.options.workers)
        self.network.cable(index, "down")
        self.later(self.chance.uniform(0.5, STOP_SECONDS_MAX),
                   lambda: self.network.cable(index, "up"))
        return True

    def disturb(self):
        kinds = [self.kill_trainer, self.kill_trainer, self.stop_trainer, self.stop_worker,
                 self.kill_worker, self.kill_coordinator, self.stop_coordinator, self.fill_disk,
                 self.cut_link]
        kind = self.chance.choice(kinds)
        if kind():
            self.counts[kind.__name__] = self.counts.get(kind.__name__, 0) + 1

    # The whole.

    def unfinished(self, job_ids):
        """Those that have not succeeded yet. Resumes what may fail."""
        listed = self.cluster.ok("list", "-o", "json").json()["jobs"]
        jobs = {job["job_id"]: job for job in listed}
        left = set()
        for job_id in job_ids:
            job = jobs[job_id]
            if job["state"] == "JOB_STATE_SUCCEEDED":
                continue
            left.add(job_id)
            if job["state"] == "JOB_STATE_FAILED":
                assert job["reason"] in RESUMED, f"{job_id}: {job['reason']}: {job['message']}"
                self.resumed += 1
                self.cluster.ok("resume", job_id)
        return left

    def coordinator_answers(self):
        coordinator = self.cluster.coordinator
        return coordinator.alive() and coordinator.pid not in self.stopped

    def disturb_until_done(self, job_ids, end):
        """Until every job has succeeded or the time is over; how many disturbances there were."""
        disturbances, left, next_look = 0, set(job_ids), 0.0
        while left and time.monotonic() < end:
            time.sleep(self.chance.uniform(0.1, self.options.pause))
            self.undo()
            self.disturb()
            disturbances += 1
            if self.coordinator_answers() and time.monotonic() >= next_look:
                left = self.unfinished(job_ids)
                next_look = time.monotonic() + ASK_SECONDS
        self.undo(all_of_it=True)
        return disturbances

    def check(self, expected, job_ids):
        for index, job_id in enumerate(job_ids):
            assert self.cluster.job(job_id)["state"] == "JOB_STATE_SUCCEEDED", job_id
            # A worker that was away when its job ended may have steps left to hand over.
            harness.wait_until(
                lambda job_id=job_id: len(self.cluster.history(job_id, "loss")["loss"]) >=
                self.options.steps, f"every step of {job_id} is known")
            history = self.cluster.history(job_id, SERIES)
            for name, points in expected[index].items():
                differing = [pair for pair in zip(history[name], points) if pair[0] != pair[1]]
                assert history[name] == points, (
                    f"{job_id}: {name} is not the undisturbed curve: {len(history[name])} points "
                    f"for {len(points)}, {len(differing)} differ, the first {differing[:1]}; "
                    f"{self.cluster.ok('show', job_id, '-o', 'json').out}")

    def run(self):
        self.start()
        quiet = [self.submit(index, "quiet") for index in range(self.options.jobs)]
        harness.wait_until(lambda: not self.unfinished(quiet), "every quiet job has succeeded",
                           seconds=self.options.patience)
        expected = [self.cluster.history(job_id, SERIES) for job_id in quiet]
        print(f"{len(quiet)} undisturbed jobs done", flush=True)
        rounds, disturbances = 0, 0
        end = time.monotonic() + self.options.seconds
        while time.monotonic() < end or rounds == 0:
            rounds += 1
            began = time.monotonic()
            job_ids = [self.submit(index, f"round{rounds}") for index in range(self.options.jobs)]
            disturbances += self.disturb_until_done(job_ids, end)
            seconds = time.monotonic() - began
            harness.wait_until(lambda ids=job_ids: not self.unfinished(ids),
                               "every job has succeeded", seconds=self.options.patience)
            self.check(expected, job_ids)
            attempts = sum(int(self.cluster.job(job_id)["attempt"]) for job_id in job_ids)
            print(f"round {rounds}: disturbed for {seconds:.0f} s, {attempts} attempts", flush=True)
            # Room for the next one: the disks are small.
            for job_id in job_ids:
                self.cluster.ok("delete", job_id)
        print(f"seed {self.options.seed}: {rounds} rounds of {self.options.jobs} jobs, "
              f"{disturbances} disturbances {self.counts}, {self.resumed} jobs resumed: every job "
              "succeeded with the undisturbed curve", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600, help="how long to disturb")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--jobs", type=int, default=6)
    parser.add_argument("--steps", type=int, default=400, help="of each job")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--pause", type=float, default=2.0, help="seconds between two, at most")
    parser.add_argument("--patience", type=float, default=900, help="seconds for a job's end")
    parser.add_argument("--keep", metavar="FOLDER", help="logs and databases are copied there")
    parser.add_argument("--namespaces", action="store_true", help="cut links; needs root")
    parser.add_argument("--full-disks", action="store_true", help="fill disks; needs root")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    stress = Stress(options)
    try:
        stress.run()
    finally:
        stress.close()


if __name__ == "__main__":
    main()
