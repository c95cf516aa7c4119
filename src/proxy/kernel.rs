//! Brings the kernel to what the ledger says: thin effects, and what to do where nft refuses.
//!
//! Start at [`Kernel::apply`]. Where a transaction is refused nothing of it has happened. Then the
//! table is read again, since somebody may have changed it, and if it is refused still, it is halved by
//! Service until the culprit is alone: everybody else has their rules, and the culprit is tried again
//! later.

use super::base::{self, TABLE};
use super::ledger::{Changes, Ledger, Owner, Strays};
use super::listing::Listing;
use super::script::{self, Script};
use super::sticky;
use super::tally::Refusals;
use crate::stdx::{Backoff, chain};
use crate::sys::nft::{Author, Heard, Others};
use crate::sys::nft_text;
use crate::sys::process::ProcessError;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// How long a Service whose rules were refused waits, and everybody where nft cannot be run.
const BACKOFF: Backoff =
    Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(60) };

/// A round of halving ends after this many transactions; what is left then waits together.
const TRANSACTIONS_MAX: u32 = 64;

/// A chain stays this long after the last element that led there is gone. Upstream waits as long
/// (pkg/proxy/nftables/proxier.go, `syncProxyRules`, v1.35).
const CHAIN_REST: Duration = Duration::from_secs(1);

/// What is known of the kernel's table.
#[derive(Debug, Default)]
pub(super) struct Kernel {
    author: Author,
    /// The chains that come and go with Services.
    chains: BTreeSet<String>,
    /// Those of them that are empty and may be deleted when they are due.
    emptied: BTreeMap<String, Instant>,
    /// The table is not there, or is another version's: the next transaction makes it anew.
    is_strange: bool,
    /// Somebody has changed the table: whatever it says of itself, it may lack something.
    is_distrusted: bool,
    /// Services whose rules were refused.
    refused: BTreeMap<Owner, Retry>,
    /// nft could not be run at all.
    broken: Option<Retry>,
    refusals: Refusals,
}

#[derive(Clone, Copy, Debug)]
struct Retry {
    failures: u32,
    due: Instant,
}

impl Retry {
    fn after(failures: u32, now: Instant) -> Self {
        Self { failures, due: now + BACKOFF.delay(failures) }
    }
}

/// How an attempt to bring the kernel up to date ended.
#[derive(Debug, Default)]
pub(super) struct Applied {
    /// Services whose rules were refused, with what nft said.
    pub(super) refused: Vec<(Owner, String)>,
    /// All else that was pending is in the kernel.
    pub(super) is_done: bool,
    /// Nobody's rules can be changed, since now, for this reason.
    pub(super) broken: Option<String>,
}

impl Kernel {
    /// When there is something to be done although nothing changes.
    pub(super) fn next_due(&self) -> Option<Instant> {
        if let Some(retry) = self.broken {
            return Some(retry.due);
        }
        let refused = self.refused.values().map(|retry| retry.due);
        refused.chain(self.emptied.values().copied()).min()
    }

    /// Listens to what others do to the table.
    pub(super) fn others(&self) -> io::Result<Others> {
        self.author.others(TABLE)
    }

    pub(super) fn refusals(&self) -> Refusals {
        self.refusals
    }

    /// The owner wants something else than was refused.
    pub(super) fn changed(&mut self, owner: &Owner) {
        self.refused.remove(owner);
    }

    /// Looks at the kernel before the first change, so that what an earlier process left goes on.
    pub(super) async fn take_over(&mut self, ledger: &mut Ledger, now: Instant) -> Applied {
        let read = self.read(ledger).await;
        let strays = match read {
            Ok(strays) => strays,
            Err(error) => return self.give_up(&error, now),
        };
        // What no Service is to blame for is not looked for Service by Service.
        if self.is_strange
            && let Err(error) = nft_text::check(script::trial()).await
        {
            return self.give_up(&error, now);
        }
        self.apply_with(ledger, strays, now).await
    }

    /// Somebody has changed the table. What they did is not looked for: all of it is made anew, in one
    /// transaction. That costs nobody anything but ports with affinity, which forget their clients.
    pub(super) async fn look_again(
        &mut self,
        heard: Heard,
        ledger: &mut Ledger,
        now: Instant,
    ) -> Applied {
        match heard {
            Heard::Changed => {
                warn!("somebody has changed the rules of Services; they are made anew");
                self.is_distrusted = true;
            }
            // Most likely it was our own: what is there is compared with what should be.
            Heard::TooMuch => info!("the rules of Services are compared with the kernel's"),
        }
        self.take_over(ledger, now).await
    }

    /// Brings the kernel up to date.
    pub(super) async fn apply(&mut self, ledger: &mut Ledger, now: Instant) -> Applied {
        match self.broken {
            Some(retry) if retry.due > now => return Applied::default(),
            Some(_) => return self.take_over(ledger, now).await,
            None => {}
        }
        self.delete_emptied(now).await;
        let refused = &self.refused;
        let (changes, waiting) = ledger.pending().split(|owner| !refused.contains_key(owner));
        if !changes.is_empty() {
            match self.run(&changes, now).await {
                Ok(()) => ledger.settled(&changes),
                Err(error @ ProcessError::Failed { .. }) => {
                    info!(error = chain(&error), "the rules of Services are looked at again");
                    return self.take_over(ledger, now).await;
                }
                Err(error) => return self.give_up(&error, now),
            }
        }
        self.try_again(ledger, waiting, now).await
    }

    /// Those that were refused, each alone, when their time has come.
    async fn try_again(
        &mut self,
        ledger: &mut Ledger,
        mut waiting: Changes,
        now: Instant,
    ) -> Applied {
        let mut applied = Applied { is_done: true, ..Applied::default() };
        let is_due = |(owner, retry): (&Owner, &Retry)| (retry.due <= now).then(|| owner.clone());
        let due: Vec<_> =
            self.refused.iter().filter_map(is_due).take(TRANSACTIONS_MAX as usize).collect();
        for owner in due {
            let (changes, others) = waiting.split(|other| *other == owner);
            waiting = others;
            if !changes.is_empty() {
                match self.run(&changes, now).await {
                    Ok(()) => ledger.settled(&changes),
                    Err(error @ ProcessError::Failed { .. }) => {
                        self.refuse(&mut applied, vec![owner], &error, now);
                        continue;
                    }
                    Err(error) => return self.give_up(&error, now),
                }
            }
            self.refused.remove(&owner);
        }
        applied
    }

    /// After looking at the kernel: everything that it lacks, and less of it where it is refused.
    async fn apply_with(&mut self, ledger: &mut Ledger, strays: Strays, now: Instant) -> Applied {
        let mut applied = Applied { is_done: true, ..Applied::default() };
        let is_waiting =
            |owner: &Owner| self.refused.get(owner).is_some_and(|retry| retry.due > now);
        let (mut changes, _waiting) = ledger.pending().split(|owner| !is_waiting(owner));
        changes.strays = strays;
        let mut waiting = vec![changes];
        let mut transactions = 0;
        while let Some(changes) = waiting.pop() {
            if changes.is_empty() && !self.is_strange {
                continue;
            }
            transactions += 1;
            match self.run(&changes, now).await {
                Ok(()) => ledger.settled(&changes),
                Err(error @ ProcessError::Failed { .. }) => {
                    let owners: Vec<_> = changes.owners().into_iter().collect();
                    if owners.len() > 1 && transactions < TRANSACTIONS_MAX {
                        let middle = owners[owners.len() / 2].clone();
                        let (first, second) = changes.split(|owner| *owner < middle);
                        waiting.extend([second, first]);
                    } else {
                        self.refuse(&mut applied, owners, &error, now);
                    }
                }
                Err(error) => return self.give_up(&error, now),
            }
        }
        self.broken = None;
        self.refused.retain(|_, retry| retry.due > now);
        applied
    }

    fn refuse(
        &mut self,
        applied: &mut Applied,
        owners: Vec<Owner>,
        error: &ProcessError,
        now: Instant,
    ) {
        for owner in owners {
            let failures = self.refused.get(&owner).map_or(0, |retry| retry.failures) + 1;
            warn!(service = %owner, error = chain(error), "the rules of a Service were refused");
            self.refused.insert(owner.clone(), Retry::after(failures, now));
            applied.refused.push((owner, chain(error).to_string()));
        }
    }

    fn give_up(&mut self, error: &ProcessError, now: Instant) -> Applied {
        let failures = self.broken.map_or(0, |retry| retry.failures) + 1;
        let retry = Retry::after(failures, now);
        warn!(
            error = chain(error),
            "the rules of Services cannot be changed; tried again in {} s",
            retry.due.saturating_duration_since(now).as_secs()
        );
        let broken = self.broken.is_none().then(|| chain(error));
        self.broken = Some(retry);
        Applied { broken, ..Applied::default() }
    }

    /// Compares the kernel's table with the ledger.
    async fn read(&mut self, ledger: &mut Ledger) -> Result<Strays, ProcessError> {
        let printed = match self.is_distrusted {
            true => None,
            false => nft_text::list(TABLE).await?,
        };
        let listing =
            printed.map(|printed| Listing::parse(&printed, sticky::PREFIX)).unwrap_or_default();
        self.is_strange = !listing.chains.contains(&base::marker());
        let listing = if self.is_strange { Listing::default() } else { listing };
        self.chains = listing.changing_chains().cloned().collect();
        self.emptied.clear();
        Ok(ledger.found(&listing))
    }

    async fn run(&mut self, changes: &Changes, now: Instant) -> Result<(), ProcessError> {
        let Script { text, made, emptied } = script::script(changes, &self.chains);
        let text = if self.is_strange { script::anew() + &text } else { text };
        if let Err(error) = self.author.run(text).await {
            self.refusals.transactions += 1;
            return Err(error);
        }
        (self.is_strange, self.is_distrusted) = (false, false);
        for chain in &made {
            self.emptied.remove(chain);
        }
        self.chains.extend(made);
        for chain in emptied {
            self.chains.remove(&chain);
            self.emptied.insert(chain, now + CHAIN_REST);
        }
        Ok(())
    }

    /// One that is refused stays, empty, and is tried again after the next that is emptied.
    async fn delete_emptied(&mut self, now: Instant) {
        let due: Vec<_> = self
            .emptied
            .iter()
            .filter(|(_, due)| **due <= now)
            .map(|(name, _)| name.clone())
            .collect();
        if due.is_empty() {
            return;
        }
        match self.author.run(script::deletion(&due)).await {
            Ok(()) => {
                self.emptied.retain(|chain, _| !due.contains(chain));
            }
            Err(error) => {
                self.refusals.cleanups += 1;
                info!(error = chain(&error), "chains of Services that are gone stay a while");
                for chain in due {
                    self.emptied.insert(chain, now + BACKOFF.longest);
                }
            }
        }
    }
}
