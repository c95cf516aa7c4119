//! One operation of a path, in either edition of OpenAPI. Pure.

use super::schemas::Edition;
use serde_json::{Map, Value, json};

/// How a path is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Delete,
    Get,
    Head,
    Options,
    Patch,
    Post,
    Put,
}

impl Method {
    pub(super) const ALL: [Self; 7] =
        [Self::Delete, Self::Get, Self::Head, Self::Options, Self::Patch, Self::Post, Self::Put];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Delete => "delete",
            Self::Get => "get",
            Self::Head => "head",
            Self::Options => "options",
            Self::Patch => "patch",
            Self::Post => "post",
            Self::Put => "put",
        }
    }
}

/// What a request brings along.
#[derive(Clone, Debug)]
pub(super) enum Body {
    None,
    DeleteOptions,
    Patch,
    /// An object of this schema.
    Of(String),
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    /// The verb that its name begins with.
    pub(super) prefix: &'static str,
    /// What its name ends with, after group and version.
    pub(super) rest: String,
    /// `x-kubernetes-action`.
    pub(super) action: &'static str,
    pub(super) group: String,
    pub(super) version: String,
    /// `x-kubernetes-group-version-kind`.
    pub(super) kind: Value,
    /// What may be in its query, besides what may be in that of all operations of its path.
    pub(super) parameters: &'static [&'static str],
    pub(super) body: Body,
    /// The schema of the answer. Without one it is text.
    pub(super) answer: Option<String>,
    /// The codes of answers that have it.
    pub(super) codes: &'static [u16],
    /// Whether it may answer with a stream of events.
    pub(super) streams: bool,
    /// Media types of custom resources are fewer.
    pub(super) is_custom: bool,
}

const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";
/// A patch is of no type of the table.
pub(super) const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const PATCHES: [&str; 4] = [
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    STRATEGIC,
];

impl Operation {
    pub(super) const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";
    pub(super) const WATCH_EVENT: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent";

    /// `parameters` are those that its path does not have.
    pub(super) fn render(&self, parameters: &[&str], edition: Edition) -> Value {
        let (group, version) = (self.group_words(), words(&self.version));
        let mut operation = Map::new();
        let mut set = |name: &str, value: Value| operation.insert(name.to_owned(), value);
        set("operationId", json!(format!("{}{group}{version}{}", self.prefix, self.rest)));
        set("description", json!(self.description()));
        set("tags", json!([tag(&group, &self.version)]));
        set("x-kubernetes-action", json!(self.action));
        set("x-kubernetes-group-version-kind", self.kind.clone());
        let mut parameters: Vec<Value> =
            parameters.iter().map(|name| parameter(name, Place::Query, edition)).collect();
        match edition {
            Edition::Second => {
                parameters.extend(self.body_parameter());
                set("schemes", json!(["https"]));
                set("consumes", json!(self.consumes()));
                set("produces", json!(self.produces()));
            }
            Edition::Third => {
                if let Some(body) = self.request_body() {
                    set("requestBody", body);
                }
            }
        }
        if !parameters.is_empty() {
            set("parameters", Value::Array(parameters));
        }
        set("responses", responses(self.codes, self.answer.as_deref(), &self.produces(), edition));
        Value::Object(operation)
    }

    fn group_words(&self) -> String {
        group_words(&self.group)
    }

    fn description(&self) -> String {
        let kind = self.kind["kind"].as_str().unwrap_or_default();
        match self.action {
            "connect" => format!("Connects with it, as {kind} say"),
            "delete" => format!("Deletes a {kind}"),
            "deletecollection" => format!("Deletes every {kind} that is selected"),
            "get" => format!("Reads a {kind}"),
            "list" => format!("Lists or watches objects of kind {kind}"),
            "patch" => format!("Changes parts of a {kind}"),
            "post" => format!("Creates a {kind}"),
            "put" => format!("Replaces a {kind}"),
            _ => format!("Watches {kind}. Use the parameter 'watch' of lists instead"),
        }
    }

    fn consumes(&self) -> Vec<&'static str> {
        match self.body {
            Body::Patch => {
                PATCHES.into_iter().filter(|name| !self.is_custom || *name != STRATEGIC).collect()
            }
            _ if self.is_custom => vec!["application/json", "application/yaml"],
            _ => vec!["*/*"],
        }
    }

    fn produces(&self) -> Vec<&'static str> {
        if self.action == "connect" {
            return vec!["*/*"];
        }
        let mut types = vec!["application/json", "application/yaml"];
        if self.answer.is_none() {
            types.push("text/plain");
        }
        if self.streams {
            types.push("application/json;stream=watch");
        }
        if !self.is_custom {
            types.push(PROTOBUF);
            if self.streams {
                types.push("application/vnd.kubernetes.protobuf;stream=watch");
            }
        }
        types
    }

    fn body_schema(&self) -> Option<(&str, bool)> {
        match &self.body {
            Body::None => None,
            Body::DeleteOptions => Some((DELETE_OPTIONS, false)),
            Body::Patch => Some((PATCH, true)),
            Body::Of(name) => Some((name, true)),
        }
    }

    fn body_parameter(&self) -> Option<Value> {
        let (name, is_required) = self.body_schema()?;
        let mut body = json!({"in": "body", "name": "body",
            "schema": reference(name, Edition::Second)});
        if is_required {
            body["required"] = json!(true);
        }
        Some(body)
    }

    fn request_body(&self) -> Option<Value> {
        let (name, is_required) = self.body_schema()?;
        let mut body =
            json!({"content": contents(&self.consumes(), &reference(name, Edition::Third))});
        if is_required {
            body["required"] = json!(true);
        }
        Some(body)
    }
}

/// What is answered: with a schema, or text, under these codes; and to strangers.
pub(super) fn responses(
    codes: &[u16],
    answer: Option<&str>,
    produces: &[&str],
    edition: Edition,
) -> Value {
    let schema = answer.map_or_else(|| json!({"type": "string"}), |name| reference(name, edition));
    let mut responses = Map::new();
    responses.insert("401".to_owned(), json!({"description": "Unauthorized"}));
    for code in codes {
        let words = match code {
            200 => "OK",
            201 => "Created",
            _ => "Accepted",
        };
        let answer = match edition {
            Edition::Second => json!({"description": words, "schema": schema}),
            Edition::Third => json!({"description": words, "content": contents(produces, &schema)}),
        };
        responses.insert(code.to_string(), answer);
    }
    Value::Object(responses)
}

/// `RbacAuthorization` (upstream `ToValidOperationID`).
pub(super) fn group_words(group: &str) -> String {
    match group {
        "" => "Core".to_owned(),
        group => words(group.strip_suffix(".k8s.io").unwrap_or(group)),
    }
}

fn contents(types: &[&str], schema: &Value) -> Value {
    let of_type = |name: &&str| ((*name).to_owned(), json!({"schema": schema}));
    Value::Object(types.iter().map(of_type).collect())
}

fn reference(name: &str, edition: Edition) -> Value {
    edition.reference(name, Map::new())
}

/// `rbacAuthorization_v1`.
pub(super) fn tag(group_words: &str, version: &str) -> String {
    let (first, rest) = group_words.split_at(1);
    format!("{}{rest}_{version}", first.to_ascii_lowercase())
}

fn capital(name: &str) -> String {
    let mut letters = name.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

/// The words of a name, each with a capital: what is neither letter nor digit parts them.
pub(super) fn words(name: &str) -> String {
    name.split(|letter: char| !letter.is_ascii_alphanumeric()).map(capital).collect()
}

/// Where a parameter stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Path,
    Query,
}

/// A parameter of a path or of a query.
pub(super) fn parameter(name: &str, place: Place, edition: Edition) -> Value {
    let (kind, description) = match name {
        "name" => ("string", "The name of the object"),
        "namespace" => ("string", "The namespace of the object"),
        "allowWatchBookmarks" => {
            ("boolean", "Whether a watch tells from time to time how far it is")
        }
        "command" => ("string", "What is run, a word each time"),
        "container" => ("string", "Which container; the only one, where it is left out"),
        "continue" => ("string", "The token of the page before"),
        "dryRun" => ("string", "'All': everything is checked, and nothing stored"),
        "fieldManager" => ("string", "Who is the manager of the fields that are written"),
        "fieldSelector" => ("string", "Only objects whose fields have these values"),
        "fieldValidation" => {
            ("string", "What becomes of unknown and repeated fields: 'Ignore', 'Warn' or 'Strict'")
        }
        "follow" => ("boolean", "Whether to wait for more"),
        "force" => ("boolean", "Takes fields that others manage, when something is applied"),
        "gracePeriodSeconds" => ("integer", "How long the object has to end; 0 is at once"),
        "ignoreStoreReadErrorWithClusterBreakingPotential" => {
            ("boolean", "Deletes what cannot be read; it is not supported")
        }
        "insecureSkipTLSVerifyBackend" => ("boolean", "Does not ask for the node's certificate"),
        "labelSelector" => ("string", "Only objects with these labels"),
        "limit" => ("integer", "How many objects there are to be at most; the rest comes after"),
        "limitBytes" => ("integer", "How many bytes there are to be at most"),
        "orphanDependents" => ("boolean", "Deprecated: see propagationPolicy"),
        "path" => ("string", "What is asked for behind the proxy"),
        "ports" => ("integer", "Which ports"),
        "pretty" => ("string", "Whether the answer is written for people"),
        "previous" => ("boolean", "Of the container that ran before"),
        "propagationPolicy" => {
            ("string", "What becomes of dependents: 'Orphan', 'Background' or 'Foreground'")
        }
        "resourceVersion" => ("string", "How new the answer has to be"),
        "resourceVersionMatch" => ("string", "How resourceVersion is meant"),
        "sendInitialEvents" => ("boolean", "Whether a watch begins with what there is"),
        "sinceSeconds" => ("integer", "Only what is not older"),
        "stream" => ("string", "'All', 'Stdout' or 'Stderr'"),
        "tailLines" => ("integer", "How many of the last lines"),
        "timeoutSeconds" => ("integer", "How long it may take"),
        "timestamps" => ("boolean", "Whether each line begins with its time"),
        "watch" => ("boolean", "Whether to tell what happens instead of listing"),
        _ => ("boolean", "Whether this stream is wanted"),
    };
    let is_of_path = place == Place::Path;
    let place = if is_of_path { "path" } else { "query" };
    let mut parameter = json!({"name": name, "in": place, "description": description});
    if is_of_path {
        parameter["required"] = json!(true);
    }
    match edition {
        Edition::Second => {
            parameter["type"] = json!(kind);
            parameter["uniqueItems"] = json!(true);
        }
        Edition::Third => parameter["schema"] = json!({"type": kind, "uniqueItems": true}),
    }
    parameter
}
