//! The Common Expression Language as Kubernetes has it: rules of custom resources, conditions and
//! policies of admission.
//!
//! Start at [`Environment`], which turns a text into a [`Program`], and at [`evaluate()`]. A text goes
//! through `lexer`, `parser` (with `macros`), `checker` and `validators`; `estimate` says what it may
//! cost, `program` brings it into the form that `evaluate` walks. Language, libraries, words of errors
//! and costs are those of upstream's environment for expressions that are written to v1.35
//! (apiserver pkg/cel/environment, cel-go v0.26).
//!
//! Architecture invariant: pure. Documents are read where they are; nothing of them is copied
//! that an expression does not make. Whatever the text, reading, checking and evaluating it end
//! within limits that have names, and never panic.

mod ast;
mod authorizer;
mod call_cost;
mod checker;
mod compare;
mod cost;
mod declared;
mod environment;
mod escape;
mod estimate;
mod estimate_calls;
mod evaluate;
mod foreign;
mod functions;
mod lexer;
mod macros;
mod numbers;
mod parser;
mod program;
mod show;
mod signatures;
mod source;
#[cfg(test)]
mod tests;
mod times;
mod types;
mod unescape;
mod unify;
mod validators;
mod value;
mod view;

pub use authorizer::{Authorize, Decision, Question, Stage};
pub use cost::Range;
pub use declared::{Declared, Fields, ListKind, Object, Shape};
pub use environment::{CompileError, Environment};
pub use escape::{RESERVED, escape, unescape as unescape_name};
pub use evaluate::{Bindings, Budget, CALL_COST_MAX, Output, evaluate};
pub use foreign::Foreign;
pub use parser::EXPRESSION_CHARS_MAX;
pub use program::Program;
pub use source::Issues;
pub use types::{Param, Type};
pub use value::{Fault, List, Made, Map, Properties, Text, Value};
