//! Linux as kinglet needs it: processes, namespaces, mounts, cgroups, signals, facts of the host.
//!
//! Architecture invariants: the only `unsafe` code of the crate is below here, and the only place
//! that starts other programs is [`process`]. What is here knows no pods: it takes paths and numbers.

pub mod apparmor;
pub mod background;
pub mod cgroup;
pub mod clock_watch;
pub mod conntrack;
pub mod directory_watch;
pub mod going_down;
pub mod host;
pub mod inherited;
pub mod load;
pub mod memory;
pub mod mount;
pub mod mounter;
pub mod namespace;
mod netlink;
pub mod nft;
pub mod nft_text;
pub mod open_files;
pub mod pressure;
pub mod process;
pub mod process_namespace;
pub mod process_watch;
pub mod service_manager;
pub mod signal;
pub mod socket_watch;
pub mod sysctl;
pub mod tcp;
pub mod wireguard;
