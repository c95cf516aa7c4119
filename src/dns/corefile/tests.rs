//! Texts as people have them in `coredns-custom`.

use super::*;
use crate::dns::cluster::Question;
use crate::dns::cluster::tests::{index, zone};
use crate::dns::names::{name_of, text_of};
use crate::dns::routes::{AskBy, Decision, Order, World, decide};
use hickory_proto::rr::RecordType;

const NODE_SERVERS: &str = "192.0.2.53:53";

fn routes(files: &[(&str, &str)]) -> Result<Routes, BadCustom> {
    let files = files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
    read(&files.collect(), &[NODE_SERVERS.parse().unwrap()])
}

/// What becomes of a question: `asks ...`, or the code and the answers.
fn told(routes: &Routes, question: &str) -> String {
    let (name, kind) = question.rsplit_once(' ').unwrap();
    let name = name_of(name).unwrap();
    let (text, kind) = (text_of(&name), kind.parse::<RecordType>().unwrap());
    let question = Question { name: &name, text: &text, kind };
    let (index, zone) = (index(), zone());
    match decide(World { index: &index, zone: &zone, routes }, &question, 0) {
        Decision::Reply(reply) => {
            let answers: Vec<_> = reply.answers.iter().map(|it| it.data.to_string()).collect();
            format!("{:?} {}", reply.code, answers.join(", ")).trim_end().to_owned()
        }
        Decision::Ask(ask) => {
            let servers: Vec<_> = ask.forward.servers.iter().map(ToString::to_string).collect();
            let aliases = if ask.aliases.is_empty() { "" } else { " as an alias" };
            let order = if ask.forward.order == Order::Turns { "" } else { " in order" };
            let by = if ask.forward.transport == AskBy::Tcp { " by tcp" } else { "" };
            let seconds = ask.cache.0.as_secs();
            format!("asks {} for {seconds}{order}{by}{aliases}", servers.join(" "))
        }
    }
}

#[track_caller]
fn check(files: &[(&str, &str)], questions: &[(&str, &str)]) {
    let routes = routes(files).unwrap();
    for (question, expected) in questions {
        assert_eq!(told(&routes, question), *expected, "{question}");
    }
}

const WEB: (&str, &str) = ("web.shop.svc.cluster.local A", "NoError 10.43.0.5");

#[test]
fn without_a_word_the_node_s_servers_are_asked() {
    check(
        &[],
        &[
            WEB,
            ("example.org A", "asks 192.0.2.53:53 for 30 in order"),
            ("out.shop.svc.cluster.local A", "asks 192.0.2.53:53 for 30 in order as an alias"),
            ("in.shop.svc.cluster.local A", "NoError web.shop.svc.cluster.local., 10.43.0.5"),
            ("none.shop.svc.cluster.local A", "NXDomain"),
        ],
    );
}

#[test]
fn a_server_block_has_its_own_servers() {
    let stub = "corp.example:53 lan {\n  errors\n  cache 60\n  forward . 10.1.0.1 10.1.0.2:5353 {\n    \
                policy sequential\n    force_tcp\n    max_fails 3\n    except public.corp.example\n  }\n}\n";
    check(
        &[("corp.server", stub)],
        &[
            WEB,
            ("a.corp.example A", "asks 10.1.0.1:53 10.1.0.2:5353 for 60 in order by tcp"),
            ("CORP.example A", "asks 10.1.0.1:53 10.1.0.2:5353 for 60 in order by tcp"),
            ("a.lan A", "asks 10.1.0.1:53 10.1.0.2:5353 for 60 in order by tcp"),
            ("x.public.corp.example A", "Refused"),
            ("mycorp.example A", "asks 192.0.2.53:53 for 30 in order"),
        ],
    );
}

#[test]
fn an_override_extends_what_is_there() {
    let text = "log\nforward example.net 10.9.0.1\nforward . tcp.example\n";
    assert!(routes(&[("a.override", text)]).is_err());
    let text = "log\ncache 10\nforward example.net 10.9.0.1 10.9.0.2\n";
    check(
        &[("a.override", text)],
        &[
            WEB,
            ("a.example.net A", "asks 10.9.0.1:53 10.9.0.2:53 for 10"),
            ("example.org A", "asks 192.0.2.53:53 for 10 in order"),
        ],
    );
    let text = "forward . 1.1.1.1 8.8.8.8\n";
    check(&[("a.override", text)], &[("example.org A", "asks 1.1.1.1:53 8.8.8.8:53 for 30")]);
}

#[test]
fn hosts_come_before_everything() {
    let text = "hosts {\n  192.0.2.7 nas.lan nas\n  2001:db8::7 nas.lan\n  192.0.2.8 *.apps.lan\n  \
                192.0.2.9 web.shop.svc.cluster.local\n  ttl 60\n  fallthrough\n}\n";
    check(
        &[("hosts.override", text)],
        &[
            ("nas.lan A", "NoError 192.0.2.7"),
            ("NAS.lan AAAA", "NoError 2001:db8::7"),
            ("nas A", "NoError 192.0.2.7"),
            ("nas AAAA", "NoError"),
            ("one.apps.lan A", "NoError 192.0.2.8"),
            ("two.one.apps.lan A", "asks 192.0.2.53:53 for 30 in order"),
            ("7.2.0.192.in-addr.arpa PTR", "NoError nas., nas.lan."),
            ("web.shop.svc.cluster.local A", "NoError 192.0.2.9"),
            ("db.shop.svc.cluster.local A", "NoError 10.42.0.1, 10.42.0.2"),
        ],
    );
    let text = "lan:53 {\n hosts {\n 192.0.2.7 nas.lan\n }\n}\n";
    check(&[("h.server", text)], &[("nas.lan A", "NoError 192.0.2.7"), ("x.lan A", "ServFail")]);
}

#[test]
fn own_zones_are_answered() {
    let zone = "$ORIGIN lab.example.\n@ 3600 IN SOA ns.lab.example. admin.lab.example. 1 7200 3600 \
                1209600 300\nwww 60 IN A 192.0.2.1\nwww 60 IN A 192.0.2.2\nalias IN 60 CNAME www\n\
                out 60 IN CNAME example.org.\n*.any 60 IN A 192.0.2.3\ndeep.er 60 IN TXT \"x\"\n";
    let server = "lab.example {\n file /etc/coredns/custom/lab.db\n forward . 10.1.0.1\n}\n";
    check(
        &[("lab.db", zone), ("lab.server", server)],
        &[
            ("www.lab.example A", "NoError 192.0.2.1, 192.0.2.2"),
            ("www.lab.example AAAA", "NoError"),
            ("alias.lab.example A", "NoError www.lab.example., 192.0.2.1, 192.0.2.2"),
            ("out.lab.example A", "asks 192.0.2.53:53 for 30 in order as an alias"),
            ("x.any.lab.example A", "NoError 192.0.2.3"),
            ("er.lab.example A", "NoError"),
            ("none.lab.example A", "NXDomain"),
        ],
    );
}

#[test]
fn names_are_rewritten() {
    let text = "rewrite name shop.example web.shop.svc.cluster.local\n\
                rewrite stop name suffix .old.example .shop.svc.cluster.local answer auto\n";
    let routes = routes(&[("r.override", text)]).unwrap();
    assert_eq!(told(&routes, "Shop.example A"), "NoError 10.43.0.5");
    assert_eq!(told(&routes, "web.old.example A"), "NoError 10.43.0.5");
    assert_eq!(told(&routes, "example A"), "asks 192.0.2.53:53 for 30 in order");
}

#[test]
fn what_is_wrong_is_told_by_line() {
    for (name, text, expected) in [
        ("a.override", "log\ntemplate IN A {\n}\n", "line 2: plugin template is not known here"),
        ("a.override", "hosts {\n fallthrough\n", "line 1: { without }"),
        ("a.override", "hosts {\n nas 192.0.2.1\n}\n", "line 2: no address with names"),
        (
            "a.override",
            "forward . tls://1.1.1.1\n",
            "line 1: tls://1.1.1.1 is no address of a server",
        ),
        ("a.override", "forward .\n", "line 1: forward needs one to 15 servers"),
        ("a.override", "file x.db\n", "line 1: the ConfigMap has no key x.db"),
        ("a.override", "cache 100000\n", "line 1: cache takes seconds, a day at most"),
        (
            "a.server",
            ".:53 {\n}\n",
            "line 1: the zone of everything is extended by a key *.override",
        ),
        ("a.server", "a.example:5353 {\n}\n", "line 1: a.example:5353: only port 53 is served"),
        ("a.server", "10.0.0.0/24 {\n}\n", "line 1: 10.0.0.0/24 is no zone"),
        ("a.server", "a {\n}\na {\n}\n", "line 3: the zone a has a block already"),
    ] {
        let error = routes(&[(name, text)]).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{name}, {expected}")), "{error}");
    }
    let includes = [("z.db", "$INCLUDE /etc/passwd\n"), ("z.server", "z {\n file z.db\n}\n")];
    let error = routes(&includes).unwrap_err().to_string();
    assert_eq!(error, "z.server, line 2: z.db: $INCLUDE is not supported");
}
