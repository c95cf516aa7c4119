//! Certificates that are good at another time than now, in words for whoever can set a clock.

use jiff::Timestamp;
use rustls::CertificateError;
use rustls_pki_types::UnixTime;
use std::error::Error;
use std::io;

/// Why the certificate of the other side is of no use at this time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Untimely {
    #[error(
        "its certificate is good from {begin} on, and the clock of this machine says that it is {now}: \
         set the clock (`timedatectl` shows whether it is synchronized), here or, where this one is \
         right, on the machine that has made the certificate"
    )]
    NotYet { begin: Timestamp, now: Timestamp },
    #[error(
        "its certificate was good until {end}, and the clock of this machine says that it is {now}: \
         set the clock (`timedatectl` shows whether it is synchronized), or, where it is right, have \
         the certificate made anew"
    )]
    NoMore { end: Timestamp, now: Timestamp },
}

impl Untimely {
    /// What of it there is in an error, or in what has caused it.
    #[must_use]
    pub fn within(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut error = error;
        loop {
            if let Some(error) = error.downcast_ref::<rustls::Error>() {
                return Self::of(error);
            }
            // These do not count what they are made of among their causes.
            let made_of = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            error = match made_of {
                Some(inner) => inner,
                None => error.source()?,
            };
        }
    }

    fn of(error: &rustls::Error) -> Option<Self> {
        let rustls::Error::InvalidCertificate(error) = error else { return None };
        match error {
            CertificateError::NotValidYetContext { time, not_before } => {
                Some(Self::NotYet { begin: moment(*not_before)?, now: moment(*time)? })
            }
            CertificateError::ExpiredContext { time, not_after } => {
                Some(Self::NoMore { end: moment(*not_after)?, now: moment(*time)? })
            }
            _ => None,
        }
    }
}

fn moment(time: UnixTime) -> Option<Timestamp> {
    Timestamp::from_second(i64::try_from(time.as_secs()).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn time(second: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(second))
    }

    #[test]
    fn both_times_are_told() {
        let check = |error: CertificateError, expected: Option<&str>| {
            let error = rustls::Error::InvalidCertificate(error);
            let wrapped = io::Error::other(io::Error::other(error));
            let told = Untimely::within(&wrapped).map(|untimely| untimely.to_string());
            assert_eq!(told.is_some(), expected.is_some());
            assert!(told.unwrap_or_default().starts_with(expected.unwrap_or_default()));
        };
        let early =
            CertificateError::NotValidYetContext { time: time(3_600), not_before: time(7_200) };
        check(
            early,
            Some(
                "its certificate is good from 1970-01-01T02:00:00Z on, and the clock of this machine \
                 says that it is 1970-01-01T01:00:00Z: set the clock",
            ),
        );
        let late = CertificateError::ExpiredContext { time: time(7_200), not_after: time(3_600) };
        check(
            late,
            Some(
                "its certificate was good until 1970-01-01T01:00:00Z, and the clock of this machine \
                 says that it is 1970-01-01T02:00:00Z: set the clock",
            ),
        );
        check(CertificateError::UnknownIssuer, None);
        assert_eq!(Untimely::within(&io::Error::other("something else")), None);
    }
}
