"""Other programs as clients: Prometheus, promtool, and a gRPC client in Python by reflection."""

import json
import socket
import subprocess
import unittest
import urllib.error
import urllib.parse
import urllib.request

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

import harness

LONG = {"train__steps": 100_000, "evaluation__every_steps": 0, "checkpoint__every_steps": 0}


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def fetch(url):
    """The body, or None while nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return response.read().decode()
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return None


class PrometheusTest(harness.ClusterTest):

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.job_id = cls.cluster.submit(name="observed", **LONG)
        cls.cluster.await_step(cls.job_id, 5)
        cls.targets = {"coordinator": cls.cluster.metrics_address,
                       "worker": cls.cluster.worker_ports["w"]["metrics_address"]}

    def start_prometheus(self):
        configuration = {"global": {"scrape_interval": "500ms", "scrape_timeout": "500ms"},
                         "scrape_configs": [{"job_name": name,
                                             "static_configs": [{"targets": [target]}]}
                                            for name, target in self.targets.items()]}
        path = self.cluster.path("prometheus.yml")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(configuration, file)
        port = free_port()
        daemon = harness.Daemon(
            ["prometheus", f"--config.file={path}", f"--web.listen-address=127.0.0.1:{port}",
             f"--storage.tsdb.path={self.cluster.path('prometheus')}"],
            self.cluster.path("prometheus.log"))
        self.addCleanup(daemon.kill)
        harness.wait_until(lambda: fetch(f"http://127.0.0.1:{port}/-/ready"),
                           "Prometheus is ready")
        return f"http://127.0.0.1:{port}"

    def query(self, server, expression):
        answer = fetch(f"{server}/api/v1/query?query={urllib.parse.quote(expression)}")
        return json.loads(answer)["data"]["result"] if answer else []

    def test_prometheus_scrapes_both_and_knows_the_imbalance(self):
        server = self.start_prometheus()
        harness.wait_until(lambda: len(self.query(server, "up == 1")) == 2, "both targets are up")
        (series,) = harness.wait_until(
            lambda: self.query(server, "sinkforge_job_imbalance_ratio"), "the imbalance is there")
        self.assertEqual(series["metric"]["sinkforge_job"], self.job_id)
        self.assertEqual(series["metric"]["sinkforge_namespace"], "default")
        self.assertGreaterEqual(float(series["value"][1]), 0)
        layers = harness.wait_until(lambda: self.query(server, "sinkforge_job_layer_cv_ratio"),
                                    "the layers are there")
        self.assertEqual(sorted(s["metric"]["layer"] for s in layers), ["0", "1"])
        self.assertEqual(self.query(server, "sinkforge_job_importance_ratio"), [],
                         "one series a head only where it is asked for")
        (jobs,) = self.query(server, 'sinkforge_jobs{state="running"}')
        self.assertEqual(jobs["value"][1], "1")

    def test_promtool_finds_nothing_to_complain_about(self):
        for name, target in self.targets.items():
            page = fetch(f"http://{target}/metrics")
            self.assertTrue(page, name)
            check = subprocess.run(["promtool", "check", "metrics"], input=page, text=True,
                                   capture_output=True, check=False)
            self.assertEqual((check.returncode, check.stdout + check.stderr), (0, ""), name)


# The part of grpc.reflection.v1alpha that is needed to ask for a service's files.
REFLECTION = descriptor_pb2.FileDescriptorProto(
    name="reflection_of_the_test.proto", package="grpc.reflection.v1alpha", syntax="proto3",
    message_type=[
        {"name": "ServerReflectionRequest", "field": [
            {"name": "file_containing_symbol", "number": 4, "type": 9, "label": 1},
            {"name": "list_services", "number": 7, "type": 9, "label": 1}]},
        {"name": "FileDescriptorResponse", "field": [
            {"name": "file_descriptor_proto", "number": 1, "type": 12, "label": 3}]},
        {"name": "ServiceResponse", "field": [
            {"name": "name", "number": 1, "type": 9, "label": 1}]},
        {"name": "ListServiceResponse", "field": [
            {"name": "service", "number": 1, "type": 11, "label": 3,
             "type_name": ".grpc.reflection.v1alpha.ServiceResponse"}]},
        {"name": "ServerReflectionResponse", "field": [
            {"name": "file_descriptor_response", "number": 4, "type": 11, "label": 1,
             "type_name": ".grpc.reflection.v1alpha.FileDescriptorResponse"},
            {"name": "list_services_response", "number": 6, "type": 11, "label": 1,
             "type_name": ".grpc.reflection.v1alpha.ListServiceResponse"}]},
    ])


class ReflectionClient:
    """Calls a server of which nothing is known but its address."""

    def __init__(self, address):
        self.channel = grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)])
        own = descriptor_pool.DescriptorPool()
        own.Add(REFLECTION)
        self.request = self.prototype(own, "grpc.reflection.v1alpha.ServerReflectionRequest")
        self.response = self.prototype(own, "grpc.reflection.v1alpha.ServerReflectionResponse")
        self.pool = descriptor_pool.DescriptorPool()
        self.known = set()

    @staticmethod
    def prototype(pool, name):
        return message_factory.MessageFactory(pool).GetPrototype(pool.FindMessageTypeByName(name))

    def ask(self, **request):
        call = self.channel.stream_stream(
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            request_serializer=self.request.SerializeToString,
            response_deserializer=self.response.FromString)
        return next(iter(call(iter([self.request(**request)]), timeout=30)))

    def services(self):
        answer = self.ask(list_services="*")
        return [service.name for service in answer.list_services_response.service]

    def learn(self, service):
        files = {}
        answer = self.ask(file_containing_symbol=service)
        for content in answer.file_descriptor_response.file_descriptor_proto:
            file = descriptor_pb2.FileDescriptorProto.FromString(content)
            files[file.name] = file

        def add(name):
            if name in self.known:
                return
            self.known.add(name)
            for needed in files[name].dependency:
                add(needed)
            self.pool.Add(files[name])
        for name in files:
            add(name)

    def call(self, service, method, **request):
        description = self.pool.FindServiceByName(service).FindMethodByName(method)
        request_type = self.prototype(self.pool, description.input_type.full_name)
        response_type = self.prototype(self.pool, description.output_type.full_name)
        unary = self.channel.unary_unary(f"/{service}/{method}",
                                         request_serializer=request_type.SerializeToString,
                                         response_deserializer=response_type.FromString)
        return unary(request_type(**request), timeout=30)


class ReflectionTest(harness.ClusterTest):

    def setUp(self):
        self.client = ReflectionClient(self.cluster.address)
        self.addCleanup(self.client.channel.close)
        self.client.learn("sinkforge.v1.JobService")

    def test_a_client_in_python_lists_the_jobs(self):
        job_id = self.cluster.submit(train__steps=5)
        self.cluster.ok("wait", job_id)
        services = self.client.services()
        for service in ("sinkforge.v1.JobService", "sinkforge.v1.WorkerService",
                        "grpc.health.v1.Health"):
            self.assertIn(service, services)
        listed = self.client.call("sinkforge.v1.JobService", "ListJobs", page_size=10)
        (job,) = [job for job in listed.jobs if job.job_id == job_id]
        self.assertEqual(job.progress.step, 5)
        self.assertEqual(job.spec.model.width, 32)

    def test_the_coordinator_checks_what_our_client_would_not_send(self):
        with self.assertRaises(grpc.RpcError) as caught:
            self.client.call("sinkforge.v1.JobService", "SubmitJob", request_id="x" * 32,
                             spec={"name": "a", "model": {"width": -5, "heads": 1 << 30},
                                   "train": {"steps": 5}, "data": {"train": ["a.txt"]}})
        self.assertEqual(caught.exception.code(), grpc.StatusCode.INVALID_ARGUMENT)
        self.assertIn("model", caught.exception.details())
        for request in ({"job_id": "a" * 100_000}, {"job_id": "\0"}, {}):
            with self.assertRaises(grpc.RpcError) as caught:
                self.client.call("sinkforge.v1.JobService", "GetJob", **request)
            self.assertEqual(caught.exception.code(), grpc.StatusCode.NOT_FOUND)
        self.assertTrue(self.cluster.coordinator.alive())

    def test_the_worker_has_health_and_reflection_too(self):
        worker = ReflectionClient(self.cluster.worker_ports["w"]["address"])
        self.addCleanup(worker.channel.close)
        self.assertIn("sinkforge.v1.CheckpointService", worker.services())
        self.assertIn("grpc.health.v1.Health", worker.services())


if __name__ == "__main__":
    unittest.main()
