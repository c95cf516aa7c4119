//! What the plugins of a Corefile mean here. Pure.

use super::syntax::Directive;
use super::{BadCorefile, Context};
use crate::dns::hosts::{Hosts, Others};
use crate::dns::names;
use crate::dns::resolv_conf;
use crate::dns::routes::{AskBy, Block, CacheLife, Forward, Order, Part, Rewrite};
use crate::dns::zone_text::ZoneText;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Plugins that need no words here: what they do is always done, or is another part's business.
const ALWAYS: &[&str] = &[
    "errors",
    "log",
    "loop",
    "reload",
    "ready",
    "health",
    "prometheus",
    "loadbalance",
    "debug",
    "bufsize",
    "metadata",
    "minimal",
    "cancel",
    "pprof",
];

/// Options of `forward` that say how its connections are kept; here none are.
const FORWARD_IGNORED: &[&str] = &[
    "expire",
    "max_fails",
    "health_check",
    "max_concurrent",
    "max_idle_conns",
    "prefer_udp",
    "failover",
    "max_connect_attempts",
    "failfast_all_unhealthy_upstreams",
    "next",
];

/// coredns takes no more either.
const SERVERS_MAX: usize = 15;

/// No answer of others is kept for longer: a day.
const CACHE_SECONDS_MAX: u64 = 86_400;

/// The only port that is listened on.
const PORT: &str = "53";

type Result<T> = std::result::Result<T, BadCorefile>;

/// All names, asked of the node's own servers.
pub(super) fn node_forward(servers: &[SocketAddr]) -> Arc<Forward> {
    Arc::new(Forward { servers: servers.to_vec(), ..Forward::default() })
}

/// A server block: its zones, with what is done about them.
pub(super) fn add_server(
    blocks: &mut Vec<Block>,
    server: &Directive,
    context: Context<'_>,
) -> Result<()> {
    let Some(plugins) = &server.block else { return Err(server.bad("a zone without a block")) };
    let mut block = Block::default();
    let keys = server.words.iter().flat_map(|word| word.split(',')).filter(|key| !key.is_empty());
    let zones: Result<Vec<_>> = keys.map(|key| zone_of_key(server, key)).collect();
    let zones = zones?;
    block.zone = zones.first().cloned().unwrap_or_default();
    add_plugins(&mut block, plugins, context)?;
    for zone in zones {
        if zone.is_empty() {
            return Err(server.bad("the zone of everything is extended by a key *.override"));
        }
        if blocks.iter().any(|known| known.zone == zone) {
            return Err(server.bad(format!("the zone {zone} has a block already")));
        }
        blocks.push(Block { zone, ..block.clone() });
    }
    Ok(())
}

/// `example.org`, `example.org:53`, `dns://example.org.:53`
fn zone_of_key(server: &Directive, key: &str) -> Result<String> {
    let plain = key.strip_prefix("dns://").unwrap_or(key);
    let (zone, port) = plain.rsplit_once(':').unwrap_or((plain, PORT));
    if port != PORT {
        return Err(server.bad(format!("{key}: only port {PORT} is served")));
    }
    let zone = names::parse(zone).filter(|zone| !zone.contains("\\047"));
    zone.ok_or_else(|| server.bad(format!("{key} is no zone")))
}

/// Adds what the plugins say to a block.
pub(super) fn add_plugins(
    block: &mut Block,
    plugins: &[Directive],
    context: Context<'_>,
) -> Result<()> {
    for plugin in plugins {
        match plugin.name() {
            "forward" => block.forwards.push(Arc::new(forward(plugin, context)?)),
            "hosts" if block.hosts.is_some() => return Err(plugin.bad("hosts is there already")),
            "hosts" => block.hosts = Some(hosts(plugin)?),
            "cache" => block.cache = cache(plugin)?,
            "file" => zone_texts(block, plugin, context)?,
            "rewrite" => block.rewrites.push(rewrite(plugin)?),
            name if ALWAYS.contains(&name) => {}
            name => return Err(plugin.bad(format!("plugin {name} is not known here"))),
        }
    }
    Ok(())
}

/// `forward FROM TO... { }`
fn forward(plugin: &Directive, context: Context<'_>) -> Result<Forward> {
    let [from, to @ ..] = plugin.arguments() else {
        return Err(plugin.bad("forward needs a zone and servers"));
    };
    let zone = names::parse(from).ok_or_else(|| plugin.bad(format!("{from} is no zone")))?;
    let mut forward = Forward { zone, order: Order::Turns, ..Forward::default() };
    for server in to {
        let plain = server.strip_prefix("dns://").unwrap_or(server);
        if plain.starts_with('/') {
            // Whichever file it is: the node's own servers are meant.
            forward.servers.extend(context.node_servers);
            forward.order = Order::AsWritten;
        } else {
            let known = resolv_conf::server(plain);
            let reason =
                || format!("{server} is no address of a server that is asked by UDP or TCP");
            forward.servers.push(known.ok_or_else(|| plugin.bad(reason()))?);
        }
    }
    if to.is_empty() || forward.servers.len() > SERVERS_MAX {
        return Err(plugin.bad(format!("forward needs one to {SERVERS_MAX} servers")));
    }
    for option in plugin.inside() {
        add_option(&mut forward, option)?;
    }
    Ok(forward)
}

fn add_option(forward: &mut Forward, option: &Directive) -> Result<()> {
    match (option.name(), option.arguments()) {
        ("except", zones) => forward.except.extend(self::zones(option, zones)?),
        ("force_tcp", []) => forward.transport = AskBy::Tcp,
        ("policy", [order]) => {
            forward.order = match order.as_str() {
                "random" | "round_robin" => Order::Turns,
                "sequential" => Order::AsWritten,
                _ => return Err(option.bad(format!("policy {order} is not known"))),
            };
        }
        (name, _) if FORWARD_IGNORED.contains(&name) => {}
        (name, _) => return Err(option.bad(format!("option {name} of forward is not known here"))),
    }
    Ok(())
}

/// `hosts [FILE [ZONES...]] { ADDRESS NAME... ttl SECONDS no_reverse fallthrough [ZONES...] }`
fn hosts(plugin: &Directive) -> Result<Hosts> {
    if !plugin.arguments().is_empty() {
        return Err(plugin.bad("hosts takes its lines in braces, and no file"));
    }
    let mut hosts = Hosts::default();
    for line in plugin.inside() {
        match (line.name(), line.arguments()) {
            ("ttl", [seconds]) => {
                let seconds = seconds.parse().ok();
                hosts.ttl = seconds.ok_or_else(|| line.bad("ttl is a number of seconds"))?;
            }
            ("no_reverse", []) => hosts.reverse = false,
            ("reload", _) => {}
            ("fallthrough", []) => hosts.others = Others::Next,
            ("fallthrough", zones) => hosts.others = Others::NextFor(self::zones(line, zones)?),
            (address, names) => {
                let added = hosts.add(address, names);
                added.ok_or_else(|| line.bad("no address with names"))?;
            }
        }
    }
    Ok(hosts)
}

/// `cache [SECONDS] [ZONES...] { success CAPACITY [SECONDS] denial ... }`
fn cache(plugin: &Directive) -> Result<CacheLife> {
    let life = match plugin.arguments().first() {
        None => CacheLife::default(),
        Some(seconds) => {
            let seconds = seconds.parse().ok().filter(|it| (1..=CACHE_SECONDS_MAX).contains(it));
            let seconds =
                seconds.ok_or_else(|| plugin.bad("cache takes seconds, a day at most"))?;
            CacheLife(Duration::from_secs(seconds))
        }
    };
    for option in plugin.inside() {
        // What is asked often is always fetched in time, and old answers stand in for missing ones.
        let known = ["success", "denial", "prefetch", "serve_stale", "servfail", "keepttl"];
        if !known.contains(&option.name()) {
            return Err(option.bad(format!("option {} of cache is not known", option.name())));
        }
    }
    Ok(life)
}

/// `file KEY [ZONES...]`; the file is a key of the ConfigMap.
fn zone_texts(block: &mut Block, plugin: &Directive, context: Context<'_>) -> Result<()> {
    let [path, zones @ ..] = plugin.arguments() else {
        return Err(plugin.bad("file needs the name of a key"));
    };
    let key = path.rsplit('/').next().unwrap_or(path);
    let Some(text) = context.files.get(key) else {
        return Err(plugin.bad(format!("the ConfigMap has no key {key}")));
    };
    let mut zones = self::zones(plugin, zones)?;
    if zones.is_empty() {
        zones.push(block.zone.clone());
    }
    for zone in zones {
        let parsed = ZoneText::parse(&zone, text);
        block.texts.push(parsed.map_err(|error| plugin.bad(format!("{key}: {error}")))?);
    }
    Ok(())
}

/// `rewrite [continue|stop] name [exact|suffix|prefix] FROM TO [answer auto]`
fn rewrite(plugin: &Directive) -> Result<Rewrite> {
    let words: Vec<&str> = plugin.arguments().iter().map(String::as_str).collect();
    let words = words.strip_suffix(&["answer", "auto"]).unwrap_or(&words);
    let words = match words {
        ["stop" | "continue", rest @ ..] => rest,
        all => all,
    };
    let (part, from, to) = match words {
        ["name", "exact", from, to] => (Part::Whole, *from, *to),
        ["name", "suffix", from, to] => (Part::End, *from, *to),
        ["name", "prefix", from, to] => (Part::Start, *from, *to),
        ["name", from, to] => (Part::Whole, *from, *to),
        _ => return Err(plugin.bad("rewrite takes: name [exact|suffix|prefix] FROM TO")),
    };
    let plain = |text: &str| match part {
        Part::Whole => names::parse(text),
        Part::End => Some(text.trim_end_matches('.').to_ascii_lowercase()),
        Part::Start => Some(text.to_ascii_lowercase()),
    };
    match (plain(from), plain(to)) {
        (Some(from), Some(to)) if !from.is_empty() => Ok(Rewrite { part, from, to }),
        _ => Err(plugin.bad("rewrite takes names")),
    }
}

fn zones(directive: &Directive, zones: &[String]) -> Result<Vec<String>> {
    let zone = |zone: &String| {
        names::parse(zone).ok_or_else(|| directive.bad(format!("{zone} is no zone")))
    };
    zones.iter().map(zone).collect()
}
