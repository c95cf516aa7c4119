//! Who answers what: zones, each with its overrides, its own names, and the servers that know the
//! rest; and the decision about one question. Pure.
//!
//! Start at [`decide`].

use super::cluster::{self, Outcome, Question, Zone, address_of, address_record, record};
use super::hosts::Hosts;
use super::index::Index;
use super::message::Reply;
use super::names::{name_of, text_of, within};
use super::zone_text::{Told, ZoneText};
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::PTR;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// A name may be another one for a third; so often at most.
const ALIASES_MAX: usize = 10;

/// How long the name of a node may be kept, in seconds: as in k3s' Corefile.
const NODE_TTL: u32 = 60;

/// See the module. The longest zone that a name is in decides.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Routes {
    /// The longest zones first. The last is the root.
    blocks: Vec<Arc<Block>>,
}

/// What is known and done about a zone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Block {
    /// As text; the root is empty.
    pub(super) zone: String,
    pub(super) rewrites: Vec<Rewrite>,
    pub(super) hosts: Option<Hosts>,
    pub(super) texts: Vec<ZoneText>,
    /// In the order in which they are tried.
    pub(super) forwards: Vec<Arc<Forward>>,
    /// The longest time that answers of others are kept.
    pub(super) cache: CacheLife,
}

/// How long answers of others are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CacheLife(pub(super) Duration);

impl Default for CacheLife {
    /// As in the Corefile of k3s and of kubeadm: `cache 30`.
    fn default() -> Self {
        Self(Duration::from_secs(30))
    }
}

/// Servers that are asked about names of a zone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Forward {
    pub(super) zone: String,
    /// Zones below that are not asked about.
    pub(super) except: Vec<String>,
    pub(super) servers: Vec<SocketAddr>,
    pub(super) order: Order,
    pub(super) transport: AskBy,
}

/// Which server is asked first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Order {
    /// One after the other in turn.
    Turns,
    /// Always the first that answers, as a resolver reads its resolv.conf.
    #[default]
    AsWritten,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum AskBy {
    /// And by TCP where the answer is too long.
    #[default]
    Udp,
    Tcp,
}

/// Asks about another name in place of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rewrite {
    pub(super) part: Part,
    pub(super) from: String,
    pub(super) to: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Whole,
    /// Without the dot before it, if it is written so.
    End,
    Start,
}

impl Rewrite {
    fn apply(&self, text: &str) -> Option<String> {
        let Self { part, from, to } = self;
        match part {
            Part::Whole => (text == from).then(|| to.clone()),
            Part::End => Some(format!("{}{to}", text.strip_suffix(&**from)?)),
            Part::Start => Some(format!("{to}{}", text.strip_prefix(&**from)?)),
        }
    }
}

impl Forward {
    fn takes(&self, text: &str) -> bool {
        let is_excepted = |zone: &String| within(text, zone).is_some();
        within(text, &self.zone).is_some() && !self.except.iter().any(is_excepted)
    }
}

impl Routes {
    /// `root` is the block of the root; `others` are those of other zones.
    pub(super) fn new(root: Block, others: Vec<Block>) -> Self {
        let mut blocks: Vec<_> = others.into_iter().chain([root]).map(Arc::new).collect();
        blocks.sort_by_key(|block| std::cmp::Reverse(labels(&block.zone)));
        Self { blocks }
    }

    fn block(&self, text: &str) -> Option<&Arc<Block>> {
        self.blocks.iter().find(|block| within(text, &block.zone).is_some())
    }
}

fn labels(zone: &str) -> usize {
    if zone.is_empty() { 0 } else { zone.split('.').count() }
}

/// Everything that is known here.
#[derive(Clone, Copy, Debug)]
pub(super) struct World<'a> {
    pub(super) index: &'a Index,
    pub(super) zone: &'a Zone,
    pub(super) routes: &'a Routes,
}

/// What is to be done about a question.
#[derive(Debug)]
pub(super) enum Decision {
    Reply(Reply),
    Ask(Box<Ask>),
}

/// A question for others.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    /// What is known of the way to the name that is asked about: other names for it.
    pub(super) aliases: Vec<Record>,
    pub(super) name: Name,
    pub(super) text: String,
    pub(super) kind: RecordType,
    pub(super) forward: Arc<Forward>,
    pub(super) cache: CacheLife,
    pub(super) renamed: Option<Renamed>,
}

/// The answer about one name is to be about another.
#[derive(Clone, Debug)]
pub(super) struct Renamed {
    from: Name,
    to: Name,
}

impl Renamed {
    pub(super) fn apply(&self, reply: &mut Reply) {
        for record in &mut reply.answers {
            if record.name == self.from {
                record.name = self.to.clone();
            }
        }
    }
}

/// What one look at one name comes to.
enum Looked {
    Reply(Reply),
    Alias(Box<Record>, Name),
    Ask(Arc<Forward>, CacheLife),
}

/// `turn` differs from one question to the next.
pub(super) fn decide(world: World<'_>, question: &Question<'_>, turn: usize) -> Decision {
    let kind = question.kind;
    let mut aliases = Vec::new();
    let (mut name, mut text) = (question.name.clone(), question.text.to_owned());
    let mut renamed = None;
    if let Some(other) = rewritten(world.routes, &text) {
        let Some(from) = name_of(&other) else { return refused() };
        renamed = Some(Renamed { from: from.clone(), to: name });
        (name, text) = (from, other);
    }
    loop {
        let question = Question { name: &name, text: &text, kind };
        match look(world, &question, turn) {
            Looked::Reply(mut reply) => {
                aliases.append(&mut reply.answers);
                reply.answers = aliases;
                if let Some(renamed) = &renamed {
                    renamed.apply(&mut reply);
                }
                return Decision::Reply(reply);
            }
            Looked::Ask(forward, cache) => {
                return Decision::Ask(Box::new(Ask {
                    aliases,
                    name,
                    text,
                    kind,
                    forward,
                    cache,
                    renamed,
                }));
            }
            Looked::Alias(_, _) if aliases.len() >= ALIASES_MAX => return refused(),
            Looked::Alias(record, target) => {
                aliases.push(*record);
                text = text_of(&target);
                name = target;
            }
        }
    }
}

fn refused() -> Decision {
    Decision::Reply(Reply::of(ResponseCode::ServFail))
}

fn rewritten(routes: &Routes, text: &str) -> Option<String> {
    let block = routes.block(text)?;
    block.rewrites.iter().find_map(|rewrite| rewrite.apply(text))
}

/// Overrides, then the cluster, then own zones, then other servers.
fn look(world: World<'_>, question: &Question<'_>, turn: usize) -> Looked {
    let Some(block) = world.routes.block(question.text) else {
        return Looked::Reply(Reply::of(ResponseCode::Refused));
    };
    if let Some(reply) = block.hosts.as_ref().and_then(|hosts| hosts.answer(question, turn)) {
        return Looked::Reply(reply);
    }
    if block.zone.is_empty() {
        match of_cluster(world, question, turn) {
            Outcome::Elsewhere => {}
            outcome => return said(outcome),
        }
        if let Some(reply) = of_nodes(world.index, question) {
            return Looked::Reply(reply);
        }
    }
    if let Some(found) = block.texts.iter().find_map(|text| text.answer(question)) {
        return match found {
            Told::Reply(reply) => Looked::Reply(reply),
            Told::Alias(record, target) => Looked::Alias(record, target),
        };
    }
    match block.forwards.iter().find(|forward| forward.takes(question.text)) {
        Some(forward) => Looked::Ask(Arc::clone(forward), block.cache),
        None => Looked::Reply(Reply::of(ResponseCode::Refused)),
    }
}

fn of_cluster(world: World<'_>, question: &Question<'_>, turn: usize) -> Outcome {
    match cluster::answer(world.index, world.zone, question, turn) {
        Outcome::Elsewhere => match address_of(question.text) {
            Some(address) => cluster::answer_reverse(world.index, world.zone, question, address),
            None => Outcome::Elsewhere,
        },
        outcome => outcome,
    }
}

fn said(outcome: Outcome) -> Looked {
    let negative = |code, authority| Reply {
        code,
        is_authoritative: true,
        authorities: vec![authority],
        ..Reply::default()
    };
    Looked::Reply(match outcome {
        Outcome::Found { answers, additional } => {
            Reply { is_authoritative: true, answers, additional, ..Reply::default() }
        }
        Outcome::Alias { record, target } => return Looked::Alias(record, target),
        Outcome::NoData(authority) => negative(ResponseCode::NoError, *authority),
        Outcome::NoName(authority) => negative(ResponseCode::NXDomain, *authority),
        Outcome::NotReady | Outcome::Elsewhere => Reply::of(ResponseCode::ServFail),
    })
}

/// Nodes by their names, and the names of their addresses.
fn of_nodes(index: &Index, question: &Question<'_>) -> Option<Reply> {
    let mut answers = Vec::new();
    if let Some(addresses) = index.node(question.text) {
        let taken = addresses.iter().filter(|address| question.takes(**address));
        answers
            .extend(taken.map(|address| address_record(question.name.clone(), NODE_TTL, *address)));
    } else {
        let node = address_of(question.text).and_then(|address| index.node_with(address))?;
        if question.kind == RecordType::PTR {
            answers.extend(record(question, NODE_TTL, node, |name| RData::PTR(PTR(name))));
        }
    }
    Some(Reply { is_authoritative: true, answers, ..Reply::default() })
}
