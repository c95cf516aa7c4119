//! The only place that chance comes from, where it decides what others see: names and identities.

use std::fmt;
use std::sync::Arc;
use uuid::Uuid;

/// Where what is random comes from. Cheap to clone; simulations pass one that can be played again.
#[derive(Clone)]
pub struct Entropy(Arc<dyn Fn() -> u128 + Send + Sync>);

impl Entropy {
    /// The kernel's.
    #[must_use]
    pub fn system() -> Self {
        Self(Arc::new(|| Uuid::new_v4().as_u128()))
    }

    /// What `draw` draws.
    #[must_use]
    pub fn from_fn(draw: impl Fn() -> u128 + Send + Sync + 'static) -> Self {
        Self(Arc::new(draw))
    }

    /// A number that nobody could have known. Six of its bits are always the same: those that make
    /// it a UUID of version 4 (RFC 9562, 5.4).
    #[must_use]
    pub fn draw(&self) -> u128 {
        self.uuid().as_u128()
    }

    #[must_use]
    pub fn uuid(&self) -> Uuid {
        uuid::Builder::from_random_bytes((self.0)().to_be_bytes()).into_uuid()
    }
}

impl fmt::Debug for Entropy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Entropy")
    }
}
