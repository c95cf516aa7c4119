//! Who has how much of something that is limited, so that nobody has all of it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

/// See the module.
#[derive(Debug)]
pub(super) struct Guests {
    all_max: usize,
    of_one_max: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_guest: HashMap<IpAddr, usize>,
}

/// A part that somebody has, until it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    guests: Arc<Guests>,
    guest: IpAddr,
}

impl Guests {
    /// `all_max` for all of them, and `of_one_max` for each.
    pub(super) fn new(all_max: usize, of_one_max: usize) -> Arc<Self> {
        Arc::new(Self { all_max, of_one_max, taken: Mutex::default() })
    }

    /// `None` where the guest has its share, or there is nothing left.
    pub(super) fn seat(self: &Arc<Self>, guest: IpAddr) -> Option<Seat> {
        let mut taken = self.taken.lock().expect("no panics under this lock");
        let own = taken.by_guest.get(&guest).copied().unwrap_or_default();
        if taken.all >= self.all_max || own >= self.of_one_max {
            return None;
        }
        taken.all += 1;
        taken.by_guest.insert(guest, own + 1);
        Some(Seat { guests: Arc::clone(self), guest })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.guests.taken.lock().expect("no panics under this lock");
        taken.all -= 1;
        let Some(own) = taken.by_guest.get_mut(&self.guest) else { return };
        *own -= 1;
        if *own == 0 {
            taken.by_guest.remove(&self.guest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_has_all_of_it() {
        let guests = Guests::new(3, 2);
        let [one, two] = ["192.0.2.1", "192.0.2.2"].map(|guest| guest.parse().unwrap());
        let mut seats = vec![guests.seat(one).unwrap(), guests.seat(one).unwrap()];
        assert!(guests.seat(one).is_none());
        seats.push(guests.seat(two).unwrap());
        assert!(guests.seat(two).is_none());
        seats.remove(0);
        assert!(guests.seat(two).is_some());
        seats.clear();
        assert!(guests.taken.lock().unwrap().by_guest.is_empty());
        assert_eq!(guests.taken.lock().unwrap().all, 0);
    }
}
