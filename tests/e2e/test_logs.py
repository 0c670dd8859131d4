"""The daemons' own logs: JSON that follows one submission through coordinator, worker, trainer."""

import json
import os
import signal
import unittest

import harness


def lines_of(text, trace):
    """The JSON lines that belong to the trace."""
    parsed = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    return [line for line in parsed if line.get("trace_id") == trace]


class LogsTest(harness.ClusterTest):

    def setUp(self):
        self.trace = os.urandom(16).hex()

    def submit(self, **settings):
        os.environ["TRACEPARENT"] = f"00-{self.trace}-00f067aa0ba902b7-01"
        self.addCleanup(os.environ.pop, "TRACEPARENT", None)
        return self.cluster.submit(**settings)

    def lines(self, component, job_id=None):
        if component == "trainer":
            printed = self.cluster.ok("logs", job_id, "-o", "json").out.splitlines()
            return lines_of("\n".join(json.loads(line)["text"] for line in printed), self.trace)
        daemon = (self.cluster.coordinator if component == "coordinator"
                  else self.cluster.workers["w"])
        return lines_of(daemon.log(), self.trace)

    def test_a_trace_id_follows_a_submission_to_the_trainer_and_back(self):
        job_id = self.submit(train__steps=40)
        self.cluster.ok("wait", job_id)
        self.assertEqual(self.cluster.job(job_id)["trace_id"], self.trace)
        coordinator = self.lines("coordinator")

        def said_by(component, message, job_id=None):
            """Its lines, once it has said so: they come a moment after the job's end."""
            return harness.wait_until(
                lambda: any(line["message"] == message for line in self.lines(component, job_id))
                and self.lines(component, job_id), f"{component} has said '{message}'")
        worker = said_by("worker", "trainer ended")
        trainer = said_by("trainer", "the rank ended", job_id)
        for component, lines in (("coordinator", coordinator), ("worker", worker),
                                 ("trainer", trainer)):
            self.assertTrue(lines, component)
            for line in lines:
                self.assertEqual((line["component"], line["job"]), (component, job_id))
                self.assertEqual(sorted(set(line) & {"time", "severity", "message"}),
                                 ["message", "severity", "time"])
        told = [line["message"] for line in coordinator]
        self.assertEqual(told[0], "job: submitted")
        self.assertLess(told.index("job: attempt started"), told.index("job: attempt ended"))
        for line in worker + trainer:
            self.assertEqual((line["attempt"], line["rank"], line["worker"]), (1, 0, "w"))
        self.assertEqual([line["message"] for line in trainer if line["message"] != "progress"],
                         ["the rank starts", "the rank ended"])
        steps = [line["step"] for line in trainer if line["message"] == "progress"]
        self.assertEqual(steps, list(range(1, 41)))
        placed = [line for line in coordinator if line["message"].startswith("job: attempt")]
        self.assertEqual([(line["rank"], line["worker"]) for line in placed], [(0, "w")] * 2)

    def test_every_line_of_daemons_and_trainers_is_json(self):
        job_id = self.submit(train__steps=20)
        self.cluster.ok("wait", job_id)
        for daemon in (self.cluster.coordinator, self.cluster.workers["w"]):
            for line in daemon.log().splitlines():
                self.assertIn("severity", json.loads(line))
        printed = harness.wait_until(
            lambda: (lines := self.cluster.ok("logs", job_id, "--raw").out.splitlines())
            and "the rank ended" in lines[-1] and lines, "its last line has come")
        self.assertGreater(len(printed), 20)
        for line in printed:
            found = json.loads(line)
            self.assertEqual([found[key] for key in ("job", "attempt", "rank", "worker")],
                             [job_id, 1, 0, "w"])

    def test_the_coordinator_tells_of_workers_that_come_and_are_lost(self):
        def told():
            lines = [json.loads(line) for line in self.cluster.coordinator.log().splitlines()]
            return [(line["message"], line["severity"]) for line in lines
                    if line.get("worker") == "fleeting"]
        self.cluster.start_worker("fleeting")
        harness.wait_until(told, "the coordinator has told of the worker")
        self.cluster.workers["fleeting"].kill()
        harness.wait_until(lambda: len(told()) == 2, "the coordinator has told of its loss")
        self.assertEqual(told(), [("worker: joined", "INFO"), ("worker: lost", "WARNING")])

    def test_a_crash_is_told_in_words(self):
        job_id = self.submit(train__steps=100_000)
        self.addCleanup(self.cluster.ok, "cancel", job_id)  # others want its slot
        self.cluster.await_step(job_id, 3)
        (trainer,) = self.cluster.trainers()
        os.kill(trainer, signal.SIGILL)  # a sanitizer would catch SIGSEGV
        ended = harness.wait_until(
            lambda: [event for event in self.cluster.events(job_id)
                     if event["kind"] == "EVENT_KIND_ATTEMPT_ENDED"], "the attempt has ended")
        self.assertIn("killed by signal 4", ended[0]["message"])
        self.assertNotIn('{"', ended[0]["message"])

    def test_a_submission_without_a_trace_gets_one_of_its_own(self):
        job_id = self.cluster.submit(train__steps=3)
        trace = self.cluster.job(job_id)["trace_id"]
        self.assertRegex(trace, "^[0-9a-f]{32}$")
        self.cluster.ok("wait", job_id)
        self.assertTrue(lines_of(self.cluster.coordinator.log(), trace))

    def test_why_a_rank_failed_is_in_all_three(self):
        job_id = self.submit(name="broken", data__train=["nothing.txt"])
        self.assertEqual(self.cluster.client("wait", job_id).code, 10)
        for component in ("coordinator", "worker", "trainer"):
            harness.wait_until(
                lambda name=component: "nothing.txt" in json.dumps(self.lines(name, job_id)),
                f"{component} has said why")


if __name__ == "__main__":
    unittest.main()
