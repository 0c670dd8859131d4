"""kill -9 of each program in the middle of a run: the result is the same, bit for bit."""

import os
import random
import re
import signal
import unittest

import harness

STEPS = 400
SETTINGS = {"train__steps": STEPS, "train__batch_tokens": 1024, "evaluation__every_steps": 100,
            "checkpoint__every_steps": 25}
SERIES = "loss,aux_loss,imbalance,importance,validation_bits_per_byte"


class FaultTest(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.cluster = harness.Cluster()
        cls.addClassCleanup(cls.cluster.close)
        cls.cluster.start_coordinator()
        cls.cluster.start_worker()
        undisturbed = cls.cluster.submit(name="undisturbed", **SETTINGS)
        cls.cluster.ok("wait", undisturbed)
        cls.history = cls.cluster.history(undisturbed, SERIES)
        _, cls.tensors = cls.cluster.export(undisturbed, "undisturbed.safetensors",
                                            "--with-optimizer")

    def check_equal_to_undisturbed(self, job_id):
        """Losses, importance, weights and optimizer: the very same bits."""
        self.cluster.await_state(job_id, "SUCCEEDED")
        history = self.cluster.history(job_id, SERIES)
        self.assertEqual([step for step, _ in history["loss"]], list(range(1, STEPS + 1)))
        self.assertEqual(set(history), set(self.history))
        for name, points in self.history.items():
            self.assertEqual(history[name], points, name)
        _, tensors = self.cluster.export(job_id, f"{job_id}.safetensors", "--with-optimizer")
        self.assertEqual(set(tensors), set(self.tensors))
        for name, tensor in self.tensors.items():
            self.assertTrue(tensors[name] == tensor, f"{name} differs")

    def test_trainer_is_killed(self):
        job_id, trainer = self.cluster.submit_and_meet(40, name="trainer", **SETTINGS)
        os.kill(trainer, signal.SIGKILL)
        self.check_equal_to_undisturbed(job_id)
        self.assertGreaterEqual(int(self.cluster.job(job_id)["attempt"]), 2)
        kinds = [event["kind"] for event in self.cluster.events(job_id)]
        self.assertIn("EVENT_KIND_RESTORED", kinds)
        self.assertNotIn("EVENT_KIND_NOT_BIT_EXACT", kinds)

    def test_worker_is_killed_and_comes_back(self):
        job_id, trainer = self.cluster.submit_and_meet(40, name="worker", **SETTINGS)
        self.cluster.workers["w"].kill()
        harness.wait_until(lambda: harness.start_ticks(trainer) is None,
                           "the trainer has ended with its worker")
        self.cluster.restart_worker()
        self.check_equal_to_undisturbed(job_id)
        self.assertGreaterEqual(int(self.cluster.job(job_id)["attempt"]), 2)

    def test_coordinator_is_killed_and_the_training_does_not_notice(self):
        job_id, trainer = self.cluster.submit_and_meet(40, name="coordinator", **SETTINGS)
        started = harness.start_ticks(trainer)
        watch = self.cluster.start_client("watch", job_id, "--retry-for", str(harness.WAIT_SECONDS))
        self.addCleanup(watch.wait)
        self.addCleanup(watch.kill)
        self.cluster.coordinator.kill()
        self.cluster.start_coordinator()
        # The one that it was, if it has not done its last step by now.
        self.assertIn(self.cluster.trainers(), ([trainer], []))
        self.assertIn(harness.start_ticks(trainer), (started, None))
        self.check_equal_to_undisturbed(job_id)
        self.assertEqual(self.cluster.job(job_id)["attempt"], "1")
        # The watch that was open all the time came back by itself.
        out, err = watch.communicate(timeout=harness.WAIT_SECONDS)
        self.assertEqual(watch.returncode, 0, err)
        self.assertIn(f"succeeded step={STEPS}/{STEPS}", out)

    def test_coordinator_is_killed_right_after_submit(self):
        job_ids = []
        for number in range(3):
            job_ids.append(self.cluster.submit(name=f"durable-{number}", train__steps=5))
            self.cluster.coordinator.kill()
            self.cluster.start_coordinator()
        for job_id in job_ids:
            self.cluster.await_state(job_id, "SUCCEEDED")

    def test_a_loss_spike_is_rolled_back_and_its_batch_skipped(self):
        self.write_text_with_noise("noise.txt")
        job_id = self.cluster.submit(
            name="spike", data={"train": ["noise.txt"], "validation": ["validation.txt"],
                                "sequence_length": 64},
            train={"steps": 200, "batch_tokens": 64, "micro_batch": 1, "seed": 1,
                   "bad_batches": "skip", "loss_spike": 2}, checkpoint__every_steps=20)
        self.cluster.await_state(job_id, "SUCCEEDED")
        events = self.cluster.events(job_id)
        back = [event for event in events if event["kind"] == "EVENT_KIND_ROLLED_BACK"]
        self.assertTrue(back)
        for event in back:
            self.assertEqual(event["reason"], "REASON_LOSS_SPIKE")
            self.assertIn("more than train.loss_spike", event["message"])
        skipped = self.cluster.job(job_id)["skipped_batches"]
        self.assertEqual(sorted(event["message"].rpartition(" ")[2] for event in back),
                         sorted(skipped))
        # Each went on from the last checkpoint, and not from the beginning.
        restored = [event["step"] for event in events if event["kind"] == "EVENT_KIND_RESTORED"]
        self.assertTrue(restored)
        self.assertEqual(restored, [event["step"] for event in back if int(event.get("step", 0))])
        losses = dict(self.cluster.history(job_id, "loss")["loss"])
        self.assertEqual(sorted(losses), list(range(1, 201)))
        for event in back:
            found = re.search(r"step (\d+): the loss of ([0-9.]+)", event["message"])
            self.assertLess(float(losses[int(found[1])]), float(found[2]))

    def write_text_with_noise(self, name):
        """Text in which a few rows are of bytes that are nowhere else."""
        path = os.path.join(self.cluster.data, name)
        harness.make_text(path, 20_000)
        chance = random.Random(3)
        with open(path, "r+b") as file:
            for offset in (3000, 8000, 13000, 18000):
                file.seek(offset)
                file.write(bytes(chance.randrange(128, 256) for _ in range(192)))


if __name__ == "__main__":
    unittest.main()
