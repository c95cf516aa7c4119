//! Overrides and further zones in the language that coredns' users know: the texts of a ConfigMap
//! `coredns-custom`, as k3s takes them. `*.override` is read into the zone of everything,
//! `*.server` has zones of its own; other keys are files that these name. Pure.
//!
//! Start at [`read`].

mod plan;
mod syntax;
#[cfg(test)]
mod tests;

use super::routes::{Block, Routes};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// What is wrong in one text.
#[derive(Clone, Debug, PartialEq, Eq)]
struct BadCorefile {
    line: usize,
    reason: String,
}

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}, line {line}: {reason}")]
pub(super) struct BadCustom {
    file: String,
    line: usize,
    reason: String,
}

/// What a text may refer to.
#[derive(Clone, Copy, Debug)]
struct Context<'a> {
    /// The other keys of the ConfigMap.
    files: &'a BTreeMap<String, String>,
    /// The servers of the node's resolv.conf.
    node_servers: &'a [SocketAddr],
}

/// Who answers what, with the node's own servers for all that nobody else is named for.
pub(super) fn read(
    files: &BTreeMap<String, String>,
    node_servers: &[SocketAddr],
) -> Result<Routes, BadCustom> {
    let context = Context { files, node_servers };
    let (mut root, mut others) = (Block::default(), Vec::<Block>::new());
    for (file, text) in files {
        let bad = |BadCorefile { line, reason }| BadCustom { file: file.clone(), line, reason };
        if file.ends_with(".override") {
            let directives = syntax::parse(text).map_err(bad)?;
            plan::add_plugins(&mut root, &directives, context).map_err(bad)?;
        } else if file.ends_with(".server") {
            let directives = syntax::parse(text).map_err(bad)?;
            for server in &directives {
                plan::add_server(&mut others, server, context).map_err(bad)?;
            }
        }
    }
    root.forwards.push(plan::node_forward(node_servers));
    Ok(Routes::new(root, others))
}
