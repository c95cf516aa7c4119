//! The files that every pod gets: `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf`.
//!
//! Start at [`hosts`] and [`resolv_conf`], which say what is in them.

pub mod hosts;
pub mod resolv_conf;
