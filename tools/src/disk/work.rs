//! Changes, and the moving of chunks that follows.

use cairn_daemon::actor::{Progress, Rate, Registry, Spec, State};
use cairn_daemon::cluster::relocate_stopped;
use cairn_daemon::disks::map::DiskState;
use cairn_daemon::disks::{Disks, LaneMap, Plan, Settle, SettleMessage, Uid};
use cairn_io::fs::Dir;
use cairn_io::shutdown;
use cairn_io::time::{self, Duration, sleep};
use indicatif::{HumanBytes, HumanDuration, ProgressBar, ProgressStyle};

use super::{Add, Evacuate, Pace, Rebalance, check_complete, find, refused};
use crate::out::{self, Failure};

/// How often the progress is looked at.
const TICK: Duration = Duration::from_millis(100);
/// The actor's name.
const SETTLE: &str = "settle";

/// What was done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Done {
    /// Chunks that were moved, and their bytes.
    pub chunks: u64,
    /// See `chunks`.
    pub bytes: u64,
    /// Slots that were moved.
    pub slots: u64,
}

impl Add {
    pub(super) async fn run(&self) -> Result<(), Failure> {
        self.node
            .with(async |disks| {
                let status = disks.status().await.map_err(|error| refused(&error))?;
                check_complete(&status)?;
                if self.pace.dry_run {
                    let capacity = capacity(&self.dir).await?;
                    // The new lanes' names are drawn when they are made; any will do to see how much moves.
                    let lanes: Vec<Uid> = (0..self.how.lanes).map(imagined).collect();
                    let map = disks.map().with_disk(imagined(u32::MAX), capacity, &lanes);
                    let plan = plan(disks, &map).await?;
                    return self.node.print_plan(&plan, &status);
                }
                disks.add(&self.dir, self.how.into()).await.map_err(|error| refused(&error))?;
                out::note(&format!("{} is a disk of the node now; add it to `data` in its configuration.", self.dir));
                let done = settle(disks, &self.pace).await?;
                self.node.print(disks, Some(done)).await
            })
            .await
    }
}

fn imagined(number: u32) -> Uid {
    let mut bytes = [0xCA; 16];
    bytes[..4].copy_from_slice(&number.wrapping_mul(0x9e37_79b9).to_le_bytes());
    Uid(bytes)
}

/// What the file system has on which a directory is or would be.
async fn capacity(path: &str) -> Result<u64, Failure> {
    let mut path = std::path::Path::new(path);
    loop {
        let name = if path.as_os_str().is_empty() { "." } else { path.to_str().unwrap_or(".") };
        if let Ok(dir) = Dir::open(name).await {
            let space = dir.space().await.map_err(|error| Failure::Broken(error.to_string()))?;
            return Ok(space.total);
        }
        path = path.parent().ok_or_else(|| Failure::Input(format!("{} can't be made", path.display())))?;
    }
}

impl Evacuate {
    pub(super) async fn run(&self) -> Result<(), Failure> {
        self.node
            .with(async |disks| {
                let status = disks.status().await.map_err(|error| refused(&error))?;
                let disk = find(&status, &self.disk)?;
                if self.lost {
                    disks.give_up(disk).await.map_err(|error| refused(&error))?;
                    out::note("What was on it is lost to this node; the cluster's other copies have it.");
                    let status = disks.status().await.map_err(|error| refused(&error))?;
                    // With half of the disks missing the rest counts as not settled until somebody has looked.
                    let is_complete = check_complete(&status).is_ok();
                    let done = if is_complete { Some(settle(disks, &self.pace).await?) } else { None };
                    return self.node.print(disks, done).await;
                }
                check_complete(&status)?;
                if self.keep {
                    disks.keep(disk).await.map_err(|error| refused(&error))?;
                } else {
                    let plan = plan(disks, &disks.map().with_state(disk, DiskState::Leaving)).await?;
                    if self.pace.dry_run {
                        return self.node.print_plan(&plan, &status);
                    }
                    if !plan.obstacles.is_empty() {
                        return Err(Failure::Input(format!("nothing was changed: {}", plan.obstacles.join("; "))));
                    }
                    disks.evacuate(disk).await.map_err(|error| refused(&error))?;
                }
                if self.while_serving {
                    out::note(
                        "The disk is to be emptied; start the node with it, and `cairn status` says when it is out.",
                    );
                    return self.node.print(disks, None).await;
                }
                let done = settle(disks, &self.pace).await?;
                if !self.keep {
                    out::note("The disk is empty and out of the node; take it out of `data` in its configuration.");
                }
                self.node.print(disks, Some(done)).await
            })
            .await
    }
}

impl Rebalance {
    pub(super) async fn run(&self) -> Result<(), Failure> {
        self.node
            .with(async |disks| {
                let status = disks.status().await.map_err(|error| refused(&error))?;
                check_complete(&status)?;
                let mut weights = Vec::new();
                for (name, weight) in &self.weight {
                    weights.push((find(&status, name)?, *weight));
                }
                if self.pace.dry_run {
                    let mut map = (*disks.map()).clone();
                    for disk in &status.disks {
                        let capacity = disk.space.map_or(disk.entry.weight_bytes, |space| space.total);
                        let id = disk.entry.id;
                        match weights.iter().find(|(meant, _)| *meant == id) {
                            Some((_, weight)) => map = map.with_weight(id, *weight, capacity),
                            None if disk.entry.is_weight_set => {}
                            None => map = map.with_weight(id, None, capacity),
                        }
                    }
                    let plan = plan(disks, &map).await?;
                    return self.node.print_plan(&plan, &status);
                }
                for (disk, weight) in weights {
                    disks.weigh(disk, weight).await.map_err(|error| refused(&error))?;
                }
                disks.follow_capacities().await.map_err(|error| refused(&error))?;
                let done = settle(disks, &self.pace).await?;
                self.node.print(disks, Some(done)).await
            })
            .await
    }
}

async fn plan(disks: &Disks, map: &LaneMap) -> Result<Plan, Failure> {
    disks.plan(map).await.map_err(|error| refused(&error))
}

/// Moves slots and chunks until every one is where it belongs, or none can be moved any further.
async fn settle(disks: &Disks, pace: &Pace) -> Result<Done, Failure> {
    let first = plan(disks, &disks.map()).await?.to_move();
    let bytes = pace.bytes_per_second.map_or(Rate::Unlimited, Rate::PerSecond);
    let registry = Registry::new();
    let actor = disks.clone();
    let spec = Spec { bytes, ..Spec::new(SETTLE) };
    let mailbox = registry.start(&spec, move || Settle { disks: actor.clone() });
    let mailbox = mailbox.map_err(|error| Failure::Broken(error.to_string()))?;
    let style = ProgressStyle::with_template("moving {wide_bar} {bytes}/{total_bytes} {msg}");
    let bar = ProgressBar::new(first.1).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let (mut left, mut rounds_idle, mut slots) = (first, 0, 0);
    let ended = loop {
        if disks.is_settled() {
            break Ok(());
        }
        let epoch = disks.map().epoch;
        let relocated = match relocate_stopped(disks).await {
            Ok(relocated) => relocated,
            Err(error) => {
                break Err(Failure::Broken(format!("{error}; `cairn disk rebalance` goes on where this ended")));
            }
        };
        slots += relocated.moved;
        if mailbox.send(SettleMessage::Look).await.is_err() {
            break Err(Failure::Broken("moving has ended early".to_owned()));
        }
        if let Err(failure) = watch(&registry, &bar, first.1 - left.1.min(first.1)).await {
            break Err(failure);
        }
        let now = plan(disks, &disks.map()).await?.to_move();
        // A disk that was emptied is another map, by which there may be more to do. And once more, to see that what went
        // to another lane than its home has nowhere else to go.
        let is_idle = now == left && disks.map().epoch == epoch;
        rounds_idle = if is_idle { rounds_idle + 1 } else { 0 };
        if !disks.is_settled() && rounds_idle >= 2 {
            let stays = relocated.left.into_iter().map(|(slot, why)| format!("slot {slot} stays: {why}"));
            break Err(stuck(disks, now, stays.collect()).await);
        }
        left = now;
    };
    registry.stop_all().await;
    bar.finish_and_clear();
    ended?;
    Ok(Done { chunks: first.0.saturating_sub(left.0), bytes: first.1.saturating_sub(left.1), slots })
}

/// Waits until the actor has gone through all lanes.
async fn watch(registry: &Registry, bar: &ProgressBar, before: u64) -> Result<(), Failure> {
    loop {
        sleep(TICK).await;
        if shutdown::current().is_requested() {
            return Err(Failure::Broken("interrupted; `cairn disk rebalance` goes on where this ended".to_owned()));
        }
        let Some(status) = registry.status(SETTLE) else { return Ok(()) };
        if let (true, Some(failure)) = (status.failures > 0, status.last_failure) {
            return Err(Failure::Broken(format!("{failure}; `cairn disk rebalance` goes on where this ended")));
        }
        match status.state {
            State::Idle { .. } if status.mailbox == 0 => return Ok(()),
            State::Working { progress: Some(progress), .. } => show(bar, before, &progress),
            _ => {}
        }
    }
}

fn show(bar: &ProgressBar, before: u64, progress: &Progress) {
    bar.set_length(before + progress.total);
    bar.set_position(before + progress.done);
    if let Some(remaining) = progress.remaining(time::now()) {
        bar.set_message(format!("{} left", HumanDuration(remaining)));
    }
}

/// Why nothing more can be moved.
async fn stuck(disks: &Disks, (chunks, bytes): (u64, u64), slots: Vec<String>) -> Failure {
    let mut reasons = slots;
    match disks.plan(&disks.map()).await {
        Ok(plan) => {
            // Nobody has written down where they belong, so that nobody knows which copy of theirs counts.
            let unknown = (plan.slots > 0 && reasons.is_empty())
                .then(|| format!("{} slots are on it that no file `slots` of the node's disks knows", plan.slots));
            reasons.extend(plan.obstacles.into_iter().chain(unknown));
        }
        Err(error) => reasons.push(error.to_string()),
    }
    if let Ok(status) = disks.status().await {
        for lane in status.lanes {
            let number = lane.entry.number;
            if let cairn_daemon::disks::LaneState::Open { lane, .. } = lane.state {
                if let Some(reason) = lane.poisoned {
                    reasons.push(format!("lane {number} takes no writes: {reason}"));
                } else if !lane.has_room {
                    reasons.push(format!("lane {number} has no room"));
                }
                if lane.quarantined > 0 {
                    reasons.push(format!(
                        "lane {number} has {} bad chunks; store or drop them, then they count as at home",
                        lane.quarantined
                    ));
                }
            }
        }
    }
    if reasons.is_empty() {
        reasons.push("no lane says why; try again".to_owned());
    }
    if chunks == 0 {
        return Failure::Broken(format!("every chunk is where it belongs, but {}", reasons.join("; ")));
    }
    Failure::Broken(format!(
        "{chunks} chunks of {} are where they were, and readable: {}",
        HumanBytes(bytes),
        reasons.join("; ")
    ))
}
