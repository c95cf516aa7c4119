//! What has come of a file, as its AddOn says it: pure.

use super::kind::{AddOn, Listed};
use super::object::ObjectId;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// A condition names so many objects that are not as they should be; the list of objects more.
const NAMED_MAX: usize = 5;
/// So many objects of the list say what is wrong with them, that the AddOn stays below the limit of an object.
const MESSAGES_MAX: usize = 100;
/// What is said of one object is cut off after this.
const MESSAGE_BYTES_MAX: usize = 512;

/// Why an object is not as its file has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// Nobody serves its kind. It is tried again when definitions change.
    NoKind,
    /// Its namespace is not there, or on its way out. It is tried again when namespaces change.
    NoNamespace { namespace: String, message: String },
    /// It is another AddOn's.
    Disputed { owner: String },
    /// It is tried again later.
    Failed { message: String },
}

impl Problem {
    fn reason(&self) -> &'static str {
        match self {
            Self::NoKind | Self::NoNamespace { .. } => "Waiting",
            Self::Disputed { .. } => "Disputed",
            Self::Failed { .. } => "ApplyFailed",
        }
    }

    /// The one that says most of a file is the largest.
    fn weight(&self) -> u8 {
        match self {
            Self::Disputed { .. } => 0,
            Self::NoKind | Self::NoNamespace { .. } => 1,
            Self::Failed { .. } => 2,
        }
    }

    fn message(&self, id: &ObjectId) -> String {
        let text = match self {
            Self::NoKind => format!("no {} of {} is served yet", id.kind, id.api_version),
            Self::NoNamespace { message, .. } | Self::Failed { message } => message.clone(),
            Self::Disputed { owner } => format!("it belongs to the AddOn {owner}"),
        };
        match text.char_indices().find(|(at, _)| *at >= MESSAGE_BYTES_MAX) {
            Some((end, _)) => format!("{}...", &text[..end]),
            None => text,
        }
    }
}

/// What has come of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) id: ObjectId,
    pub(super) problem: Option<Problem>,
}

/// What has come of a file, object by object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcomes {
    pub(super) applied: Vec<Outcome>,
    /// Those that went from the file and are still there, with why they could not be pruned. Where
    /// not all of the file is applied, none was tried.
    pub(super) left: Vec<Outcome>,
}

impl Outcomes {
    pub(super) fn is_all_applied(&self) -> bool {
        self.applied.iter().all(|outcome| outcome.problem.is_none())
    }

    /// Whether another AddOn has something of this one's file.
    pub(super) fn has_disputes(&self) -> bool {
        let disputed =
            |outcome: &Outcome| matches!(outcome.problem, Some(Problem::Disputed { .. }));
        self.applied.iter().any(disputed)
    }

    /// Whether to try again after a while, since nothing will tell when it may succeed.
    pub(super) fn is_to_be_tried_again(&self) -> bool {
        let failed = |outcome: &Outcome| matches!(outcome.problem, Some(Problem::Failed { .. }));
        self.applied.iter().chain(&self.left).any(failed)
    }
}

/// The AddOn after its file was applied, or part of it.
pub(super) fn concluded(addon: &AddOn, checksum: &str, all: &Outcomes, now: Timestamp) -> AddOn {
    let mut next = addon.clone();
    let mut messages = 0;
    let listed = all.applied.iter().chain(&all.left).filter(is_listed);
    next.status.objects = listed
        .map(|Outcome { id, problem }| {
            let message = problem.as_ref().filter(|_| messages < MESSAGES_MAX);
            messages += usize::from(message.is_some());
            Listed { id: id.clone(), message: message.map(|problem| problem.message(id)) }
        })
        .collect();
    let problems = all.applied.iter().filter(|outcome| outcome.problem.is_some());
    let worst = problems.filter_map(|it| it.problem.as_ref()).max_by_key(|it| it.weight());
    let state = match worst {
        Some(problem) => ("False", problem.reason()),
        None if all.left.is_empty() => ("True", "Applied"),
        None => ("False", "PruneFailed"),
    };
    if state.0 == "True" {
        checksum.clone_into(&mut next.spec.checksum);
    }
    next.set_applied(state, told(all), now);
    observed(addon, next, now)
}

/// What is another's is not remembered as this one's.
fn is_listed(outcome: &&Outcome) -> bool {
    !matches!(outcome.problem, Some(Problem::Disputed { .. }))
}

fn told(all: &Outcomes) -> String {
    let total = all.applied.len();
    let problems: Vec<&Outcome> =
        all.applied.iter().chain(&all.left).filter(|outcome| outcome.problem.is_some()).collect();
    if problems.is_empty() && all.left.is_empty() {
        return format!("{total} {} applied", objects(total));
    }
    let line = |outcome: &&Outcome| {
        let problem = outcome.problem.as_ref()?;
        Some(format!("{}: {}", outcome.id, problem.message(&outcome.id)))
    };
    let mut told: Vec<_> = problems.iter().take(NAMED_MAX).filter_map(line).collect();
    if problems.len() > NAMED_MAX {
        told.push(format!("and {} more", problems.len() - NAMED_MAX));
    }
    let waiting = all.left.iter().filter(|outcome| outcome.problem.is_none()).count();
    if waiting > 0 {
        told.push(format!(
            "{waiting} {} that went from the file will be pruned when all of it is applied",
            objects(waiting)
        ));
    }
    told.join("; ")
}

/// The noun that goes with a number.
pub(super) fn objects(count: usize) -> &'static str {
    if count == 1 { "object" } else { "objects" }
}

/// The AddOn before its file is applied: whatever comes, what may be made is remembered.
pub(super) fn begun(addon: &AddOn, ids: &[ObjectId], now: Timestamp) -> AddOn {
    let mut next = addon.clone();
    for id in ids {
        if !next.objects().any(|known| known == id) {
            next.status.objects.push(Listed { id: id.clone(), message: None });
        }
    }
    if next.applied().is_none() {
        next.set_applied(("Unknown", "Applying"), "the file is being applied".to_owned(), now);
    }
    observed(addon, next, now)
}

/// The AddOn of a file that cannot be understood: what was made of it stays.
pub(super) fn complained(addon: &AddOn, message: &str, now: Timestamp) -> AddOn {
    let mut next = addon.clone();
    next.set_applied(("False", "ParseFailed"), message.to_owned(), now);
    observed(addon, next, now)
}

/// The AddOn of a file that is gone, of which something could not be pruned.
pub(super) fn unpruned(addon: &AddOn, left: Vec<Outcome>, now: Timestamp) -> AddOn {
    let all = Outcomes { applied: Vec::new(), left };
    concluded(addon, &addon.spec.checksum.clone(), &all, now)
}

/// The time is another only where something else is.
fn observed(before: &AddOn, mut next: AddOn, now: Timestamp) -> AddOn {
    if next != *before {
        next.status.observed_time = Some(Time(now));
    }
    next
}

#[cfg(test)]
mod tests {
    use super::super::object::tests::id;
    use super::*;

    fn outcome(text: &str, problem: Option<Problem>) -> Outcome {
        Outcome { id: id(text), problem }
    }

    fn failed(message: &str) -> Option<Problem> {
        Some(Problem::Failed { message: message.to_owned() })
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[track_caller]
    fn check(applied: Vec<Outcome>, left: Vec<Outcome>, expected: &str) {
        let all = Outcomes { applied, left };
        let addon = concluded(&AddOn::new("web", "web.yaml"), "sum", &all, at(1));
        let condition = addon.applied().unwrap();
        let objects: Vec<_> = addon.objects().map(ToString::to_string).collect();
        let shown = format!(
            "{} {}: {} | {} | {}",
            condition.status,
            condition.reason,
            condition.message,
            addon.spec.checksum,
            objects.join(",")
        );
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_file_says_what_has_come_of_it() {
        let a = || outcome("v1 Secret x/a", None);
        check(vec![a()], vec![], "True Applied: 1 object applied | sum | Secret x/a");
        check(vec![], vec![], "True Applied: 0 objects applied | sum | ");
        check(vec![a(), outcome("v1 Pod x/b", failed("no"))], vec![], {
            "False ApplyFailed: Pod x/b: no |  | Secret x/a,Pod x/b"
        });
        check(vec![outcome("a.com/v1 Kite b", Some(Problem::NoKind))], vec![], {
            "False Waiting: Kite b: no Kite of a.com/v1 is served yet |  | Kite b"
        });
        let disputed = Some(Problem::Disputed { owner: "other".to_owned() });
        check(vec![a(), outcome("v1 Pod x/b", disputed)], vec![], {
            "False Disputed: Pod x/b: it belongs to the AddOn other |  | Secret x/a"
        });
        check(vec![a()], vec![outcome("v1 Pod x/b", failed("no"))], {
            "False PruneFailed: Pod x/b: no |  | Secret x/a,Pod x/b"
        });
    }

    #[test]
    fn what_waits_to_be_pruned_is_remembered() {
        check(
            vec![outcome("v1 Pod x/a", failed("no"))],
            vec![outcome("v1 Pod x/b", None)],
            "False ApplyFailed: Pod x/a: no; 1 object that went from the file will be pruned when all \
             of it is applied |  | Pod x/a,Pod x/b",
        );
    }

    #[test]
    fn what_is_said_has_a_limit() {
        let all: Vec<_> = (0..200)
            .map(|number| outcome(&format!("v1 Pod x/p{number}"), failed(&"ä".repeat(1_000))))
            .collect();
        let all = Outcomes { applied: all, left: Vec::new() };
        let addon = concluded(&AddOn::new("web", "web.yaml"), "sum", &all, at(1));
        let message = &addon.applied().unwrap().message;
        assert!(message.ends_with("...; and 195 more") && message.len() < 3_000, "{message}");
        let messages = addon.status.objects.iter().filter(|listed| listed.message.is_some());
        assert_eq!(messages.count(), MESSAGES_MAX);
    }

    #[test]
    fn nothing_is_written_where_nothing_is_new() {
        let all = Outcomes { applied: vec![outcome("v1 Pod x/a", None)], left: Vec::new() };
        let first = concluded(&AddOn::new("web", "web.yaml"), "sum", &all, at(1));
        assert_eq!(concluded(&first, "sum", &all, at(2)), first);
        let begun = begun(&first, &[id("v1 Pod x/a")], at(2));
        assert_eq!(begun, first);
        let broken = complained(&first, "line 1", at(3));
        assert_eq!(complained(&broken, "line 1", at(4)), broken);
        assert_eq!(broken.objects().count(), 1, "what was made is remembered");
        assert_eq!(broken.applied().unwrap().last_transition_time, Time(at(3)));
        let broken = complained(&broken, "line 2", at(5));
        assert_eq!(broken.applied().unwrap().last_transition_time, Time(at(3)));
        assert_eq!(broken.status.observed_time, Some(Time(at(5))));
    }

    #[test]
    fn what_may_be_made_is_remembered_before_it_is() {
        let addon = begun(&AddOn::new("web", "web.yaml"), &[id("v1 Pod x/a")], at(1));
        assert_eq!(addon.objects().count(), 1);
        assert_eq!(addon.applied().unwrap().reason, "Applying");
    }
}
