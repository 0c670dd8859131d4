"""A gRPC client in Python that knows of the daemons only what their reflection says."""

import unittest

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

import harness


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
