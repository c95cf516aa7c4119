//! How much a pod may send and receive: pure.
//!
//! Start at [`Bandwidth::of_annotations`]; [`Bucket`] is what the kernel is told. What a pod receives
//! is shaped at the node's end of its interface, what it sends at its own end.

use crate::api::Quantity;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const INGRESS: &str = "kubernetes.io/ingress-bandwidth";
const EGRESS: &str = "kubernetes.io/egress-bandwidth";

/// Less is taken for a mistake, in bits a second.
const BITS_MIN: i64 = 1_000;

/// More is taken for a mistake, in bits a second.
const BITS_MAX: i64 = 1_000_000_000_000_000;

/// How long a packet may wait for its turn, in milliseconds; where more wait than leave in that
/// time, some are dropped. As upstream's CNI plugin has it.
const LATENCY_MILLISECONDS: u64 = 25;

/// What may leave at once after a pause, at least, in bytes: half of the largest piece that the
/// kernel hands on in one go.
const BURST_BYTES_MIN: u64 = 32 * 1024;

/// How much of a second's amount may leave at once after a pause: a hundredth.
const BURST_PART: u64 = 100;

/// Limits in bits a second, `None` where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bandwidth {
    /// What the pod receives.
    pub ingress: Option<u64>,
    /// What it sends.
    pub egress: Option<u64>,
}

/// An annotation that is no bandwidth.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("annotation {annotation} is {value:?}, and has to be bits a second between 1k and 1P")]
pub struct BadBandwidth {
    annotation: &'static str,
    value: String,
}

impl Bandwidth {
    /// As a pod's annotations have it (upstream `ExtractPodBandwidthResources`,
    /// pkg/util/bandwidth/utils.go, v1.35).
    ///
    /// # Errors
    /// Where one of them is no quantity, or an unreasonable one.
    pub fn of_annotations(annotations: &BTreeMap<String, String>) -> Result<Self, BadBandwidth> {
        let read = |annotation: &'static str| {
            let Some(value) = annotations.get(annotation) else { return Ok(None) };
            let bits = value.parse::<Quantity>().ok().map(Quantity::units);
            let bits = bits.filter(|bits| (BITS_MIN..=BITS_MAX).contains(bits));
            let bits = bits.and_then(|bits| u64::try_from(bits).ok());
            bits.map(Some).ok_or_else(|| BadBandwidth { annotation, value: value.clone() })
        };
        Ok(Self { ingress: read(INGRESS)?, egress: read(EGRESS)? })
    }
}

/// A token bucket (`tc-tbf`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bucket {
    pub(super) bytes_per_second: u64,
    pub(super) burst_bytes: u32,
    /// How much may wait.
    pub(super) queue_bytes: u32,
}

impl Bucket {
    pub(super) fn of(bits_per_second: u64) -> Self {
        let bytes_per_second = bits_per_second.div_ceil(8);
        let burst = (bytes_per_second / BURST_PART).max(BURST_BYTES_MIN);
        let waiting = bytes_per_second * LATENCY_MILLISECONDS / 1_000;
        let fitting = |bytes| u32::try_from(bytes).unwrap_or(u32::MAX);
        Self {
            bytes_per_second,
            burst_bytes: fitting(burst),
            // Also at the slowest a whole piece can wait.
            queue_bytes: fitting(burst + waiting.max(2 * BURST_BYTES_MIN)),
        }
    }

    /// The attributes of the queueing discipline: number and value of each.
    pub(super) fn attributes(&self) -> Vec<(u16, Vec<u8>)> {
        const PARMS: u16 = 1;
        const RATE64: u16 = 4;
        const BURST: u16 = 6;
        let rate = u32::try_from(self.bytes_per_second).unwrap_or(u32::MAX);
        // struct tc_tbf_qopt: rate, peak rate, limit, buffer, mtu. The buffer is given as BURST.
        let mut parms = rate_spec(rate).to_vec();
        parms.extend(rate_spec(0));
        for number in [self.queue_bytes, 0, 0] {
            parms.extend(number.to_ne_bytes());
        }
        let mut attributes = vec![(PARMS, parms), (BURST, self.burst_bytes.to_ne_bytes().to_vec())];
        if self.bytes_per_second >= u64::from(u32::MAX) {
            attributes.push((RATE64, self.bytes_per_second.to_ne_bytes().to_vec()));
        }
        attributes
    }
}

/// `struct tc_ratespec`. With a link layer the kernel needs no table of times from us.
fn rate_spec(bytes_per_second: u32) -> [u8; 12] {
    const LINKLAYER_ETHERNET: u8 = 1;
    let mut spec = [0; 12];
    spec[1] = LINKLAYER_ETHERNET;
    spec[8..].copy_from_slice(&bytes_per_second.to_ne_bytes());
    spec
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(annotations: &[(&str, &str)], expected: Result<(Option<u64>, Option<u64>), &str>) {
        let annotations = annotations.iter();
        let annotations = annotations.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let read = Bandwidth::of_annotations(&annotations.collect());
        let read = read.map(|bandwidth| (bandwidth.ingress, bandwidth.egress));
        assert_eq!(read.map_err(|error| error.annotation), expected);
    }

    #[test]
    fn annotations_are_bits_a_second() {
        check(&[], Ok((None, None)));
        check(&[(INGRESS, "10M"), (EGRESS, "1G")], Ok((Some(10_000_000), Some(1_000_000_000))));
        check(&[(EGRESS, "1k")], Ok((None, Some(1_000))));
        check(&[(EGRESS, "999")], Err(EGRESS));
        check(&[(INGRESS, "1P")], Ok((Some(1_000_000_000_000_000), None)));
        check(&[(INGRESS, "2P")], Err(INGRESS));
        check(&[(INGRESS, "much")], Err(INGRESS));
        check(&[(INGRESS, "-10M")], Err(INGRESS));
    }

    #[test]
    fn slow_and_fast_buckets_hold_something() {
        let slow = Bucket::of(1_000);
        assert_eq!((slow.bytes_per_second, slow.burst_bytes), (125, 32 * 1024));
        assert!(slow.queue_bytes >= 64 * 1024);
        let fast = Bucket::of(80_000_000_000);
        assert_eq!(fast.burst_bytes, 100_000_000);
        assert_eq!(fast.attributes().len(), 3);
        assert_eq!(slow.attributes()[0].1.len(), 36);
    }
}
