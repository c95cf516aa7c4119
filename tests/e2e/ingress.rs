//! Ingresses as users have them: a Deployment, a Service, a certificate, and curl.

use super::machine::Machine;
use kinglet::pki::self_signed;
use nix::sys::signal::Signal;

const WEB: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: 127.0.0.1:5000/hello:1
        ports: [{name: http, containerPort: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: http}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web}
spec:
  tls: [{hosts: [web.example], secretName: web}]
  rules:
  - host: web.example
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}
  - host: plain.example
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}
";

#[test]
fn ingresses_are_served() {
    let mut machine = Machine::new();
    machine.start_registry(&["1"]);
    machine.start();
    let classes = machine.kubectl(&["get", "ingressclass", "-o", "wide"]);
    assert!(classes.contains("kinglet.dev/ingress"), "{classes}");
    let leaf = self_signed("web", &["web.example"]).unwrap();
    std::fs::write(machine.path("web.crt"), &leaf.certificate).unwrap();
    std::fs::write(machine.path("web.key"), &leaf.key).unwrap();
    let file = |name: &str| machine.path(name).to_str().unwrap().to_owned();
    let (certificate, key) = (file("web.crt"), file("web.key"));
    let (with, and) = (format!("--cert={certificate}"), format!("--key={key}"));
    machine.kubectl(&["create", "secret", "tls", "web", &with, &and]);
    machine.apply(WEB);
    machine.kubectl(&["rollout", "status", "deployment/web", "--timeout=90s"]);
    let curl = |arguments: &[&str]| {
        let names = ["web.example:443:192.0.2.10", "plain.example:80:192.0.2.10"];
        let mut all = vec!["-s", "--max-time", "10", "--cacert", &certificate];
        names.iter().for_each(|name| all.extend(["--resolve", name]));
        all.extend(["--resolve", "web.example:80:192.0.2.10"]);
        all.extend(arguments);
        String::from_utf8(machine.try_run("curl", &all).stdout).unwrap()
    };
    let code = ["-o", "/dev/null", "-w", "%{http_code} %{http_version} %{redirect_url}"];
    let status = |url: &str| curl(&[&code[..], &[url]].concat());
    machine.eventually("the Ingress is served", || status("http://plain.example/") == "200 1.1 ");
    assert_eq!(status("https://web.example/"), "200 2 ");
    assert_eq!(status("http://web.example/x?y"), "308 1.1 https://web.example/x?y");
    assert!(!curl(&["https://web.example/"]).is_empty());
    let path = "jsonpath={.status.loadBalancer.ingress[*].ip}";
    machine.eventually("the Ingress says where it is", || {
        machine.kubectl(&["get", "ingress", "web", "-o", path]) == "192.0.2.10"
    });
    let metrics = "/api/v1/nodes/one/proxy/metrics/ingress";
    let metrics = machine.kubectl(&["get", "--raw", metrics]);
    assert!(metrics.contains("ingress=\"web\",service=\"web\""), "{metrics}");
    machine.kubectl(&["delete", "ingress", "web"]);
    machine.eventually("it is gone", || status("http://plain.example/").starts_with("404"));
    machine.kubectl(&["delete", "deployment", "web", "--timeout=60s"]);
    machine.kubectl(&["wait", "--for=delete", "pod", "--all", "--timeout=60s"]);
    machine.stop(Signal::SIGTERM);
    machine.killall();
}
