//! Sets, maps and their elements, and the expressions that ask connection tracking.

use super::{Batch, Expr, NfCmd, NfListObject, SetType, Stmt};
use nftables::expr::{CT, CTDir, Expression, Range, SetItem};
use nftables::schema::Element;
use nftables::stmt::{JumpTarget, Match, Operator, Statement, VerdictMap};
use nftables::types::NfFamily;
use serde_json::json;

/// What members of a set are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetKind {
    /// Single values.
    Values,
    /// Ranges that do not overlap.
    Ranges,
}

/// What a map of verdicts has for a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Accept,
    /// Go to this chain and do not come back.
    Goto(String),
}

impl Batch {
    /// A set of values, or of tuples where there are several types.
    pub fn add_set(&mut self, name: &str, types: &[SetType], kind: SetKind) {
        let flags: &[&str] = match kind {
            SetKind::Values => &[],
            SetKind::Ranges => &["interval"],
        };
        let mut set = json!({
            "family": "inet",
            "table": self.table,
            "name": name,
            "type": type_of(types),
        });
        if !flags.is_empty() {
            set["flags"] = json!(flags);
        }
        self.commands.push(json!({"add": {"set": set}}));
    }

    /// A map from single keys to verdicts.
    pub fn add_map_of(&mut self, name: &str, key: SetType) {
        self.commands.push(json!({"add": {"map": {
            "family": "inet",
            "table": self.table,
            "name": name,
            "type": type_of(&[key]),
            "map": "verdict",
        }}}));
    }

    /// Makes a set empty; it has to be there.
    pub fn flush_set(&mut self, name: &str) {
        let set = json!({"family": "inet", "table": self.table, "name": name});
        self.commands.push(json!({"flush": {"set": set}}));
    }

    /// Nothing may refer to the set any more.
    pub fn delete_set(&mut self, name: &str) {
        let set = json!({"family": "inet", "table": self.table, "name": name});
        self.commands.push(json!({"delete": {"set": set}}));
    }

    /// Adds members to a set or pairs to a map. None are no command at all.
    pub fn add_elements(&mut self, set: &str, elements: Vec<Expr>) {
        if !elements.is_empty() {
            let elements = self.elements(set, elements);
            self.push(NfCmd::Add(NfListObject::Element(elements)));
        }
    }

    /// Adds pairs to a map of verdicts. None are no command at all.
    pub fn add_verdicts(&mut self, map: &str, pairs: &[(Expr, Target)]) {
        if pairs.is_empty() {
            return;
        }
        // The crate has no way to say `accept` as a value.
        let pairs = pairs.iter().map(|(key, target)| match target {
            Target::Accept => json!([key, {"accept": null}]),
            Target::Goto(chain) => json!([key, {"goto": {"target": chain}}]),
        });
        self.commands.push(json!({"add": {"element": {
            "family": "inet",
            "table": self.table,
            "name": map,
            "elem": pairs.collect::<Vec<_>>(),
        }}}));
    }

    /// Removes members of a set, or pairs of a map by their keys. They have to be there.
    pub fn delete_elements(&mut self, set: &str, elements: Vec<Expr>) {
        if !elements.is_empty() {
            let elements = self.elements(set, elements);
            self.push(NfCmd::Delete(NfListObject::Element(elements)));
        }
    }

    fn elements(&self, set: &str, elements: Vec<Expr>) -> Element<'static> {
        Element {
            family: NfFamily::INet,
            table: self.table.into(),
            name: set.to_owned().into(),
            elem: elements.into(),
        }
    }
}

fn type_of(types: &[SetType]) -> serde_json::Value {
    match types {
        [one] => json!(one),
        several => json!(several),
    }
}

/// A field of the connection that a packet belongs to, as its first packet had it when it came:
/// before any address was translated.
#[must_use]
pub fn original(field: &str) -> Expr {
    connection(field, CTDir::Original)
}

/// A field of the connection, as its answers have it when they come: those of the server that it was
/// sent to in the end.
#[must_use]
pub fn reply(field: &str) -> Expr {
    connection(field, CTDir::Reply)
}

fn connection(field: &str, direction: CTDir) -> Expr {
    let key = field.to_owned().into();
    Expression::Named(super::NamedExpression::CT(CT { key, family: None, dir: Some(direction) }))
}

/// The packet is in one of these states of connection tracking.
#[must_use]
pub fn in_state(states: &[&'static str]) -> Stmt {
    let key = "state".into();
    let state = Expression::Named(super::NamedExpression::CT(CT { key, family: None, dir: None }));
    let states = states.iter().map(|state| super::text(*state)).collect();
    Statement::Match(Match { left: state, right: Expression::List(states), op: Operator::IN })
}

/// Both ends included.
#[must_use]
pub fn numbers(first: u16, last: u16) -> Expr {
    if first == last {
        return super::number(u32::from(first));
    }
    let range = [first, last].map(|number| super::number(u32::from(number)));
    Expression::Range(Box::new(Range { range }))
}

/// One of these.
#[must_use]
pub fn any_of(values: &[&'static str]) -> Expr {
    let items = values.iter().map(|value| SetItem::Element(super::text(*value))).collect();
    Expression::Named(super::NamedExpression::Set(items))
}

/// The members of a set, where a value is compared with it.
#[must_use]
pub fn members(set: &str) -> Expr {
    super::text(format!("@{set}"))
}

/// Does what a map of single keys says, and goes on where it says nothing.
#[must_use]
pub fn decide_by(key: Expr, map: &str) -> Stmt {
    Statement::VerdictMap(VerdictMap { key, data: members(map) })
}

/// Goes to a chain and comes back where that decides nothing.
#[must_use]
pub fn jump_to(chain: &str) -> Stmt {
    Statement::Jump(JumpTarget { target: chain.to_owned().into() })
}

/// Ends this base chain; others still see the packet.
#[must_use]
pub fn accept() -> Stmt {
    Statement::Accept(None)
}
