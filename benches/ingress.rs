//! What the ingress does in a second, beside nginx and HAProxy as reverse proxies in front of the same
//! endpoint.
//!
//! Runs the release executable (`KINGLET_EXECUTABLE`) on a machine of its own, a network namespace.
//! All three have 64 connections of one client, keep theirs to the endpoint, and say who the client
//! is; they are asked in turn, and the best round of each counts. Client, proxy and endpoint share
//! the processors, so what a request costs the proxy says more than the requests a second.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot measure has to stop")]
#![expect(clippy::print_stdout, reason = "this is what a benchmark is for")]
#![expect(unreachable_pub, reason = "the machine is shared with the end-to-end tests")]

#[path = "../tests/support/lan.rs"]
#[expect(dead_code, reason = "what is measured is alone on its wire")]
mod lan;
#[path = "../tests/e2e/machine.rs"]
#[expect(dead_code, reason = "tests need more of the machine than benchmarks")]
mod machine;
#[path = "cluster/process.rs"]
#[expect(dead_code, reason = "only the time of the processor counts here")]
mod process;
#[path = "support/program.rs"]
mod program;
#[path = "../tests/e2e/push.rs"]
mod push;

use machine::Machine;
use nix::sys::signal::Signal;
use process::Usage;
use program::Program;

const ROUNDS: usize = 3;
const SECONDS: &str = "4s";
const CONNECTIONS: &str = "64";

/// As nginx' throughput is one.
const REACH: &str = "0.8 of nginx";

/// The endpoint is the node itself: what a container adds is not of interest.
const OBJECTS: &str = "
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: '', port: 8080, protocol: TCP}]
endpoints: [{addresses: [192.0.2.10], conditions: {ready: true}}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web}
spec:
  rules:
  - host: web.example
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}
";

fn main() {
    let mut machine = Machine::new();
    machine.start();
    machine.apply(OBJECTS);
    let endpoint = nginx(&machine, "endpoint", &endpoint_config());
    let nginx = nginx(&machine, "nginx", NGINX);
    std::fs::write(machine.path("haproxy.cfg"), HAPROXY).unwrap();
    let file = machine.path("haproxy.cfg").to_str().unwrap().to_owned();
    let haproxy = Program::start(&machine, "haproxy", &["-db", "-f", &file]);
    let proxies = [
        ("kinglet", 80, machine.server_pid()),
        ("nginx, one worker", 8081, nginx.pid()),
        ("HAProxy", 8082, haproxy.pid()),
    ];
    for (name, port, _) in proxies {
        let what = format!("{name} passes requests on");
        machine.eventually(&what, || get(&machine, port).starts_with("HTTP/1.1 200"));
    }
    let mut best = proxies.map(|_| Round::default());
    for _ in 0..ROUNDS {
        for ((_, port, pid), best) in proxies.iter().zip(&mut best) {
            let round = ask(&machine, *port, *pid);
            if round.rate > best.rate {
                *best = round;
            }
        }
    }
    for ((name, ..), round) in proxies.iter().zip(&best) {
        let Round { rate, cpu_micros, p99 } = round;
        let of_nginx = rate / best[1].rate;
        println!(
            "ingress, {name:<18} {rate:>7.0}/s, {of_nginx:.2} of nginx, p99 {p99}, \
             {cpu_micros:.1} us of CPU each      to reach: {REACH}"
        );
    }
    drop((endpoint, nginx, haproxy));
    machine.stop(Signal::SIGTERM);
    machine.killall();
}

#[derive(Debug, Default)]
struct Round {
    rate: f64,
    cpu_micros: f64,
    p99: String,
}

fn get(machine: &Machine, port: u16) -> String {
    let url = format!("http://192.0.2.10:{port}/");
    let arguments = ["-si", "--max-time", "5", "-H", "Host: web.example", &url];
    String::from_utf8(machine.try_run("curl", &arguments).stdout).unwrap()
}

/// One round of load, with what it has cost the process that passes the requests on.
fn ask(machine: &Machine, port: u16, pid: i32) -> Round {
    let before = Usage::of(pid).cpu_seconds;
    let url = format!("http://192.0.2.10:{port}/");
    let load = ["-t1", "-c", CONNECTIONS, "-d", SECONDS, "--latency", "-H", "Host: web.example"];
    let said = machine.run("wrk", &[&load[..], &[&url]].concat());
    assert!(!said.contains("Non-2xx"), "{said}");
    let cpu_seconds = Usage::of(pid).cpu_seconds - before;
    let word = |before: &str, number: usize| {
        let line = said.lines().find(|line| line.trim_start().starts_with(before));
        line.unwrap().split_whitespace().nth(number).unwrap().to_owned()
    };
    let requests: f64 =
        said.lines().find(|line| line.contains(" requests in ")).map(first_word).unwrap();
    let rate = word("Requests/sec:", 1).parse().unwrap();
    Round { rate, cpu_micros: cpu_seconds * 1e6 / requests, p99: word("99%", 1) }
}

fn first_word(line: &str) -> f64 {
    line.split_whitespace().next().unwrap().parse().unwrap()
}

fn nginx(machine: &Machine, name: &str, config: &str) -> Program {
    let file = machine.path(&format!("{name}.conf"));
    let directory = machine.path("");
    let config = format!(
        "daemon off; master_process off; error_log stderr crit; pid {name}.pid;\n\
         events {{ worker_connections 4096; }}\nhttp {{ access_log off; \
         client_body_temp_path {name}.body; proxy_temp_path {name}.proxy; \
         fastcgi_temp_path {name}.fcgi; uwsgi_temp_path {name}.uwsgi; \
         scgi_temp_path {name}.scgi; keepalive_requests 1000000000;\n{config}\n}}\n"
    );
    std::fs::write(&file, config).unwrap();
    let paths = [directory.to_str().unwrap(), file.to_str().unwrap()];
    Program::start(machine, "nginx", &["-p", paths[0], "-c", paths[1]])
}

/// A small page.
fn endpoint_config() -> String {
    let body = "k".repeat(1_024);
    format!("server {{ listen 8080; location / {{ return 200 \"{body}\"; }} }}")
}

const NGINX: &str = "upstream web { server 192.0.2.10:8080; keepalive 64; }
server {
  listen 8081;
  location / {
    proxy_pass http://web;
    proxy_http_version 1.1;
    proxy_set_header Connection '';
    proxy_set_header Host $host;
    proxy_set_header X-Real-IP $remote_addr;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    proxy_set_header X-Forwarded-Proto $scheme;
  }
}";

const HAPROXY: &str = "defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  option forwardfor
frontend web
  bind :8082
  default_backend web
backend web
  http-reuse always
  server one 192.0.2.10:8080
";
