//! What the golden files of the rules say is what nft takes, step by step.

use crate::rig::{on_a_node, run};
use kinglet::sys::nft_text;
use std::fs;

#[test]
fn nft_takes_every_step() {
    on_a_node(async |mut node| {
        node.stop_proxy().await;
        let read = |name: &str| fs::read_to_string(format!("tests/golden/proxy/{name}")).unwrap();
        for entry in fs::read_dir("tests/golden/proxy").unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            kinglet::proxy::remove().await.unwrap();
            nft_text::run(read("base.nft")).await.unwrap();
            if name == "base.nft" {
                continue;
            }
            for step in read(&name).split_inclusive("\n# ") {
                let what = step.lines().next().unwrap_or_default();
                let script = format!("# {}", step.trim_end_matches("# "));
                nft_text::run(script).await.unwrap_or_else(|error| {
                    panic!("{name}, {what}: {error}");
                });
            }
        }
        run("nft", "list table inet kinglet-services").await;
    });
}
