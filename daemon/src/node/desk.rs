//! Core 0's desk: questions of the management API come in, every core is asked, reports go out.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use cairn_io::log::Damage;
use cairn_io::mesh::Endpoint;
use cairn_io::task::{Class, JoinHandle, spawn};
use cairn_io::time::{self, Duration, Instant};
use cairn_io::{CoreId, cores, fs, lines};
use cairn_meta::control::command::PutSetting;
use cairn_meta::control::state::KeyRecord;
use futures_util::future::join_all;

use super::Ask;
use super::crew::Crew;
use super::live::Live;
use crate::cluster::{CONTROL, Cluster, ClusterError, NewKey};
use crate::disks::LaneState as Found;
use crate::disks::{DiskState, DiskStatus, Disks, LaneStatus, Status};
use crate::http::{Answered, Watch};
use crate::lane;
use crate::manage::metrics::{Scrape, encode};
use crate::manage::report::{
    ClusterReport, CoreReport, DiskReport, LaneDetail, LaneReport, LaneState, NodeReport, NodeState, StoppedGroup,
    Trouble,
};
use crate::manage::{KeyReport, KeysAnswer, KeysAsk, NewKeyReport, Question, SettingChange, SettingReport};

/// How long a core may take to say what it is doing; one that takes longer is left out.
const REPORT_WITHIN: Duration = Duration::from_secs(2);
/// The system's pages.
const PAGE: u64 = 4096;

/// See the module.
pub struct Desk {
    driver: String,
    begun: Instant,
    endpoint: Rc<Endpoint<Ask>>,
    answered: Rc<RefCell<Answered>>,
    watch: Option<Watch>,
    is_draining: Cell<bool>,
    /// Once the disks are open.
    open: RefCell<Option<(Disks, Crew)>>,
    /// Once the cluster is.
    joined: RefCell<Option<(Cluster, Rc<Live>)>>,
}

impl Desk {
    pub fn new(
        driver: String,
        endpoint: Rc<Endpoint<Ask>>,
        answered: Rc<RefCell<Answered>>,
        watch: Option<Watch>,
    ) -> Rc<Self> {
        let (begun, is_draining) = (time::now(), Cell::default());
        let (open, joined) = (RefCell::default(), RefCell::default());
        Rc::new(Self { driver, begun, endpoint, answered, watch, is_draining, open, joined })
    }

    /// The disks are open.
    pub fn open(&self, disks: Disks, crew: Crew) {
        self.open.replace(Some((disks, crew)));
    }

    /// The cluster is open.
    pub fn join(&self, cluster: Cluster, live: Rc<Live>) {
        self.joined.replace(Some((cluster, live)));
    }

    /// The node was told to stop.
    pub fn drain(&self) {
        self.is_draining.set(true);
    }

    /// Answers questions, each in a task of its own.
    pub fn serve(self: &Rc<Self>, asked: async_channel::Receiver<Question>) -> JoinHandle<()> {
        let desk = self.clone();
        spawn(Class::Foreground, async move {
            while let Ok(question) = asked.recv().await {
                let desk = desk.clone();
                spawn(Class::Foreground, async move { desk.answer(question).await }).detach();
            }
        })
    }

    async fn answer(&self, question: Question) {
        let question = match question {
            Question::Keys(ask, answer) => {
                let answered = self.keys(ask).await;
                // Whoever asked may have gone.
                let _ = answer.try_send(answered);
                return;
            }
            Question::Settings(change, answer) => {
                let answered = self.settings(change).await;
                // Likewise.
                let _ = answer.try_send(answered);
                return;
            }
            other => other,
        };
        let report = self.report().await;
        match question {
            Question::Keys(..) | Question::Settings(..) => {}
            Question::Report(answer) => drop(answer.try_send(report)),
            Question::Metrics(answer) => {
                let scrape = Scrape {
                    report,
                    http: self.watch.as_ref().map(Watch::counts).unwrap_or_default(),
                    answered: self.answered.borrow().clone(),
                    lines_lost: lines::lost(),
                };
                drop(answer.try_send(encode(scrape)));
            }
        }
    }

    fn joined(&self) -> Result<(Cluster, Rc<Live>), ClusterError> {
        let joined = self.joined.borrow().clone();
        joined.ok_or_else(|| ClusterError::Unreachable("the node is still starting".to_owned()))
    }

    async fn settings(&self, change: Option<SettingChange>) -> Result<Vec<SettingReport>, ClusterError> {
        let (cluster, live) = self.joined()?;
        if let Some(SettingChange { key, value, expected }) = change {
            let put = PutSetting { name: key.name.to_owned(), value, expected };
            cluster.put_node_setting(OPERATOR, put).await?;
            live.caught_up(cluster.map().epoch).await;
        }
        Ok(live.reports(&cluster.map()))
    }

    async fn keys(&self, ask: KeysAsk) -> Result<KeysAnswer, ClusterError> {
        let (cluster, _) = self.joined()?;
        match ask {
            KeysAsk::List => Ok(KeysAnswer::List(cluster.map().keys.iter().map(key_report).collect())),
            KeysAsk::Create { user, rights } => {
                let NewKey { access, secret } = cluster.create_key(OPERATOR, &user, &rights).await?;
                Ok(KeysAnswer::Created(NewKeyReport { access, secret, user }))
            }
            KeysAsk::Delete { access } => Ok(KeysAnswer::Deleted(cluster.delete_key(OPERATOR, &access).await?)),
        }
    }

    async fn report(&self) -> NodeReport {
        let open = self.open.borrow().clone();
        let mut report = NodeReport {
            node: String::new(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            state: NodeState::Starting,
            uptime_seconds: self.begun.elapsed().as_secs(),
            driver: self.driver.clone(),
            resident_bytes: resident_bytes().await,
            map_epoch: 0,
            is_settled: true,
            cores: vec![],
            disks: vec![],
            lanes: vec![],
            troubles: vec![],
            cluster: None,
        };
        let joined = self.joined.borrow().clone();
        if let Some((disks, crew)) = open {
            if let Some((cluster, _)) = joined {
                report.state = NodeState::Ready;
                report.cluster = cluster_report(&cluster).await;
            }
            report.cores = self.cores(&crew).await;
            if let Ok(Ok(status)) = time::timeout(REPORT_WITHIN, disks.status()).await {
                fill_in(&mut report, &status);
            }
        }
        if self.is_draining.get() {
            report.state = NodeState::Draining;
        }
        report
    }

    async fn cores(&self, crew: &Crew) -> Vec<CoreReport> {
        let others = (1..cores()).map(|core| self.ask(CoreId::new(core)));
        let others = join_all(others).await.into_iter().flatten();
        std::iter::once(crew.report()).chain(others).collect()
    }

    async fn ask(&self, core: CoreId) -> Option<CoreReport> {
        let (answer, answered) = async_channel::bounded(1);
        let asking = async {
            self.endpoint.send(core, Ask::Report(answer)).await.ok()?;
            answered.recv().await.ok()
        };
        time::timeout(REPORT_WITHIN, asking).await.ok().flatten()
    }
}

/// Who acts for people that have the management token, in the audit.
const OPERATOR: &str = "operator";

fn key_report(key: &KeyRecord) -> KeyReport {
    KeyReport { access: key.access.clone(), user: key.user.clone(), disabled: key.disabled }
}

async fn cluster_report(cluster: &Cluster) -> Option<ClusterReport> {
    let groups = time::timeout(REPORT_WITHIN, cluster.groups()).await.ok()?;
    let map = cluster.map();
    let name = |slot: u32| if slot == CONTROL { "control".to_owned() } else { format!("slot {slot}") };
    let stopped = groups.stopped.into_iter().map(|(slot, why)| StoppedGroup { group: name(slot), why });
    Some(ClusterReport {
        cluster: map.born().id.to_string(),
        node: cluster.node().0,
        epoch: map.epoch,
        nodes: map.nodes.len() as u64,
        control_leader: groups.control_leader.map(|node| node.0),
        led: groups.led,
        followed: groups.followed,
        leaderless: groups.leaderless,
        resting: groups.resting,
        moving: groups.moving,
        lag: groups.lag,
        provisional: groups.provisional,
        conflicts: groups.conflicts,
        stopped: stopped.collect(),
    })
}

/// Memory of this process, where the system says.
async fn resident_bytes() -> Option<u64> {
    let text = fs::read_text("/proc/self/statm", 4096).await.ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * PAGE)
}

fn fill_in(report: &mut NodeReport, status: &Status) {
    report.node = status.map.node.to_string();
    report.map_epoch = status.map.epoch;
    report.is_settled = status.map.is_settled;
    report.disks = status.disks.iter().map(disk_report).collect();
    report.lanes = status.lanes.iter().map(lane_report).collect();
    let trouble = |(path, why): &(String, String)| Trouble { path: path.clone(), why: why.clone() };
    report.troubles = status.troubles.iter().map(trouble).collect();
}

fn disk_report(disk: &DiskStatus) -> DiskReport {
    DiskReport {
        disk: disk.entry.id.to_string(),
        path: disk.path.clone(),
        is_leaving: disk.entry.state == DiskState::Leaving,
        slots_to_move: disk.slots_to_move,
        weight_bytes: disk.entry.weight_bytes,
        total_bytes: disk.space.map(|space| space.total),
        free_bytes: disk.space.map(|space| space.free),
    }
}

fn lane_report(lane: &LaneStatus) -> LaneReport {
    let (number, disk) = (lane.entry.number, lane.entry.disk.to_string());
    let report = |state, why, detail| LaneReport { lane: number, disk, state, why, detail };
    let (core, chunks, bytes, found) = match &lane.state {
        Found::Missing(why) => return report(LaneState::Missing, Some(why.clone()), None),
        Found::Open { core, chunks, bytes, lane } => (core, *chunks, *bytes, lane),
    };
    let (state, why) = match (&found.poisoned, found.has_room) {
        (Some(reason), _) => (LaneState::Poisoned, Some(reason.to_string())),
        (None, false) => (LaneState::Full, Some("there is no room for data on its disk".to_owned())),
        (None, true) => (LaneState::Open, None),
    };
    let (counts, log) = (found.counts, found.log);
    let part = |damage: &Damage| format!("segment {}, bytes {:?}", damage.segment, damage.bytes);
    let detail = LaneDetail {
        core: core.index(),
        chunks,
        chunk_bytes: bytes,
        live_bytes: found.live_bytes,
        segments: found.segments.0 as u64,
        segments_free: found.segments.1 as u64,
        segment_bytes: u64::from(found.segment_bytes),
        quarantined: found.quarantined,
        damage: found.damage.iter().map(part).collect(),
        commit_failure: found.commit_failure.clone(),
        uncommitted_bytes: uncommitted(found),
        puts: counts.puts,
        puts_existing: counts.puts_existing,
        gets: counts.gets,
        cache_hits: counts.cache_hits,
        drops: counts.drops,
        bad_reads: counts.bad_reads,
        log_records: log.records,
        log_batches: log.batches,
        log_bytes: log.batch_bytes,
        log_syncs: log.syncs,
        segments_made: log.segments_made,
        segments_freed: log.segments_freed,
    };
    report(state, why, Some(detail))
}

/// How much of the log lies behind what the index covers.
fn uncommitted(lane: &lane::Status) -> u64 {
    let (applied, committed, length) = (lane.applied, lane.committed, u64::from(lane.segment_bytes));
    // An index that was never committed covers nothing: all segments in use are read.
    let (segments, from) = match committed.segment {
        0 => (lane.segments.0.saturating_sub(1) as u64, 0),
        segment => (applied.segment.saturating_sub(segment), u64::from(committed.offset)),
    };
    (segments * length + u64::from(applied.offset)).saturating_sub(from)
}
