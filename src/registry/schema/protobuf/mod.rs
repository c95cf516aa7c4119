//! Protobuf as Kubernetes speaks it: between JSON text and messages, by the schema table.
//!
//! Start at [`Envelope`], which every body comes in, then [`decode()`] and [`encode()`]. Fields
//! have the numbers that the table gives them; what Kubernetes encodes in ways of its own
//! (quantities, times, free-form JSON, embedded structs) is listed in these two files. Follows the
//! serializers of apimachinery pkg/runtime/serializer/protobuf and the `*_proto.go` files of
//! apimachinery, v1.35.
//!
//! JSON is what is stored: encoding reads its text once, without making a document of it.
//! Architecture invariant: whatever the bytes are, decoding ends with a value or an error.

mod decode;
mod encode;
mod envelope;
#[cfg(test)]
mod tests;
mod wire;

pub use decode::decode;
pub use encode::{ListEncoder, encode, push_watch_frame};
pub use envelope::{Envelope, TypeMeta};
pub(crate) use wire::Writer;
