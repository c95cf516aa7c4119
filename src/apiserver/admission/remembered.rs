//! What admission has read of objects that everybody is admitted by, remembered until somebody
//! writes them.
//!
//! Start at [`Remembered::recall`]. What is asked for is a key, or everything below a prefix; both
//! are forgotten when anything that belongs to them is written, before the writer has its answer
//! ([`guarded`](super::super::guarded)). So admission reads nothing while nothing changes, and is as
//! exact as if it read everything.

use super::super::guarded::Memory;
use super::facts::Fact;
use crate::storage::Key;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// With more answers than this, all are forgotten and read again as they are asked for.
const ANSWERS_MAX: usize = 4_096;

/// Kinds that admission asks for with every object of some kind, and that few write.
const PREFIXES: &[&str] = &[
    "/core/limitranges/",
    "/core/namespaces/",
    "/core/resourcequotas/",
    "/core/serviceaccounts/",
    "/networking.k8s.io/ingressclasses/",
    "/networking.k8s.io/servicecidrs/",
    "/node.k8s.io/runtimeclasses/",
    "/scheduling.k8s.io/priorityclasses/",
    "/storage.k8s.io/storageclasses/",
];

/// See the module.
#[derive(Debug, Default)]
pub(in super::super) struct Remembered(Mutex<State>);

/// What there is at a key or below a prefix.
pub(super) type Answer = Arc<[Fact]>;

#[derive(Debug, Default)]
struct State {
    /// By key, or by a prefix, which ends with a slash.
    known: HashMap<String, Answer>,
    /// What is being read.
    underway: HashMap<u64, String>,
    next: u64,
}

/// A reading under way. If something changes meanwhile, its result is not remembered.
struct Ticket<'a> {
    memory: &'a Remembered,
    number: u64,
}

impl Remembered {
    /// What there is at `question`: remembered, or as `read` says.
    pub(super) async fn recall<E>(
        &self,
        question: String,
        read: impl Future<Output = Result<Vec<Fact>, E>>,
    ) -> Result<Answer, E> {
        if !PREFIXES.iter().any(|prefix| question.starts_with(prefix)) {
            return Ok(read.await?.into());
        }
        if let Some(known) = self.get(&question) {
            return Ok(known);
        }
        let ticket = self.begin(question);
        let answer: Answer = read.await?.into();
        ticket.finish(&answer);
        Ok(answer)
    }

    fn get(&self, question: &str) -> Option<Answer> {
        let state = self.0.lock().expect("no panics under this lock");
        state.known.get(question).cloned()
    }

    /// To be called before anything is read.
    fn begin(&self, question: String) -> Ticket<'_> {
        let mut state = self.0.lock().expect("no panics under this lock");
        state.next += 1;
        let number = state.next;
        state.underway.insert(number, question);
        Ticket { memory: self, number }
    }
}

impl Memory for Remembered {
    fn prefixes(&self) -> &'static [&'static str] {
        PREFIXES
    }

    fn forget(&self, key: &Key) {
        let key = key.as_str();
        let mut state = self.0.lock().expect("no panics under this lock");
        state.underway.retain(|_, question| !is_about(question, key));
        state.known.remove(key);
        for (slash, _) in key.match_indices('/') {
            state.known.remove(&key[..=slash]);
        }
    }

    fn forget_all(&self) {
        let mut state = self.0.lock().expect("no panics under this lock");
        state.underway.clear();
        state.known.clear();
    }
}

fn is_about(question: &str, key: &str) -> bool {
    question == key || (question.ends_with('/') && key.starts_with(question))
}

impl Ticket<'_> {
    fn finish(self, answer: &Answer) {
        let mut state = self.memory.0.lock().expect("no panics under this lock");
        let Some(question) = state.underway.remove(&self.number) else { return };
        if state.known.len() >= ANSWERS_MAX {
            state.known.clear();
        }
        state.known.insert(question, Arc::clone(answer));
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut state = self.memory.0.lock().expect("no panics under this lock");
        state.underway.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::convert::Infallible;

    /// Whether `question` has to be read.
    async fn is_read(memory: &Remembered, question: &str) -> bool {
        let is_read = Cell::new(false);
        let read = async {
            is_read.set(true);
            Ok::<_, Infallible>(Vec::new())
        };
        memory.recall(question.to_owned(), read).await.unwrap();
        is_read.get()
    }

    #[tokio::test]
    async fn a_write_forgets_what_it_is_about_and_nothing_else() {
        const QUESTIONS: [&str; 4] = [
            "/core/limitranges/a/",
            "/core/limitranges/b/",
            "/core/namespaces/a",
            "/storage.k8s.io/storageclasses/",
        ];
        for (written, forgotten) in [
            ("/core/limitranges/a/x", &QUESTIONS[..1]),
            ("/core/namespaces/a", &QUESTIONS[2..3]),
            ("/core/namespaces/ab", &[]),
            ("/storage.k8s.io/storageclasses/fast", &QUESTIONS[3..]),
        ] {
            let memory = Remembered::default();
            for question in QUESTIONS {
                assert!(is_read(&memory, question).await);
                assert!(!is_read(&memory, question).await);
            }
            memory.forget(&Key::from(written));
            for question in QUESTIONS {
                let expected = forgotten.contains(&question);
                assert_eq!(is_read(&memory, question).await, expected, "{written} {question}");
            }
            memory.forget_all();
            assert!(is_read(&memory, QUESTIONS[0]).await);
        }
    }

    #[tokio::test]
    async fn what_changes_while_it_is_read_is_not_remembered() {
        let memory = Remembered::default();
        let question = "/core/limitranges/a/".to_owned();
        let read = async {
            memory.forget(&Key::from("/core/limitranges/a/x"));
            Ok::<_, Infallible>(Vec::new())
        };
        memory.recall(question.clone(), read).await.unwrap();
        assert!(is_read(&memory, &question).await);
        assert!(memory.0.lock().unwrap().underway.is_empty());
    }

    #[tokio::test]
    async fn other_kinds_are_not_remembered_and_there_is_a_limit() {
        let memory = Remembered::default();
        for _ in 0..2 {
            assert!(is_read(&memory, "/core/pods/a/").await);
        }
        for number in 0..=ANSWERS_MAX {
            is_read(&memory, &format!("/core/namespaces/{number}")).await;
        }
        assert_eq!(memory.0.lock().unwrap().known.len(), 1);
    }
}
