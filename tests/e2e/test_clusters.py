"""A coordinator that knows nothing of what a worker has, because it is another one or was started
on an empty folder, takes nothing away from it."""

import os
import unittest

import harness

REFUSED = "the coordinator refuses this worker"


class ClustersTest(harness.ClusterTest):

    SLOTS = 2

    def start_other_coordinator(self, address):
        """On an empty folder; it is gone at the end of the test."""
        folder = self.cluster.path(f"other-{self.id().rpartition('.')[2]}")
        ports = folder + ".json"
        other = harness.Daemon(
            [os.path.join(harness.BIN, "sinkforge-coordinator"), "--listen", address,
             "--metrics-listen", "127.0.0.1:0", "--data-dir", folder, "--port-file", ports],
            folder + ".log")
        self.addCleanup(other.kill)
        return other, f"127.0.0.1:{other.await_file(ports)['port']}"

    def make_jobs(self):
        """One that has ended, and one that runs, with its trainer and its steps so far."""
        ended = self.cluster.submit(name="ended")
        self.cluster.ok("wait", ended)
        running, trainer = self.cluster.submit_and_meet(
            25, name="running", train__steps=100_000, checkpoint__every_steps=20)
        self.addCleanup(self.cluster.ok, "cancel", running)
        return ended, running, trainer

    def check_all_is_there(self, ended, running):
        await_worker(self.cluster, "w")
        verified = self.cluster.ok("checkpoints", "verify", ended)
        self.assertIn("3 of 3 copies are good", verified.err)
        self.cluster.ok("checkpoints", "verify", running)
        step = self.cluster.step(running)
        self.cluster.await_step(running, step + 40)
        loss = self.cluster.history(running, "loss")["loss"]
        self.assertEqual([at for at, _ in loss], list(range(1, len(loss) + 1)))

    def test_an_empty_folder_in_the_place_of_the_coordinators(self):
        ended, running, trainer = self.make_jobs()
        self.cluster.coordinator.kill()
        worker = self.cluster.workers["w"]
        harness.wait_until(lambda: "the coordinator is away" in worker.log(), "it is missed")
        other, _ = self.start_other_coordinator(self.cluster.address)
        harness.wait_until(lambda: REFUSED in worker.log(), "the worker says that it is refused")
        harness.wait_until(lambda: "is refused" in other.log(), "the coordinator says so too")
        self.assertEqual(self.cluster.trainers(), [trainer])
        other.kill()
        self.cluster.start_coordinator()
        self.check_all_is_there(ended, running)
        self.assertEqual(self.cluster.trainers(), [trainer])
        self.assertEqual(self.cluster.job(running)["attempt"], "1")

    def test_a_worker_at_another_coordinator(self):
        ended, running, _ = self.make_jobs()
        other, address = self.start_other_coordinator("127.0.0.1:0")
        self.cluster.workers["w"].kill()
        slots, more = self.cluster.worker_arguments["w"]
        ours, self.cluster.address = self.cluster.address, address
        before = self.cluster.workers["w"].log().count(REFUSED)
        self.cluster.start_worker("w", slots, more)
        lost = self.cluster.workers["w"]
        harness.wait_until(lambda: lost.log().count(REFUSED) > before, "the worker is refused")
        self.assertIn("cluster-id", lost.log())
        self.assertEqual(self.cluster.ok("workers", "-o", "json").json().get("workers", []), [])
        self.cluster.address = ours
        lost.kill()
        self.cluster.restart_worker()
        self.check_all_is_there(ended, running)
        # It can be given away, with what it has.
        self.cluster.start_worker("given")
        await_worker(self.cluster, "given")
        self.cluster.workers["given"].stop()
        os.remove(os.path.join(self.cluster.path("given"), "cluster-id"))
        self.cluster.address = address
        self.cluster.start_worker("given")
        await_worker(self.cluster, "given")
        self.cluster.address = ours
        self.assertTrue(other.alive())


def await_worker(cluster, name):
    def is_there():
        workers = cluster.ok("workers", "-o", "json").json().get("workers", [])
        return any(worker["worker"] == name and worker["state"] == "WORKER_STATE_LIVE"
                   for worker in workers)
    harness.wait_until(is_there, f"worker {name} is there")


if __name__ == "__main__":
    unittest.main()
