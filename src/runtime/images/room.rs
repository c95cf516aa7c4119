//! How much of a disk images leave to everything else: a layer that unpacks to more than there is room
//! for ends its pull, and not the node.

use crate::sys::load;
use std::io;
use std::path::{Path, PathBuf};

/// So much of the disk stays free, or this part of it where that is less. Nothing of a pull is
/// written beyond it.
const LEFT_BYTES: u64 = 256 << 20;
const LEFT_PART: u64 = 50;

/// The disk is looked at again after so many bytes, or after a part of what may still be written where
/// that is less: others write there as well.
const LOOK_EVERY_BYTES: u64 = 8 << 20;
const LOOK_EVERY_PART: u64 = 16;

/// What an entry of a directory takes, whatever is in it.
const ENTRY_BYTES: u64 = 4096;

/// Counts what is written below a directory, and looks now and then whether there is room for more.
#[derive(Debug)]
pub(super) struct Room {
    directory: PathBuf,
    /// May be written before the disk is looked at again.
    granted: u64,
}

impl Room {
    pub(super) fn at(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), granted: 0 }
    }

    /// Asks for room for so many bytes more.
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`] where there is none, and whatever looking at the disk fails with.
    pub(super) fn take(&mut self, bytes: u64) -> io::Result<()> {
        if let Some(left) = self.granted.checked_sub(bytes) {
            self.granted = left;
            return Ok(());
        }
        let disk = load::disk(&self.directory)?;
        let left = left_free(disk.capacity_bytes);
        let Some(room) = disk.available_bytes.checked_sub(left.saturating_add(bytes)) else {
            let (free, left) = (disk.available_bytes >> 20, left >> 20);
            let text = format!("no room on the disk: {free} MiB are free, {left} MiB have to stay");
            return Err(io::Error::new(io::ErrorKind::StorageFull, text));
        };
        // File systems without a fixed number of inodes say that they have none.
        if disk.inodes > 0 && disk.inodes_free <= disk.inodes / LEFT_PART {
            let text = format!("no room on the disk: {} inodes are free", disk.inodes_free);
            return Err(io::Error::new(io::ErrorKind::StorageFull, text));
        }
        self.granted = (room / LOOK_EVERY_PART).min(LOOK_EVERY_BYTES);
        Ok(())
    }

    /// Asks for room for a file, a directory or a link.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub(super) fn take_entry(&mut self) -> io::Result<()> {
        self.take(ENTRY_BYTES)
    }
}

fn left_free(capacity_bytes: u64) -> u64 {
    (capacity_bytes / LEFT_PART).min(LEFT_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_a_disk_is_not_for_images() {
        let directory = tempfile::tempdir().unwrap();
        let mut room = Room::at(directory.path());
        room.take_entry().unwrap();
        assert_eq!(room.granted, LOOK_EVERY_BYTES);
        room.take(LOOK_EVERY_BYTES).unwrap();
        assert_eq!(room.granted, 0, "one look serves for many writes");
        let error = room.take(1 << 60).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(error.to_string().starts_with("no room on the disk: "), "{error}");
    }

    #[test]
    fn small_disks_keep_a_part_and_large_ones_enough() {
        assert_eq!(left_free(100 << 20), 2 << 20);
        assert_eq!(left_free(1 << 40), LEFT_BYTES);
    }
}
