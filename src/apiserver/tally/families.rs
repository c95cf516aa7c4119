//! What is told at `/metrics`: upstream's names. Those that begin with `kinglet` are our own.

use crate::stdx::exposition::{Family, counter, gauge};

/// A family of histograms: its name, and what it is.
pub(super) type Named = (&'static str, &'static str);

pub(super) const REQUESTS: Family =
    counter("apiserver_request_total", "Requests by sort and by the code of their answer.");
pub(super) const CUT: Family = counter(
    "apiserver_request_terminations_total",
    "Requests that the server has cut short in self-defence.",
);
pub(super) const DURATIONS: Named =
    ("apiserver_request_duration_seconds", "How long requests took, in seconds, by sort.");
pub(super) const LEVELS: Named = (
    "apiserver_request_sli_duration_seconds",
    "How long requests took, without what they have waited for others, in seconds, by sort.",
);
pub(super) const SIZES: Named =
    ("apiserver_response_sizes", "How large answers to reads were, in bytes, by sort.");
pub(super) const LASTING: Family = gauge(
    "apiserver_longrunning_requests",
    "Requests under way that take as long as the client likes.",
);
pub(super) const CURRENT: Family =
    gauge("apiserver_current_inflight_requests", "Requests under way over the network.");
pub(super) const DEPRECATED: Family = gauge(
    "apiserver_requested_deprecated_apis",
    "Deprecated resources that somebody has asked for since the start.",
);
pub(super) const EVENTS: Family =
    counter("apiserver_watch_events_total", "Events that watches have sent.");
pub(super) const EVENT_SIZES: Named =
    ("apiserver_watch_events_sizes", "How large events of watches were, in bytes.");
pub(super) const STORED: Family = gauge(
    "apiserver_storage_objects",
    "Objects of each kind. Deprecated: see apiserver_resource_objects.",
);
pub(super) const OBJECTS: Family = gauge("apiserver_resource_objects", "Objects of each kind.");
pub(super) const STORE: Named = (
    "kinglet_store_request_duration_seconds",
    "How long reads of several objects and writes took in the store, in seconds.",
);
pub(super) const REVISION: Family =
    gauge("kinglet_store_revision", "The newest revision of the store.");
pub(super) const ADMISSION: Named = (
    "apiserver_admission_step_admission_duration_seconds",
    "How long admission took, in seconds, by operation and step.",
);
pub(super) const AUTHENTICATIONS: Family =
    counter("authentication_attempts", "Requests by whether those who ask were believed.");
pub(super) const AUTHENTICATION: Named = (
    "authentication_duration_seconds",
    "How long it took to find out who asks, in seconds, by result.",
);
pub(super) const AUTHORIZATIONS: Family = counter(
    "authorization_attempts_total",
    "Requests by whether those who ask are allowed to have them answered.",
);
pub(super) const AUTHORIZATION: Named = (
    "authorization_duration_seconds",
    "How long it took to find out whether somebody may, in seconds, by result.",
);
pub(super) const CHECKS: Family =
    gauge("kubernetes_healthcheck", "Whether a check of health is well.");
pub(super) const CHECKED: Family =
    counter("kubernetes_healthchecks_total", "Checks of health that were asked for, by result.");
pub(super) const TLS_FAILURES: Family =
    counter("apiserver_tls_handshake_errors_total", "TLS handshakes that came to nothing.");
pub(super) const AUDITED: Family =
    counter("apiserver_audit_event_total", "Events sent to an audit log.");
pub(super) const AUDIT_REJECTED: Family = counter(
    "apiserver_audit_requests_rejected_total",
    "Requests refused because they could not be audited.",
);
pub(super) const BUILD: Family = gauge("kubernetes_build_info", "Which version this is.");
pub(super) const CPU: Family =
    counter("process_cpu_seconds_total", "Total user and system CPU time spent in seconds.");
pub(super) const RESIDENT: Family =
    gauge("process_resident_memory_bytes", "Resident memory size in bytes.");
pub(super) const VIRTUAL: Family =
    gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.");
pub(super) const OPEN_FILES: Family = gauge("process_open_fds", "Number of open file descriptors.");
pub(super) const OPEN_FILES_MAX: Family =
    gauge("process_max_fds", "Maximum number of open file descriptors.");
pub(super) const STARTED: Family =
    gauge("process_start_time_seconds", "Start time of the process since unix epoch in seconds.");
