//! The node agent: makes the pods that are bound to this node real and says how they are.
//!
//! Start at [`pod`]: what is decided about one pod, and why.

pub mod container;
pub mod files;
pub mod images;
pub mod logs;
pub mod node;
pub mod pod;
pub mod volumes;
