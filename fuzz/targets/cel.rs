//! Expressions that users write, compiled and evaluated over a small object.

#![no_main]

use kinglet::cel::{Environment, Type};
use kinglet::registry::custom::json_path::JsonPath;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    drop(JsonPath::parse(text));
    drop(Environment::default().with("self", Type::Dyn).compile(text));
});
