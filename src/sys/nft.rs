//! nftables: a batch of commands in one transaction, and the expressions they are made of.
//!
//! Start at [`Batch`], which is plain data, and [`Author`], which hands it to the `nft` program and hears
//! when others change the same table. The types are the `nftables` crate's; this file gives them short constructors, and its own runner,
//! because the crate's loses nft's error text.

mod author;
mod elements;
mod heard;
mod version;

pub use author::Author;
pub use elements::{
    SetKind, Target, accept, any_of, decide_by, in_state, jump_to, members, numbers, original,
    reply,
};
pub use heard::{Heard, Others};
pub use version::{UnusableNft, ensure_usable};

use nftables::expr::{
    BinaryOperation, Expression, Fib, FibFlag, FibResult, Meta, MetaKey, NamedExpression, Payload,
    PayloadField, Prefix, Verdict,
};
use nftables::schema::{
    Chain, Element, FlushObject, NfCmd, NfListObject, NfObject, Rule, SetType, Table,
};
use nftables::stmt::{JumpTarget, Mangle, Match, NAT, NATFamily, Operator, Statement, VerdictMap};
use nftables::types::{NfChainPolicy, NfChainType, NfFamily, NfHook};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::net::IpAddr;

use super::process::ProcessError;

pub type Expr = Expression<'static>;
pub type Stmt = Statement<'static>;
pub use nftables::schema::SetType as Type;

/// Commands for one `inet` table, applied together or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    table: &'static str,
    commands: Vec<Value>,
}

/// Where in the packet's way a base chain sits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    pub kind: NfChainType,
    pub hook: NfHook,
    pub priority: i32,
}

impl Hook {
    /// Destination addresses of arriving packets, before routing.
    pub const NAT_PREROUTING: Self =
        Self { kind: NfChainType::NAT, hook: NfHook::Prerouting, priority: -100 };
    /// Destination addresses of the node's own packets.
    pub const NAT_OUTPUT: Self =
        Self { kind: NfChainType::NAT, hook: NfHook::Output, priority: -100 };
    /// Source addresses of leaving packets.
    pub const NAT_POSTROUTING: Self =
        Self { kind: NfChainType::NAT, hook: NfHook::Postrouting, priority: 100 };
    /// What the node passes on, with the addresses it is sent to in the end.
    pub const FILTER_FORWARD: Self =
        Self { kind: NfChainType::Filter, hook: NfHook::Forward, priority: 0 };
    /// What is for the node itself.
    pub const FILTER_INPUT: Self =
        Self { kind: NfChainType::Filter, hook: NfHook::Input, priority: 0 };
    /// What the node sends itself.
    pub const FILTER_OUTPUT: Self =
        Self { kind: NfChainType::Filter, hook: NfHook::Output, priority: 0 };
}

impl Batch {
    #[must_use]
    pub fn new(table: &'static str) -> Self {
        Self { table, commands: Vec::new() }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// Makes the table where it is missing.
    pub fn add_table(&mut self) {
        let table = self.table_object();
        self.push(NfCmd::Add(table));
    }

    /// Removes the table with all that is in it, whether it is there or not.
    pub fn delete_table(&mut self) {
        // Deleting what is missing is an error, and adding what is there is not.
        self.add_table();
        let table = self.table_object();
        self.push(NfCmd::Delete(table));
    }

    pub fn add_base_chain(&mut self, name: &'static str, hook: Hook) {
        let chain = Chain {
            _type: Some(hook.kind),
            hook: Some(hook.hook),
            prio: Some(hook.priority),
            policy: Some(NfChainPolicy::Accept),
            ..self.chain(name.to_owned())
        };
        self.push(NfCmd::Add(NfListObject::Chain(chain)));
    }

    pub fn add_chain(&mut self, name: &str) {
        let chain = self.chain(name.to_owned());
        self.push(NfCmd::Add(NfListObject::Chain(chain)));
    }

    /// Makes the chain empty; it has to be there.
    pub fn flush_chain(&mut self, name: &str) {
        let chain = self.chain(name.to_owned());
        self.push(NfCmd::Flush(FlushObject::Chain(chain)));
    }

    /// Nothing may refer to the chain any more.
    pub fn delete_chain(&mut self, name: &str) {
        let chain = self.chain(name.to_owned());
        self.push(NfCmd::Delete(NfListObject::Chain(chain)));
    }

    pub fn add_rule(&mut self, chain: &str, statements: Vec<Stmt>) {
        let rule = Rule {
            family: NfFamily::INet,
            table: self.table.into(),
            chain: chain.to_owned().into(),
            expr: statements.into(),
            ..Rule::default()
        };
        self.push(NfCmd::Add(NfListObject::Rule(rule)));
    }

    /// A map from concatenated keys to verdicts.
    pub fn add_verdict_map(&mut self, name: &'static str, keys: &'static [SetType]) {
        // The crate has no type for maps to verdicts.
        self.commands.push(json!({"add": {"map": {
            "family": "inet",
            "table": self.table,
            "name": name,
            "type": keys,
            "map": "verdict",
        }}}));
    }

    /// Has `map` lead `key` to `chain`.
    pub fn add_goto(&mut self, map: &'static str, key: Vec<Expr>, chain: &str) {
        let verdict = Verdict::Goto(JumpTarget { target: chain.to_owned().into() });
        let pair = Expression::List(vec![concat(key), Expression::Verdict(verdict)]);
        let element = self.element(map, pair);
        self.push(NfCmd::Add(NfListObject::Element(element)));
    }

    pub fn delete_key(&mut self, map: &'static str, key: Vec<Expr>) {
        let element = self.element(map, concat(key));
        self.push(NfCmd::Delete(NfListObject::Element(element)));
    }

    /// One command a line, as nft reads them: what golden tests compare.
    #[must_use]
    pub fn to_lines(&self) -> String {
        self.commands.iter().map(|command| format!("{command}\n")).collect()
    }

    fn push(&mut self, command: NfCmd<'static>) {
        let command = NfObject::CmdObject(command);
        self.commands.push(serde_json::to_value(command).expect("plain data serializes"));
    }

    fn table_object(&self) -> NfListObject<'static> {
        let table = Table { family: NfFamily::INet, name: self.table.into(), handle: None };
        NfListObject::Table(table)
    }

    fn chain(&self, name: String) -> Chain<'static> {
        Chain {
            family: NfFamily::INet,
            table: self.table.into(),
            name: name.into(),
            ..Chain::default()
        }
    }

    fn element(&self, set: &'static str, element: Expr) -> Element<'static> {
        Element {
            family: NfFamily::INet,
            table: self.table.into(),
            name: set.into(),
            elem: vec![element].into(),
        }
    }
}

/// Applies a batch in one transaction, on behalf of nobody who listens: see [`Author::apply`].
///
/// # Errors
/// Where nft is missing ([`ProcessError::Start`]) or refuses; nothing has changed then.
pub async fn apply(batch: &Batch) -> Result<(), ProcessError> {
    Author::default().apply(batch).await
}

#[must_use]
pub fn text(text: impl Into<String>) -> Expr {
    Expression::String(text.into().into())
}

#[must_use]
pub fn number(number: u32) -> Expr {
    Expression::Number(number)
}

#[must_use]
pub fn concat(parts: Vec<Expr>) -> Expr {
    Expression::Named(NamedExpression::Concat(parts))
}

#[must_use]
pub fn meta(key: MetaKey) -> Expr {
    Expression::Named(NamedExpression::Meta(Meta { key }))
}

/// A field of a packet header: `payload("ip", "saddr")`.
#[must_use]
pub fn payload(protocol: &'static str, field: &'static str) -> Expr {
    let field = PayloadField { protocol: protocol.into(), field: field.into() };
    Expression::Named(NamedExpression::Payload(Payload::PayloadField(field)))
}

/// The kind of the destination address: `local`, `unicast`, ...
#[must_use]
pub fn destination_type() -> Expr {
    let flags = HashSet::from([FibFlag::Daddr]);
    Expression::Named(NamedExpression::Fib(Fib { result: FibResult::Type, flags }))
}

#[must_use]
pub fn prefix(range: ipnet::IpNet) -> Expr {
    let addr = Box::new(text(range.network().to_string()));
    Expression::Named(NamedExpression::Prefix(Prefix { addr, len: u32::from(range.prefix_len()) }))
}

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    Ipv4,
    Ipv6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Ipv4, Self::Ipv6];

    /// That of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::Ipv4 } else { Self::Ipv6 }
    }

    /// `ip` or `ip6`: what packets of the family are called, and how our names of its sets end.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ipv4 => "ip",
            Self::Ipv6 => "ip6",
        }
    }
}

#[must_use]
pub fn equals(left: Expr, right: Expr) -> Stmt {
    Statement::Match(Match { left, right, op: Operator::EQ })
}

#[must_use]
pub fn differs(left: Expr, right: Expr) -> Stmt {
    Statement::Match(Match { left, right, op: Operator::NEQ })
}

#[must_use]
pub fn look_up(key: Vec<Expr>, map: &'static str) -> Stmt {
    Statement::VerdictMap(VerdictMap { key: concat(key), data: text(format!("@{map}")) })
}

#[must_use]
pub fn jump(chain: &'static str) -> Stmt {
    Statement::Jump(JumpTarget { target: chain.into() })
}

#[must_use]
pub fn drop() -> Stmt {
    Statement::Drop(None)
}

#[must_use]
pub fn masquerade() -> Stmt {
    Statement::Masquerade(None)
}

/// Sets bits of the packet's mark, which others use too.
#[must_use]
pub fn set_mark(bits: u32) -> Stmt {
    let value = BinaryOperation::OR(vec![meta(MetaKey::Mark), number(bits)]);
    let value = Expression::BinaryOperation(Box::new(value));
    Statement::Mangle(Mangle { key: meta(MetaKey::Mark), value })
}

/// Some of these bits of the packet's mark are set.
#[must_use]
pub fn has_mark(bits: u32) -> Stmt {
    let left = BinaryOperation::AND(meta(MetaKey::Mark), number(bits));
    differs(Expression::BinaryOperation(Box::new(left)), number(0))
}

/// Sends the packet to another address and port. The rule has to match a transport protocol first.
#[must_use]
pub fn dnat(address: IpAddr, port: u16) -> Stmt {
    let family = if address.is_ipv4() { NATFamily::IP } else { NATFamily::IP6 };
    Statement::DNAT(Some(NAT {
        addr: Some(text(address.to_string())),
        family: Some(family),
        port: Some(number(u32::from(port))),
        flags: None,
    }))
}
