"""A fleet whose traffic is encrypted: everything works as without, and nobody else is let in."""

import os
import signal
import time
import unittest
import urllib.request

import grpc

import harness

HOST = "127.0.0.1"


def read(path):
    with open(path, "rb") as file:
        return file.read()


class TlsTest(unittest.TestCase):

    def setUp(self):
        self.cluster = harness.Cluster()
        self.addCleanup(self.cluster.close)
        self.ours = self.cluster.path("ours")
        harness.make_certificates(self.ours, HOST, "alice")
        self.cluster.tls = harness.tls_files(self.ours, HOST)
        self.cluster.start_coordinator()

    def workers(self):
        return [worker["worker"] for worker in
                self.cluster.ok("workers", "-o", "json").json().get("workers", [])]

    def await_copies(self, job_id):
        def copied():
            return all(len(checkpoint.get("copies", [])) == 1
                       for checkpoint in self.cluster.job(job_id)["checkpoints"]
                       if not checkpoint.get("deleting"))
        harness.wait_until(copied, f"every checkpoint of {job_id} is on two workers")

    def test_a_job_trains_is_copied_and_goes_on_elsewhere(self):
        self.cluster.start_worker("a")
        job_id, trainer = self.cluster.submit_and_meet(
            25, "a", train__steps=100_000, checkpoint__every_steps=20)
        os.kill(trainer, signal.SIGSTOP)  # no checkpoint that only this worker has
        self.cluster.start_worker("b")
        self.await_copies(job_id)
        self.cluster.workers["a"].kill()
        harness.wait_until(lambda: harness.start_ticks(trainer) is None, "the trainer has ended")
        # The other one has a copy, which came by such a connection.
        harness.wait_until(lambda: self.cluster.trainers("b"), "it goes on at the other worker")
        self.cluster.await_step(job_id, self.cluster.step(job_id) + 40)
        kinds = [event["kind"] for event in self.cluster.events(job_id)]
        self.assertIn("EVENT_KIND_RESTORED", kinds)
        self.cluster.restart_worker("a")
        self.cluster.ok("pause", job_id)
        self.cluster.await_state(job_id, "PAUSED")
        self.await_copies(job_id)
        # The client reads from the workers themselves.
        self.cluster.ok("checkpoints", "verify", job_id)
        _, tensors = self.cluster.export(job_id, "model.safetensors")
        self.assertIn("lm_head.weight", tensors)
        self.assertIn("is serving",
                      self.cluster.ok("health", self.cluster.worker_ports["b"]["address"]).out)

    def test_others_are_not_let_in(self):
        self.cluster.start_worker("a")
        theirs = self.cluster.path("theirs")
        harness.make_certificates(theirs, HOST)
        # One that believes ours, and is not believed.
        both = self.cluster.path("both.crt")
        with open(both, "wb") as file:
            file.write(read(os.path.join(theirs, "ca.crt"))
                       + read(os.path.join(self.ours, "ca.crt")))
        stranger = harness.tls_files(theirs, HOST)
        for tls, hint in (({}, "it may ask for certificates"),
                          (stranger, "or --tls-ca has not signed it"),
                          (dict(stranger, **{"tls-ca": both}), "it may not believe --tls-cert")):
            self.cluster.tls = tls
            for command in (("list",), ("health", self.cluster.worker_ports["a"]["address"])):
                run = self.cluster.client(*command, "--retry-for", "1")
                self.assertEqual(run.code, 4, str(run))
                self.assertIn(hint, run.err)
                self.assertEqual(run.err.count("\n"), 1, run.err)
            self.cluster.start_worker("stranger")
            log = self.cluster.workers["stranger"].log
            harness.wait_until(lambda: hint in log(), "it says why the coordinator is away")
            self.cluster.workers["stranger"].kill()
        # Someone with a certificate that names no host may still call.
        self.cluster.tls = harness.tls_files(self.ours, "alice")
        options = self.cluster.tls_options()
        self.assertEqual(self.workers(), ["a"])
        self.cluster.tls = {}
        self.cluster.ok("list", *options)

    def test_python_needs_a_certificate_too(self):
        ours = self.cluster.tls
        authority = read(ours["tls-ca"])
        pair = (read(ours["tls-key"]), read(ours["tls-cert"]))

        def call(channel):
            with channel:
                method = channel.unary_unary("/sinkforge.v1.JobService/ListJobs")
                return method(b"", timeout=harness.WAIT_SECONDS, wait_for_ready=False)

        options = [("grpc.enable_http_proxy", 0)]
        address = self.cluster.address
        call(grpc.secure_channel(address, grpc.ssl_channel_credentials(authority, *pair), options))
        for channel in (
                grpc.secure_channel(address, grpc.ssl_channel_credentials(authority), options),
                grpc.insecure_channel(address, options)):
            with self.assertRaises(grpc.RpcError) as refused:
                call(channel)
            self.assertEqual(refused.exception.code(), grpc.StatusCode.UNAVAILABLE)

    def test_new_certificates_count_without_a_restart(self):
        """Mounted as the kubelet does it: links through a folder's link, which is exchanged."""
        mounted = self.cluster.path("mounted")
        os.mkdir(mounted)
        data = os.path.join(mounted, "..data")
        os.symlink(self.ours, data)
        names = {option: os.path.basename(file) for option, file in self.cluster.tls.items()}
        for name in names.values():
            os.symlink(os.path.join("..data", name), os.path.join(mounted, name))
        self.cluster.tls = {option: os.path.join(mounted, name) for option, name in names.items()}
        self.cluster.coordinator.kill()
        self.cluster.start_coordinator()
        self.cluster.start_worker("a")
        job_id, trainer = self.cluster.submit_and_meet(5, "a", train__steps=100_000)
        # Of another authority, so that nothing that is old would be believed.
        theirs = self.cluster.path("theirs")
        harness.make_certificates(theirs, HOST)
        os.symlink(theirs, data + ".new")
        os.replace(data + ".new", data)
        harness.wait_until(lambda: self.cluster.client("list", "--retry-for", "1").code == 0,
                           "the coordinator shows its new certificate")
        old = [f"--{option}={file}" for option, file in harness.tls_files(self.ours, HOST).items()]
        self.assertEqual(self.cluster.client("list", "--retry-for", "1", *old).code, 4)
        # The worker's connections are made anew, and nothing else is.
        self.cluster.coordinator.kill()
        self.cluster.start_coordinator()
        step = self.cluster.step(job_id)
        self.cluster.await_step(job_id, step + 20)
        self.assertEqual(self.cluster.trainers("a"), [trainer])

    def test_one_certificate_may_serve_every_pod_of_a_service(self):
        names = self.cluster.path("names")
        domain = "sinkforge-worker.sinkforge.svc.cluster.local"
        harness.make_certificates(names, f"{HOST},worker,*.{domain}")
        self.cluster.tls = harness.tls_files(names, HOST)
        self.cluster.start_worker("a")
        address = self.cluster.worker_ports["a"]["address"]
        self.cluster.ok("health", address)
        credentials = grpc.ssl_channel_credentials(
            *(read(self.cluster.tls[each]) for each in ("tls-ca", "tls-key", "tls-cert")))
        for called, is_believed in ((f"sinkforge-worker-12.{domain}", True), ("worker", True),
                                    (f"a.b.{domain}", False), (domain, False), ("other", False)):
            options = [("grpc.ssl_target_name_override", called), ("grpc.enable_http_proxy", 0)]
            with grpc.secure_channel(address, credentials, options) as channel:
                check = channel.unary_unary("/grpc.health.v1.Health/Check")
                try:
                    answer = check(b"", timeout=harness.WAIT_SECONDS, wait_for_ready=False)
                except grpc.RpcError as error:
                    answer = error.code()
            self.assertEqual(answer, b"\x08\x01" if is_believed else grpc.StatusCode.UNAVAILABLE,
                             called)

    def test_a_daemon_says_that_its_certificate_has_become_wrong(self):
        """It stays in its place; what is new is not let in until the files are right."""
        self.cluster.start_worker("a")
        good = read(self.cluster.tls["tls-cert"])
        log = self.cluster.workers["a"].log
        with open(self.cluster.tls["tls-cert"], "w", encoding="utf-8") as file:
            file.write("no certificate\n")
        error = f"--tls-cert {self.cluster.tls['tls-cert']}: "
        harness.wait_until(lambda: "until the certificate's files are right" in log()
                           and error in log(), "the file is named")
        with open(self.cluster.tls["tls-cert"], "wb") as file:
            file.write(good)
        harness.wait_until(lambda: "the certificate's files are right again" in log(),
                           "it has seen the right ones")
        harness.wait_until(lambda: self.cluster.client("list", "--retry-for", "1").code == 0,
                           "all is as before")
        for address in (self.cluster.metrics_address,
                        self.cluster.worker_ports["a"]["metrics_address"]):
            with urllib.request.urlopen(f"http://{address}/metrics") as answer:
                lines = answer.read().decode().splitlines()
            (expires,) = [int(line.split()[1]) for line in lines if line.startswith(
                "sinkforge_tls_certificate_expiry_timestamp_seconds ")]
            self.assertAlmostEqual(expires - time.time(), 365 * 86400, delta=86400)

    def test_a_worker_is_named_by_its_certificate(self):
        harness.make_certificates(self.ours, "elsewhere.example")
        self.cluster.tls = harness.tls_files(self.ours, "elsewhere.example")
        with self.assertRaisesRegex(AssertionError, f"does not name the host {HOST} "):
            self.cluster.start_worker("a")

    def test_a_wrong_file_is_named_at_the_start(self):
        another = harness.tls_files(self.ours, "alice")["tls-key"]
        wrong = dict(self.cluster.tls, **{"tls-key": another})
        self.cluster.tls = wrong
        self.cluster.coordinator.kill()
        for start in (self.cluster.start_coordinator, self.cluster.start_worker):
            with self.assertRaisesRegex(AssertionError, f"--tls-key {wrong['tls-key']}: "):
                start()
        run = self.cluster.client("list")
        self.assertEqual(run.code, 2)
        self.assertIn(f"--tls-key {wrong['tls-key']}: ", run.err)
        # What needs no daemon needs no certificate.
        self.cluster.ok("version")


if __name__ == "__main__":
    unittest.main()
