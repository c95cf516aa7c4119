//! What the client wants to see, from its `Accept` header (upstream
//! `negotiation.NegotiateOutputMediaType`, apiserver pkg/endpoints/handlers/negotiation, v1.35).

use super::super::query::Query;
use crate::api::status::{Reason, Status};
use crate::registry::Kind;
use http::HeaderMap;
use http::header::{ACCEPT, USER_AGENT};

/// The version of `meta.k8s.io` that a table or partial object is asked in. They are alike but for
/// what they call themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TableVersion {
    V1,
    V1Beta1,
}

impl TableVersion {
    pub(crate) fn api_version(self) -> &'static str {
        match self {
            Self::V1 => "meta.k8s.io/v1",
            Self::V1Beta1 => "meta.k8s.io/v1beta1",
        }
    }
}

/// How much of each object goes into its row of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Include {
    None,
    Metadata,
    Object,
}

/// How a table is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TableForm {
    pub(crate) version: TableVersion,
    pub(crate) include: Include,
}

/// What protobuf is called, in requests and in answers.
pub(crate) const PROTOBUF_MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// What an object is shown as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Object,
    /// Its metadata alone.
    Partial(TableVersion),
    Table(TableForm),
}

/// In which language an answer is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Language {
    #[default]
    Json,
    /// Of whole answers alone: upstream has no stream of it either.
    Yaml,
    Protobuf,
}

/// What the client takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) language: Language,
    pub(crate) form: Form,
    pub(crate) pretty: bool,
}

/// What objects of a kind can be shown as, beyond themselves in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offers {
    /// What is only answered and never stored, such as reviews, is not shown as tables.
    pub(crate) tables: bool,
    /// Of custom resources there is the metadata in protobuf, and no more.
    pub(crate) protobuf: bool,
    /// The answer is a stream of events.
    pub(crate) streams: bool,
}

impl Offers {
    pub(crate) fn of(kind: &Kind, streams: bool) -> Self {
        let protobuf = kind.built_in_schema().is_some();
        Self { tables: !kind.facts.is_question(), protobuf, streams }
    }

    fn include(self, form: Form, language: Language) -> bool {
        if self.streams && language == Language::Yaml {
            return false;
        }
        match form {
            Form::Table(_) => self.tables,
            Form::Object => self.protobuf || language != Language::Protobuf,
            Form::Partial(_) => true,
        }
    }

    /// Upstream `MediaTypesForSerializer`.
    fn media_types(self) -> String {
        let types: &[&str] = match (self.streams, self.protobuf) {
            (false, false) => &["application/json", "application/yaml"],
            (false, true) => &["application/json", "application/yaml", PROTOBUF_MEDIA_TYPE],
            (true, false) => &["application/json;stream=watch"],
            (true, true) => &[
                "application/json;stream=watch",
                "application/vnd.kubernetes.protobuf;stream=watch",
            ],
        };
        types.join(", ")
    }
}

/// Chooses the form that the client prefers among those that can be served.
///
/// # Errors
/// Not acceptable, when there is none.
pub(crate) fn negotiate(
    headers: &HeaderMap,
    query: &Query,
    offers: Offers,
) -> Result<Accepted, Status> {
    let pretty = is_pretty(headers, query);
    let clauses = clauses(headers);
    if clauses.is_empty() {
        return Ok(Accepted { language: Language::Json, form: Form::Object, pretty });
    }
    for clause in clauses {
        let Some(language) = clause.language() else { continue };
        let form = clause.form(language, query)?;
        if let Some(form) = form.filter(|form| offers.include(*form, language)) {
            let pretty = pretty || clause.parameter("pretty") == Some("1");
            return Ok(Accepted { language, form, pretty });
        }
    }
    let message = format!("only the following media types are accepted: {}", offers.media_types());
    Err(Status::new(Reason::NotAcceptable, message))
}

/// Whether a person reads the answer (upstream `isPrettyPrint`).
fn is_pretty(headers: &HeaderMap, query: &Query) -> bool {
    if let Some(wanted) = query.text("pretty") {
        return matches!(wanted, "1" | "t" | "T" | "true" | "TRUE" | "True");
    }
    let agent = headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    ["curl", "Wget", "Mozilla/5.0"].iter().any(|known| agent.starts_with(known))
}

/// The language that a refusal is written in, which has no form but its own: who asks for another is
/// told in JSON (upstream `ErrorNegotiated`).
pub(crate) fn language(headers: &HeaderMap) -> Language {
    let plain = |clause: &&Clause<'_>| clause.parameter("as").is_none_or(str::is_empty);
    clauses(headers).iter().filter(plain).find_map(Clause::language).unwrap_or_default()
}

/// One alternative in an `Accept` header.
struct Clause<'a> {
    media_type: &'a str,
    parameters: &'a str,
    quality: f32,
}

/// What the client takes, what it likes best first: of two that it likes alike the more exact one,
/// and else the first (upstream `goautoneg.ParseAccept`).
fn clauses(headers: &HeaderMap) -> Vec<Clause<'_>> {
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let texts = values.flat_map(|value| value.split(',')).map(str::trim);
    let mut clauses: Vec<_> = texts.filter(|text| !text.is_empty()).map(Clause::parse).collect();
    clauses.sort_by(|one, two| {
        two.quality.total_cmp(&one.quality).then(one.wildness().cmp(&two.wildness()))
    });
    clauses
}

impl<'a> Clause<'a> {
    fn parse(text: &'a str) -> Self {
        let (media_type, parameters) = text.split_once(';').unwrap_or((text, ""));
        let clause = Self { media_type: media_type.trim(), parameters, quality: 1.0 };
        let quality = clause.parameter("q").map(|text| text.parse().unwrap_or(0.0));
        Self { quality: quality.unwrap_or(1.0), ..clause }
    }

    fn parameter(&self, wanted: &str) -> Option<&'a str> {
        let pairs = self.parameters.split(';').filter_map(|pair| pair.split_once('='));
        let mut found = pairs.filter(|(name, _)| name.trim() == wanted);
        found.next().map(|(_, value)| value.trim())
    }

    fn wildness(&self) -> u8 {
        match self.media_type {
            "*/*" | "*" => 2,
            other if other.ends_with("/*") => 1,
            _ => 0,
        }
    }

    fn language(&self) -> Option<Language> {
        match self.media_type {
            "application/json" | "application/*" | "*/*" | "*" => Some(Language::Json),
            "application/yaml" => Some(Language::Yaml),
            PROTOBUF_MEDIA_TYPE => Some(Language::Protobuf),
            _ => None,
        }
    }

    /// Upstream `acceptMediaTypeOptions`.
    fn form(&self, language: Language, query: &Query) -> Result<Option<Form>, Status> {
        let parameter = |name| self.parameter(name).unwrap_or_default();
        if !matches!(parameter("stream"), "" | "watch") || !matches!(parameter("sv"), "" | "v1") {
            return Ok(None);
        }
        let (shown_as, group, version) = (parameter("as"), parameter("g"), parameter("v"));
        if shown_as.is_empty() && group.is_empty() && version.is_empty() {
            return Ok(Some(Form::Object));
        }
        let version = match (group, version) {
            ("meta.k8s.io", "v1") => TableVersion::V1,
            ("meta.k8s.io", "v1beta1") => TableVersion::V1Beta1,
            _ => return Ok(None),
        };
        match shown_as {
            // Tables have no protobuf messages.
            "Table" if language != Language::Protobuf => {
                let include = include_of(query)?;
                Ok(Some(Form::Table(TableForm { version, include })))
            }
            "PartialObjectMetadata" | "PartialObjectMetadataList" => {
                Ok(Some(Form::Partial(version)))
            }
            _ => Ok(None),
        }
    }
}

fn include_of(query: &Query) -> Result<Include, Status> {
    match query.text("includeObject") {
        None | Some("Metadata") => Ok(Include::Metadata),
        Some("None") => Ok(Include::None),
        Some("Object") => Ok(Include::Object),
        Some(other) => {
            Err(Status::bad_request(format!("unrecognized includeObject value: {other:?}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERYTHING: Offers = Offers { tables: true, protobuf: true, streams: false };

    fn check(accept: &str, query: &str, expected: &str) {
        check_of(EVERYTHING, accept, query, expected);
    }

    fn check_of(offers: Offers, accept: &str, query: &str, expected: &str) {
        let mut headers = HeaderMap::new();
        if !accept.is_empty() {
            headers.insert(ACCEPT, accept.parse().unwrap());
        }
        let shown = match negotiate(&headers, &Query::parse(query), offers) {
            Ok(Accepted { language: Language::Json, form, .. }) => format!("{form:?}"),
            Ok(Accepted { language, form, .. }) => format!("{language:?} {form:?}"),
            Err(status) => status.code.to_string(),
        };
        assert_eq!(shown, expected, "{accept:?} {query:?}");
    }

    #[test]
    fn the_first_form_that_can_be_served_is_chosen() {
        check("", "", "Object");
        check("application/json", "", "Object");
        check("*/*", "", "Object");
        check("application/vnd.kubernetes.protobuf,application/json", "", "Protobuf Object");
        check("application/json, application/vnd.kubernetes.protobuf", "", "Object");
        check("application/vnd.kubernetes.protobuf;stream=watch", "", "Protobuf Object");
        check("application/cbor", "", "406");
        check("application/yaml", "", "Yaml Object");
        check("application/cbor,application/yaml;q=0.5", "", "Yaml Object");
        check("application/json;q=0.1,application/yaml;q=0.9", "", "Yaml Object");
        check("*/*,application/yaml", "", "Yaml Object");
        check("application/yaml;q=0.8,*/*;q=x", "", "Yaml Object");
        check("application/json;stream=other,application/yaml", "", "Yaml Object");
        check("application/json;v=v1", "", "406");
        check(
            "application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1,application/json",
            "",
            "Object",
        );
        check(
            "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
            "",
            "Protobuf Partial(V1)",
        );
        check("application/json;stream=watch", "", "Object");
        check("text/html, application/xml;q=0.9, */*;q=0.8", "", "Object");
        check(
            "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
            "",
            "Table(TableForm { version: V1, include: Metadata })",
        );
        check(
            "application/json;as=Table;g=meta.k8s.io;v=v1beta1",
            "includeObject=Object",
            "Table(TableForm { version: V1Beta1, include: Object })",
        );
        check("application/json;as=Table;g=meta.k8s.io;v=v1", "includeObject=x", "400");
        check("application/json;as=Other;g=meta.k8s.io;v=v1,application/json", "", "Object");
        check(
            "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
            "",
            "Partial(V1)",
        );
    }

    #[test]
    fn people_see_many_lines() {
        for (agent, query, expected) in [
            ("curl/8.5.0", "", true),
            ("Mozilla/5.0 (X11)", "", true),
            ("curl/8.5.0", "pretty=false", false),
            ("kubectl/v1.35", "", false),
            ("kubectl/v1.35", "pretty=true", true),
            ("kubectl/v1.35", "pretty=1", true),
            ("kubectl/v1.35", "pretty=yes", false),
            ("kubectl/v1.35", "pretty=", false),
        ] {
            let headers = HeaderMap::from_iter([(USER_AGENT, agent.parse().unwrap())]);
            let accepted = negotiate(&headers, &Query::parse(query), EVERYTHING).unwrap();
            assert_eq!(accepted.pretty, expected, "{agent} {query}");
        }
    }

    #[test]
    fn what_has_no_table_is_shown_otherwise_or_not_at_all() {
        let review = Offers { tables: false, ..EVERYTHING };
        check_of(review, "application/json;as=Table;g=meta.k8s.io;v=v1", "", "406");
        let with_another = "application/json;as=Table;g=meta.k8s.io;v=v1,application/json";
        check_of(review, with_another, "", "Object");
        let stream = Offers { streams: true, ..EVERYTHING };
        check_of(stream, "application/yaml", "", "406");
        check_of(stream, "application/yaml,application/json", "", "Object");
        let custom = Offers { protobuf: false, ..EVERYTHING };
        check_of(custom, "application/yaml", "", "Yaml Object");
        check_of(custom, "application/vnd.kubernetes.protobuf", "", "406");
        check_of(custom, "application/vnd.kubernetes.protobuf,application/json", "", "Object");
        let metadata =
            "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
        check_of(custom, metadata, "", "Protobuf Partial(V1)");
    }
}
