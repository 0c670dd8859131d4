"""One job on two workers: the ranks meet, train as one, and a lost rank takes nothing with it."""

import os
import re
import shutil
import signal
import unittest

import harness

STEPS = 200
SETTINGS = {"train__steps": STEPS, "train__batch_tokens": 1024, "checkpoint__every_steps": 25}
GANG = {**SETTINGS, "resources__ranks": 2}
SERIES = "loss,aux_loss,imbalance,importance"


class RanksTest(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.cluster = harness.Cluster()
        cls.addClassCleanup(cls.cluster.close)
        cls.cluster.start_coordinator()
        for name in ("a", "b"):
            # Beside the folder that both have, one as on a machine of its own.
            os.mkdir(cls.cluster.path(f"data-{name}"))
            cls.cluster.start_worker(name, more=("--data-root", cls.cluster.path(f"data-{name}")))
        cls.gang = cls.cluster.submit(name="gang", **GANG)
        cls.cluster.ok("wait", cls.gang)
        cls.history = cls.cluster.history(cls.gang, SERIES)

    def test_two_ranks_train_as_one(self):
        alone = self.cluster.submit(name="alone", **SETTINGS)
        self.cluster.ok("wait", alone)
        history = self.cluster.history(alone, SERIES)
        self.assertEqual([step for step, _ in self.history["loss"]], list(range(1, STEPS + 1)))
        # Equal to rounding at first; 1e-7 of difference grows with the steps.
        for name, limit in (("loss", 1e-5), ("imbalance", 1e-4)):
            for (step, ours), (_, theirs) in list(zip(self.history[name], history[name]))[:20]:
                self.assertLess(abs(float(ours) - float(theirs)), limit, f"{name} at step {step}")

    def test_both_workers_hold_a_part_of_every_checkpoint(self):
        for checkpoint in self.cluster.job(self.gang)["checkpoints"]:
            self.assertEqual([part["worker"] for part in checkpoint["parts"]], ["a", "b"])
        _, tensors = self.cluster.export(self.gang, "gang.safetensors")
        self.assertIn("lm_head.weight", tensors)

    def test_a_killed_rank_ends_the_attempt_and_the_next_goes_on_with_the_same_bits(self):
        job_id, trainer = self.cluster.submit_and_meet(40, "b", name="killed", **GANG)
        os.kill(trainer, signal.SIGKILL)
        self.cluster.await_state(job_id, "SUCCEEDED")
        self.assertGreaterEqual(int(self.cluster.job(job_id)["attempt"]), 2)
        history = self.cluster.history(job_id, SERIES)
        for name, points in self.history.items():
            self.assertEqual(history[name], points, name)

    def test_machines_with_different_data_are_named_and_the_advice_helps(self):
        train = self.cluster.path("data-a/own.txt"), self.cluster.path("data-b/own.txt")
        harness.make_text(train[0], 60_000)
        harness.make_text(train[1], 50_000, seed=9)
        job_id = self.cluster.submit(name="own", **{**GANG, "data__train": ["own.txt"],
                                                    "train__steps": 20})
        job = self.cluster.await_state(job_id, "FAILED")
        self.assertEqual(job["reason"], "REASON_BAD_DATA")
        self.assertEqual(int(job["attempt"]), 1)
        numbers = r"[56]0000 bytes, fingerprint [0-9a-f]{16}"
        self.assertRegex(
            job["message"], r"^rank \d on [ab]: data\.train: its files are not the same on all "
            rf"ranks' machines \(rank \d: own\.txt, {numbers}; rank \d: {numbers}\); copy them "
            r"from one machine to the others\. Correct the data, then "
            rf"`sinkforge resume {job_id}`$")
        self.assertEqual(self.cluster.history(job_id, "loss")["loss"], [])
        shutil.copy(*train)
        self.cluster.ok("resume", job_id)
        self.cluster.await_state(job_id, "SUCCEEDED")

    def test_an_automatic_micro_batch_outlives_its_ranks(self):
        settings = {**GANG, "train__micro_batch": "auto"}
        job_id, trainer = self.cluster.submit_and_meet(40, "a", name="auto", **settings)
        rows = self.cluster.job(job_id)["progress"]["micro_batch"]
        os.kill(trainer, signal.SIGKILL)
        self.cluster.await_state(job_id, "SUCCEEDED")
        job = self.cluster.job(job_id)
        self.assertGreaterEqual(int(job["attempt"]), 2)
        self.assertEqual(job["progress"]["micro_batch"], rows)
        self.assertIn(f"auto: {rows} rows", self.cluster.ok("show", job_id).out)
        given = self.cluster.submit(name="given", **{**settings, "train__micro_batch": rows})
        self.cluster.ok("wait", given)
        self.assertEqual(self.cluster.history(job_id, SERIES), self.cluster.history(given, SERIES))
        # A line of each rank of each attempt.
        told = [line for line in self.cluster.ok("logs", job_id).out.splitlines()
                if "train.micro_batch: auto is" in line]
        self.assertGreaterEqual(len(told), 4)
        for line in told:
            self.assertIn(f"auto is {rows} rows", line)


class SlotsTest(harness.ClusterTest):
    """One worker with two slots, of which each has half of the machine's memory."""

    SLOTS = 2

    def shares(self, job_id):
        """Bytes that each rank had for itself, by its own words."""
        units = {"MiB": 2 ** 20, "GiB": 2 ** 30}
        found = re.findall(r"auto is \d+ rows?[^:]*: a rank takes [0-9.]+ .iB "
                           r"of the ([0-9.]+) (.iB) that are (?:its slot's|there for it)",
                           self.cluster.ok("logs", job_id).out)
        return [float(number) * units[unit] for number, unit in found]

    def test_automatic_micro_batches_take_half_of_the_machine_each(self):
        settings = {"train__steps": 20, "train__micro_batch": "auto"}
        jobs = [self.cluster.submit(name=name, **settings) for name in ("left", "right")]
        jobs.append(self.cluster.submit(name="both", resources__ranks=2, **settings))
        with open("/proc/meminfo", encoding="ascii") as file:
            half = int(re.search(r"MemTotal: +(\d+) kB", file.read()).group(1)) * 1024 / 2
        for job_id, ranks in zip(jobs, (1, 1, 2)):
            self.cluster.ok("wait", job_id)
            self.assertRegex(self.cluster.ok("show", job_id).out, r"auto: \d+ rows")
            shares = self.shares(job_id)
            self.assertEqual(len(shares), ranks)
            for share in shares:
                self.assertLess(share, half)


if __name__ == "__main__":
    unittest.main()
