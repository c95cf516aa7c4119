//! What may be wrong with probes and lifecycle hooks.
//!
//! Follows upstream `validateProbe` and `validateLifecycle` (pkg/apis/core/validation, v1.35).

use crate::api::{FieldError, FieldPath, names};
use crate::registry::checks::{invalid, invalid_number, not_negative, one_of, to_value};
use k8s_openapi::api::core::v1::{
    Container, ExecAction, GRPCAction, HTTPGetAction, Lifecycle, LifecycleHandler, Probe,
    SleepAction, TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// Signals that have a name of their own; the real-time signals are counted from two of them.
const SIGNALS: &[&str] = &[
    "SIGABRT",
    "SIGALRM",
    "SIGBUS",
    "SIGCHLD",
    "SIGCLD",
    "SIGCONT",
    "SIGFPE",
    "SIGHUP",
    "SIGILL",
    "SIGINT",
    "SIGIO",
    "SIGIOT",
    "SIGKILL",
    "SIGPIPE",
    "SIGPOLL",
    "SIGPROF",
    "SIGPWR",
    "SIGQUIT",
    "SIGRTMAX",
    "SIGRTMIN",
    "SIGSEGV",
    "SIGSTKFLT",
    "SIGSTOP",
    "SIGSYS",
    "SIGTERM",
    "SIGTRAP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGUSR1",
    "SIGUSR2",
    "SIGVTALRM",
    "SIGWINCH",
    "SIGXCPU",
    "SIGXFSZ",
];

/// How far the real-time signals are counted from the first and from the last of them.
const ABOVE_FIRST_MAX: u8 = 15;
const BELOW_LAST_MAX: u8 = 14;

/// What a hook may depend on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setting<'a> {
    pub grace_seconds: Option<i64>,
    /// `spec.os.name`.
    pub os: Option<&'a str>,
}

/// Everything that a container does to tell that it lives.
pub(super) fn validate(
    container: &Container,
    setting: Setting<'_>,
    path: &FieldPath,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if let Some(lifecycle) = &container.lifecycle {
        errors.extend(validate_lifecycle(lifecycle, setting, &path.child("lifecycle")));
    }
    for (field, probe) in [
        ("livenessProbe", &container.liveness_probe),
        ("readinessProbe", &container.readiness_probe),
        ("startupProbe", &container.startup_probe),
    ] {
        let Some(probe) = probe else {
            continue;
        };
        let path = path.child(field);
        errors.extend(validate_probe(probe, &path));
        if field == "readinessProbe" {
            if let Some(seconds) = probe.termination_grace_period_seconds {
                let path = path.child("terminationGracePeriodSeconds");
                let detail = "must not be set for readinessProbes";
                errors.push(FieldError::invalid(&path, seconds, detail));
            }
        } else if let Some(successes) = probe.success_threshold.filter(|count| *count != 1) {
            let path = path.child("successThreshold");
            errors.push(FieldError::invalid(&path, successes, "must be 1"));
        }
    }
    errors
}

fn validate_probe(probe: &Probe, path: &FieldPath) -> Vec<FieldError> {
    let handler = Handler {
        exec: probe.exec.as_ref(),
        http_get: probe.http_get.as_ref(),
        tcp_socket: probe.tcp_socket.as_ref(),
        grpc: probe.grpc.as_ref(),
        sleep: None,
    };
    let mut errors = validate_handler(handler, None, path);
    for (field, value) in [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ] {
        errors.extend(not_negative(&path.child(field), value));
    }
    if let Some(seconds) = probe.termination_grace_period_seconds.filter(|seconds| *seconds <= 0) {
        let path = path.child("terminationGracePeriodSeconds");
        errors.push(FieldError::invalid(&path, seconds, "must be greater than 0"));
    }
    errors
}

fn validate_lifecycle(
    lifecycle: &Lifecycle,
    setting: Setting<'_>,
    path: &FieldPath,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (field, hook) in [("postStart", &lifecycle.post_start), ("preStop", &lifecycle.pre_stop)] {
        if let Some(hook) = hook {
            let handler = Handler::of(hook);
            errors.extend(validate_handler(handler, setting.grace_seconds, &path.child(field)));
        }
    }
    if let Some(signal) = lifecycle.stop_signal.as_deref() {
        errors.extend(validate_signal(signal, setting.os, &path.child("stopSignal")));
    }
    errors
}

fn validate_signal(signal: &str, os: Option<&str>, path: &FieldPath) -> Option<FieldError> {
    match os {
        None => {
            let detail = "may not be set for containers with empty `spec.os.name`";
            Some(FieldError::forbidden(path, detail))
        }
        Some("windows") => one_of(path, signal, &["SIGKILL", "SIGTERM"]),
        Some("linux") if !is_signal(signal) => {
            Some(FieldError::not_supported(path, signal, SIGNALS))
        }
        Some(_) => None,
    }
}

fn is_signal(name: &str) -> bool {
    let counts = |prefix: &str, most: u8| {
        let count = name.strip_prefix(prefix).and_then(|count| count.parse::<u8>().ok());
        count.is_some_and(|count| (1..=most).contains(&count))
    };
    SIGNALS.contains(&name)
        || counts("SIGRTMIN+", ABOVE_FIRST_MAX)
        || counts("SIGRTMAX-", BELOW_LAST_MAX)
}

/// What probes and hooks do; exactly one of these.
#[derive(Clone, Copy, Default)]
struct Handler<'a> {
    exec: Option<&'a ExecAction>,
    http_get: Option<&'a HTTPGetAction>,
    tcp_socket: Option<&'a TCPSocketAction>,
    grpc: Option<&'a GRPCAction>,
    sleep: Option<&'a SleepAction>,
}

impl<'a> Handler<'a> {
    fn of(hook: &'a LifecycleHandler) -> Self {
        Self {
            exec: hook.exec.as_ref(),
            http_get: hook.http_get.as_ref(),
            tcp_socket: hook.tcp_socket.as_ref(),
            grpc: None,
            sleep: hook.sleep.as_ref(),
        }
    }
}

fn validate_handler(
    handler: Handler<'_>,
    grace_seconds: Option<i64>,
    path: &FieldPath,
) -> Vec<FieldError> {
    let exec = handler.exec.map(|exec| validate_exec(exec, &path.child("exec")));
    let http = handler.http_get.map(|http| validate_http_get(http, &path.child("httpGet")));
    let tcp_path = path.child("tcpSocket").child("port");
    let tcp = handler.tcp_socket.map(|tcp| validate_port(&tcp.port, &tcp_path));
    let grpc_path = path.child("grpc").child("port");
    let grpc = handler.grpc.map(|grpc| invalid_number(&grpc_path, grpc.port, names::port_number));
    let sleep_path = path.child("sleep");
    let sleep = handler.sleep.map(|sleep| validate_sleep(sleep, grace_seconds, &sleep_path));
    let given =
        [("exec", exec), ("httpGet", http), ("tcpSocket", tcp), ("grpc", grpc), ("sleep", sleep)];
    let mut given = given.into_iter().filter_map(|(field, errors)| Some((field, errors?)));
    let Some((_, mut errors)) = given.next() else {
        return vec![FieldError::required(path, "must specify a handler type")];
    };
    let detail = "may not specify more than 1 handler type";
    errors.extend(given.map(|(field, _)| FieldError::forbidden(&path.child(field), detail)));
    errors
}

fn validate_exec(exec: &ExecAction, path: &FieldPath) -> Vec<FieldError> {
    let is_empty = exec.command.as_ref().is_none_or(|command| command.is_empty());
    let error = is_empty.then(|| FieldError::required(&path.child("command"), ""));
    error.into_iter().collect()
}

fn validate_http_get(http: &HTTPGetAction, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if http.path.as_ref().is_none_or(String::is_empty) {
        errors.push(FieldError::required(&path.child("path"), ""));
    }
    errors.extend(validate_port(&http.port, &path.child("port")));
    let scheme = http.scheme.as_deref().unwrap_or_default();
    errors.extend(one_of(&path.child("scheme"), scheme, &["HTTP", "HTTPS"]));
    for header in http.http_headers.iter().flatten() {
        let problems = names::http_header_name(&header.name);
        errors.extend(invalid(&path.child("httpHeaders"), &header.name, problems));
    }
    errors
}

/// A number or a name (upstream `ValidatePortNumOrName`).
fn validate_port(port: &IntOrString, path: &FieldPath) -> Vec<FieldError> {
    match port {
        IntOrString::Int(number) => invalid_number(path, *number, names::port_number),
        IntOrString::String(name) => invalid(path, name, names::port_name(name)),
    }
}

fn validate_sleep(
    sleep: &SleepAction,
    grace_seconds: Option<i64>,
    path: &FieldPath,
) -> Vec<FieldError> {
    let Some(grace) = grace_seconds.filter(|grace| !(0..=*grace).contains(&sleep.seconds)) else {
        return Vec::new();
    };
    let detail =
        format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
    vec![FieldError::invalid(path, to_value(&sleep.seconds), detail)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::kinds::testing::compare;
    use serde_json::{Value, json};

    #[track_caller]
    fn check(container: Value, expected: &[&str]) {
        check_on(None, container, expected);
    }

    #[track_caller]
    fn check_on(os: Option<&str>, container: Value, expected: &[&str]) {
        let mut container = container;
        container["name"] = json!("c");
        let container: Container = serde_json::from_value(container).unwrap();
        let setting = Setting { grace_seconds: Some(30), os };
        compare(validate(&container, setting, &FieldPath::new("c")), expected);
    }

    #[test]
    fn one_handler_each() {
        check(json!({"livenessProbe": {"exec": {"command": ["true"]}}}), &[]);
        check(
            json!({"livenessProbe": {}}),
            &["c.livenessProbe: Required value: must specify a handler type"],
        );
        check(
            json!({"livenessProbe": {"exec": {}, "tcpSocket": {"port": 80}, "grpc": {"port": 80}}}),
            &[
                "c.livenessProbe.exec.command: Required value",
                "c.livenessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type",
                "c.livenessProbe.grpc: Forbidden: may not specify more than 1 handler type",
            ],
        );
        check(
            json!({"readinessProbe": {"httpGet": {"path": "", "port": "", "scheme": "FTP", "httpHeaders": [{"name": "a b", "value": ""}]}}}),
            &[
                "c.readinessProbe.httpGet.path: Required value",
                "c.readinessProbe.httpGet.port: Invalid value: \"\": must contain only alpha-numeric",
                "c.readinessProbe.httpGet.port: Invalid value: \"\": must contain at least one letter",
                "c.readinessProbe.httpGet.scheme: Unsupported value: \"FTP\": supported values: \"HTTP\", \"HTTPS\"",
                "c.readinessProbe.httpGet.httpHeaders: Invalid value: \"a b\": a valid HTTP header",
            ],
        );
    }

    #[test]
    fn numbers_of_probes() {
        let exec = json!({"command": ["true"]});
        check(
            json!({"livenessProbe": {"exec": exec, "periodSeconds": -1, "successThreshold": 2, "terminationGracePeriodSeconds": 0}}),
            &[
                "c.livenessProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0",
                "c.livenessProbe.terminationGracePeriodSeconds: Invalid value: 0: must be greater than 0",
                "c.livenessProbe.successThreshold: Invalid value: 2: must be 1",
            ],
        );
        check(
            json!({"readinessProbe": {"exec": exec, "successThreshold": 2, "terminationGracePeriodSeconds": 5}}),
            &[
                "c.readinessProbe.terminationGracePeriodSeconds: Invalid value: 5: must not be set for readinessProbes",
            ],
        );
    }

    #[test]
    fn hooks_and_signals() {
        check(json!({"lifecycle": {"preStop": {"sleep": {"seconds": 30}}}}), &[]);
        check(
            json!({"lifecycle": {"preStop": {"sleep": {"seconds": 31}}, "postStart": {}}}),
            &[
                "c.lifecycle.postStart: Required value: must specify a handler type",
                "c.lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)",
            ],
        );
        let signal = |name: &str| json!({"lifecycle": {"stopSignal": name}});
        check(
            signal("SIGTERM"),
            &[
                "c.lifecycle.stopSignal: Forbidden: may not be set for containers with empty `spec.os.name`",
            ],
        );
        for good in ["SIGTERM", "SIGRTMIN+15", "SIGRTMAX-14"] {
            check_on(Some("linux"), signal(good), &[]);
        }
        for bad in ["TERM", "SIGRTMIN+16", "SIGRTMAX-15", "SIGRTMIN+0"] {
            check_on(Some("linux"), signal(bad), &["c.lifecycle.stopSignal: Unsupported value: "]);
        }
        check_on(
            Some("windows"),
            signal("SIGHUP"),
            &[
                "c.lifecycle.stopSignal: Unsupported value: \"SIGHUP\": supported values: \"SIGKILL\", \"SIGTERM\"",
            ],
        );
    }
}
