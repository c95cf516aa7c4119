//! What somebody takes away while pods run, and what a machine may lack.

use crate::support::eventually;
use crate::{Node, Pod, at, on_a_node, port_80_on, printed};
use kinglet::sys::nft_text;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

/// What a table has, in an order of its own: the kernel's is another each time.
pub(crate) async fn words(table: &str) -> Vec<String> {
    let tables = printed("nft", &["list", "tables"]).await;
    if !tables.contains(table) {
        return Vec::new();
    }
    let text = printed("nft", &["--stateless", "list", "table", "inet", table]).await;
    let mut words: Vec<_> =
        text.split_whitespace().map(|word| word.trim_end_matches(',').to_owned()).collect();
    words.sort_unstable();
    words
}

/// Does each of these to a table, and waits until it is as before.
pub(crate) async fn is_made_again_after(table: &str, commands: &[&str]) {
    let before = words(table).await;
    for command in commands {
        printed("nft", &[command]).await;
        eventually(command, async || (words(table).await == before).then_some(())).await;
    }
}

/// Deletes the first rule of a chain.
pub(crate) async fn delete_rule(table: &str, chain: &str) -> String {
    let listed = printed("nft", &["--handle", "list", "chain", "inet", table, chain]).await;
    let rule = listed.lines().find(|line| line.contains("# handle") && !line.contains("chain "));
    let handle = rule.unwrap().rsplit(' ').next().unwrap().to_owned();
    format!("delete rule inet {table} {chain} handle {handle}")
}

#[test]
fn rules_that_somebody_changes_are_written_again() {
    on_a_node(async |directory| {
        let node = Node::start(&directory).await;
        let server = node.add_pod("server", vec![port_80_on(8080)]).await;
        let client = node.add_pod("client", vec![]).await;
        let deletion = delete_rule("kinglet-network", "postrouting").await;
        is_made_again_after(
            "kinglet-network",
            &[
                &deletion,
                "delete element inet kinglet-network host-ports { tcp . 8080 }",
                "flush chain inet kinglet-network host-tcp-8080-ip",
                "delete chain inet kinglet-network postrouting",
                "flush chain inet kinglet-network dispatch; \
                 delete map inet kinglet-network host-ports-ip6",
                "flush table inet kinglet-network",
                "add rule inet kinglet-network prerouting drop",
                "delete table inet kinglet-network",
                "flush ruleset",
            ],
        )
        .await;
        server.serve_once(80, at("10.42.0.1".parse().unwrap(), 8080), Some(&client));
    });
}

#[test]
fn a_bridge_that_somebody_deletes_is_made_again_with_all_pods() {
    on_a_node(async |directory| {
        let node = Node::start(&directory).await;
        let a = node.add_pod("a", vec![port_80_on(8080)]).await;
        let b = node.add_pod("b", vec![]).await;
        for command in [
            "link delete kinglet0",
            "link set kinglet0 down",
            "addr del 10.42.0.1/24 dev kinglet0",
            "addr del fd42::1/64 dev kinglet0",
            "link delete vetha0123456789",
        ] {
            let arguments: Vec<_> = command.split(' ').collect();
            let before = state().await;
            printed("ip", &arguments).await;
            eventually(command, async || (state().await == before).then_some(())).await;
            // Interfaces are there before what is inside pods is; what makes it runs on this thread, too.
            eventually(command, async || are_reached(&a, &b).then_some(())).await;
            is_connected(&a, &b);
        }
        // What kinglet itself takes away stays away.
        node.remove_pod("a").await;
        node.remove_pod("b").await;
        node.network.remove().await.unwrap();
        assert_eq!(printed("ip", &["-o", "link", "show"]).await.lines().count(), 1);
    });
}

/// Whether packets come to both.
fn are_reached(a: &Pod, b: &Pod) -> bool {
    let all = a.addresses.iter().map(|address| (a, *address, Some(b)));
    let all = all.chain(b.addresses.iter().map(|address| (b, *address, None)));
    all.into_iter().all(|(pod, address, client)| pod.is_reached(80, at(address, 80), client))
}

fn is_connected(a: &Pod, b: &Pod) {
    for (family, gateway) in ["10.42.0.1", "fd42::1"].into_iter().enumerate() {
        a.serve_once(80, at(a.addresses[family], 80), Some(b));
        b.serve_once(80, at(b.addresses[family], 80), None);
        if family == 0 {
            a.serve_once(80, at(gateway.parse().unwrap(), 8080), Some(b));
        }
    }
}

/// The addresses of the bridge and the interfaces on it.
async fn state() -> [Vec<String>; 2] {
    let lines = |text: String| {
        let words = |line: &str| {
            let line = line.split_once(": ").map_or(line, |(_, line)| line);
            line.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
        };
        let mut lines: Vec<_> = text.lines().map(words).collect();
        lines.sort_unstable();
        lines
    };
    let addresses = printed("ip", &["-o", "addr", "show", "up", "scope", "global"]).await;
    let ports = printed("ip", &["-br", "link", "show", "type", "veth", "up"]).await;
    let on_bridge = printed("bridge", &["link", "show"]).await;
    let joined = on_bridge.lines().filter(|line| line.contains("master kinglet0")).count();
    let names = ports.lines().filter_map(|line| line.split('@').next());
    let mut names: Vec<_> = names.map(str::to_owned).collect();
    names.push(format!("{joined} on the bridge"));
    // In the order in which they were made.
    names.sort_unstable();
    [lines(addresses), names]
}

#[test]
fn rules_are_written_where_nobody_has_made_devices() {
    on_a_node(async |directory| {
        // A thread's own mounts, and those of the programs that it starts.
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        mount(Some("tmpfs"), "/dev", Some("tmpfs"), MsFlags::empty(), none).unwrap();
        mknod("/dev/null", SFlag::S_IFCHR, Mode::from_bits_retain(0o666), makedev(1, 3)).unwrap();
        let _node = Node::start(&directory).await;
        nft_text::run("add table inet by-text\n".to_owned()).await.unwrap();
        let tables = printed("nft", &["list", "tables"]).await;
        assert!(tables.contains("by-text") && tables.contains("kinglet-network"), "{tables}");
    });
}
