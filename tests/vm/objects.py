"""What the machines run, and whether it does."""

import http.client

MEMORY_LIMIT = 64 << 20
DEFAULT = "/api/v1/namespaces/default"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"


def node_is_ready(api, name):
    conditions = api.get(f"/api/v1/nodes/{name}")["status"]["conditions"]
    return any(x["type"] == "Ready" and x["status"] == "True" for x in conditions)


def ready_pods(api, app):
    pods = api.get(f"{DEFAULT}/pods?labelSelector=app%3D{app}")["items"]
    return [x for x in pods if any(
        c["type"] == "Ready" and c["status"] == "True" for c in x["status"].get("conditions", []))]


def hello(app, replicas, node=None):
    """A Deployment of the example's web server."""
    container = {"name": "web", "image": "docker.io/library/hello:1", "ports": [{"containerPort": 8080}],
                 "readinessProbe": {"httpGet": {"port": 8080}, "periodSeconds": 1},
                 "resources": {"limits": {"memory": str(MEMORY_LIMIT)}}}
    pod = {"terminationGracePeriodSeconds": 1, "containers": [container], "tolerations": [{"operator": "Exists"}]}
    if node:
        pod["nodeName"] = node
    labels = {"app": app}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": app},
            "spec": {"replicas": replicas, "selector": {"matchLabels": labels},
                     "template": {"metadata": {"labels": labels}, "spec": pod}}}


def service(app, node_port=None):
    port = {"port": 80, "targetPort": 8080} | ({"nodePort": node_port} if node_port else {})
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": app},
            "spec": {"selector": {"app": app}, "ports": [port], "type": "NodePort" if node_port else "ClusterIP"}}


def page(port, seconds=10):
    """What the Service answers to the host."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
    try:
        connection.request("GET", "/", headers={"Connection": "close"})
        return connection.getresponse().read().decode()
    finally:
        connection.close()
