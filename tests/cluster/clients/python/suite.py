"""What programs do with the Python client, against a control plane of the test's own.

KUBECONFIG says where it is. Every test has a namespace of its own.
"""

import time
import unittest

from kubernetes import client, config, utils, watch
from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic import DynamicClient
from kubernetes.dynamic.exceptions import ConflictError, NotFoundError

DEADLINE_SECONDS = 60


def eventually(what, condition):
    """The first true answer of the condition."""
    until = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < until:
        if answer := condition():
            return answer
        time.sleep(0.05)
    raise AssertionError(f"not in time: {what}")


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        config.load_kube_config()
        cls.core = client.CoreV1Api()
        cls.apps = client.AppsV1Api()
        cls.batch = client.BatchV1Api()

    def setUp(self):
        metadata = client.V1ObjectMeta(generate_name="case-")
        created = self.core.create_namespace(client.V1Namespace(metadata=metadata))
        self.namespace = created.metadata.name
        self.addCleanup(self.core.delete_namespace, self.namespace)

    def refused(self, code, reason, call, *args, **kwargs):
        with self.assertRaises(ApiException) as raised:
            call(*args, **kwargs)
        self.assertEqual(raised.exception.status, code)
        self.assertIn(f'"reason":"{reason}"', raised.exception.body)

    def map(self, name, **data):
        metadata = client.V1ObjectMeta(name=name, labels={"of": "python"})
        return client.V1ConfigMap(metadata=metadata, data=data)


class Objects(Case):
    def test_are_made_read_changed_and_deleted(self):
        created = self.core.create_namespaced_config_map(self.namespace, self.map("a", key="1"))
        self.assertIsNotNone(created.metadata.creation_timestamp.tzinfo)
        self.refused(409, "AlreadyExists", self.core.create_namespaced_config_map,
                     self.namespace, self.map("a"))
        self.refused(404, "NotFound", self.core.read_namespaced_config_map, "b", self.namespace)

        created.data["more"] = "2"
        replaced = self.core.replace_namespaced_config_map("a", self.namespace, created)
        self.assertEqual(replaced.data, {"key": "1", "more": "2"})
        self.refused(409, "Conflict", self.core.replace_namespaced_config_map,
                     "a", self.namespace, created)
        patched = self.core.patch_namespaced_config_map(
            "a", self.namespace, {"data": {"more": None}})
        self.assertEqual(patched.data, {"key": "1"})
        patched = self.core.patch_namespaced_config_map(
            "a", self.namespace, [{"op": "replace", "path": "/data/key", "value": "3"}])
        self.assertEqual(patched.data, {"key": "3"})

        listed = self.core.list_namespaced_config_map(self.namespace, label_selector="of=python")
        self.assertEqual([item.metadata.name for item in listed.items], ["a"])
        status = self.core.delete_namespaced_config_map("a", self.namespace)
        self.assertEqual(status.status, "Success")

    def test_are_listed_in_pages(self):
        for index in range(5):
            self.core.create_namespaced_config_map(self.namespace, self.map(f"m{index}"))
        names, token = [], None
        while True:
            page = self.core.list_namespaced_config_map(
                self.namespace, label_selector="of=python", limit=2, _continue=token)
            names += [item.metadata.name for item in page.items]
            token = page.metadata._continue
            if not token:
                break
        self.assertEqual(names, [f"m{index}" for index in range(5)])

    def test_of_all_sorts_survive_a_round_trip(self):
        pod = {
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
            "spec": {
                "schedulingGates": [{"name": "example.com/later"}],
                "containers": [{
                    "name": "c", "image": "fine", "ports": [{"containerPort": 80}],
                    "resources": {"requests": {"cpu": "100m", "memory": "1Gi"}},
                    "livenessProbe": {"httpGet": {"path": "/", "port": "http"}},
                    "env": [{"name": "A", "valueFrom": {"fieldRef": {
                        "fieldPath": "metadata.name"}}}]}],
                "volumes": [{"name": "v", "projected": {"sources": [
                    {"configMap": {"name": "m", "optional": True}}]}}]}}
        created = self.core.create_namespaced_pod(self.namespace, pod)
        self.assertEqual(created.spec.containers[0].liveness_probe.http_get.port, "http")
        read = self.core.read_namespaced_pod("p", self.namespace)
        read.metadata.labels = {"changed": "yes"}
        replaced = self.core.replace_namespaced_pod("p", self.namespace, read)
        self.assertEqual(replaced.spec.to_dict(), created.spec.to_dict())
        self.assertEqual(replaced.status.phase, "Pending")
        secret = client.V1Secret(metadata=client.V1ObjectMeta(name="s"), string_data={"k": "v"})
        self.core.create_namespaced_secret(self.namespace, secret)
        self.assertEqual(self.core.read_namespaced_secret("s", self.namespace).data, {"k": "dg=="})

    def test_are_made_of_files_in_yaml(self):
        documents = [
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
             "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]}},
            {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "nightly"},
             "spec": {"schedule": "0 3 * * *", "jobTemplate": {"spec": {"template": {"spec": {
                 "restartPolicy": "Never",
                 "containers": [{"name": "c", "image": "fine"}]}}}}}},
        ]
        utils.create_from_yaml(
            client.ApiClient(), yaml_objects=documents, namespace=self.namespace)
        service = self.core.read_namespaced_service("web", self.namespace)
        self.assertEqual(service.spec.ports[0].target_port, "http")
        self.assertEqual(
            self.batch.read_namespaced_cron_job("nightly", self.namespace).spec.suspend, False)


class Watches(Case):
    def test_tell_what_happens_after_a_list(self):
        self.core.create_namespaced_config_map(self.namespace, self.map("old"))
        listed = self.core.list_namespaced_config_map(self.namespace, label_selector="of=python")
        self.core.create_namespaced_config_map(self.namespace, self.map("new", key="1"))
        self.core.patch_namespaced_config_map("new", self.namespace, {"data": {"key": "2"}})
        self.core.delete_namespaced_config_map("new", self.namespace)
        seen, follower = [], watch.Watch()
        for event in follower.stream(
                self.core.list_namespaced_config_map, self.namespace,
                label_selector="of=python", timeout_seconds=DEADLINE_SECONDS,
                resource_version=listed.metadata.resource_version):
            seen.append((event["type"], event["object"].data))
            if len(seen) == 3:
                follower.stop()
        self.assertEqual(seen, [("ADDED", {"key": "1"}), ("MODIFIED", {"key": "2"}),
                                ("DELETED", {"key": "2"})])

    def test_end_when_they_are_asked_to(self):
        began = time.monotonic()
        events = list(watch.Watch().stream(
            self.core.list_namespaced_pod, self.namespace, timeout_seconds=1))
        self.assertEqual(events, [])
        self.assertLess(time.monotonic() - began, DEADLINE_SECONDS)


class Workloads(Case):
    def test_roll_out_scale_and_go(self):
        labels = {"app": "web"}
        template = client.V1PodTemplateSpec(
            metadata=client.V1ObjectMeta(labels=labels),
            spec=client.V1PodSpec(containers=[client.V1Container(name="c", image="fine")]))
        spec = client.V1DeploymentSpec(
            replicas=2, template=template, selector=client.V1LabelSelector(match_labels=labels))
        deployment = client.V1Deployment(metadata=client.V1ObjectMeta(name="web"), spec=spec)
        self.apps.create_namespaced_deployment(self.namespace, deployment)

        def is_at(count):
            return lambda: self.apps.read_namespaced_deployment_status(
                "web", self.namespace).status.ready_replicas == count

        eventually("two pods", is_at(2))
        self.apps.patch_namespaced_deployment_scale(
            "web", self.namespace, {"spec": {"replicas": 3}})
        eventually("three pods", is_at(3))
        self.apps.delete_namespaced_deployment(
            "web", self.namespace,
            body=client.V1DeleteOptions(propagation_policy="Foreground"))
        eventually("none left", lambda: not self.core.list_namespaced_pod(self.namespace).items)

    def test_may_be_what_somebody_may_do(self):
        spec = client.V1SelfSubjectAccessReviewSpec(
            resource_attributes=client.V1ResourceAttributes(
                verb="create", resource="pods", namespace=self.namespace))
        review = client.AuthorizationV1Api().create_self_subject_access_review(
            client.V1SelfSubjectAccessReview(spec=spec))
        self.assertTrue(review.status.allowed)
        token = self.core.create_namespaced_service_account_token(
            "default", self.namespace,
            client.AuthenticationV1TokenRequest(
                spec=client.V1TokenRequestSpec(audiences=["somebody"], expiration_seconds=600)))
        self.assertEqual(token.status.token.count("."), 2)


class Dynamic(Case):
    def setUp(self):
        super().setUp()
        self.dynamic = DynamicClient(client.ApiClient())

    def test_resources_are_found_and_applied(self):
        maps = self.dynamic.resources.get(api_version="v1", kind="ConfigMap")
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"},
                "data": {"key": "1"}}
        applied = maps.server_side_apply(
            body=body, namespace=self.namespace, field_manager="one")
        self.assertEqual(applied.metadata.managedFields[0].manager, "one")
        body["data"]["key"] = "2"
        with self.assertRaises(ConflictError):
            maps.server_side_apply(body=body, namespace=self.namespace, field_manager="two")
        forced = maps.server_side_apply(
            body=body, namespace=self.namespace, field_manager="two", force_conflicts=True)
        self.assertEqual(forced.data.key, "2")
        self.assertEqual([one.manager for one in forced.metadata.managedFields], ["two"])
        maps.delete(name="a", namespace=self.namespace)
        with self.assertRaises(NotFoundError):
            maps.get(name="a", namespace=self.namespace)

    def test_custom_resources_come_and_go(self):
        schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": {
            "size": {"type": "integer", "minimum": 1, "default": 3}}}}}
        definition = {
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "shirts.stable.example.com"},
            "spec": {"group": "stable.example.com", "scope": "Namespaced",
                     "names": {"plural": "shirts", "kind": "Shirt"},
                     "versions": [{"name": "v1", "served": True, "storage": True,
                                   "subresources": {"status": {}},
                                   "schema": {"openAPIV3Schema": schema}}]}}
        extensions = client.ApiextensionsV1Api()
        extensions.create_custom_resource_definition(definition)
        name = "shirts.stable.example.com"

        def is_established():
            status = extensions.read_custom_resource_definition(name).status
            return any(one.type == "Established" and one.status == "True"
                       for one in (status and status.conditions) or [])

        eventually("it is established", is_established)
        custom = client.CustomObjectsApi()
        kind = ("stable.example.com", "v1", self.namespace, "shirts")
        shirt = {"apiVersion": "stable.example.com/v1", "kind": "Shirt",
                 "metadata": {"name": "a"}, "spec": {}}
        created = custom.create_namespaced_custom_object(*kind, shirt)
        self.assertEqual(created["spec"], {"size": 3})
        self.refused(422, "Invalid", custom.patch_namespaced_custom_object,
                     *kind, "a", {"spec": {"size": 0}})
        patched = custom.patch_namespaced_custom_object(*kind, "a", {"spec": {"size": 4}})
        self.assertEqual(patched["spec"], {"size": 4})
        found = self.dynamic.resources.get(api_version="stable.example.com/v1", kind="Shirt")
        self.assertEqual(len(found.get(namespace=self.namespace).items), 1)
        extensions.delete_custom_resource_definition(name)
        eventually("it is gone", lambda: not any(
            item.metadata.name == name
            for item in extensions.list_custom_resource_definition().items))

    def test_everything_is_discovered(self):
        groups = {group.name for group in client.ApisApi().get_api_versions().groups}
        self.assertLessEqual({"apps", "batch", "networking.k8s.io", "rbac.authorization.k8s.io"},
                             groups)
        self.assertEqual(client.VersionApi().get_code().major, "1")
        kinds = {resource.kind for found in self.dynamic.resources.search() for resource in [found]}
        self.assertLessEqual({"Pod", "Deployment", "CustomResourceDefinition"}, kinds)


if __name__ == "__main__":
    unittest.main()
