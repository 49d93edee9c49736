//! `/metrics`: a report as Prometheus reads it. Nothing is counted here; it is written down when somebody asks.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeLabelSet, LabelSetEncoder, NoLabelSet};
use prometheus_client::encoding::{EncodeLabel, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::report::{ActorState, GatewayReport, LaneDetail, LaneState, NodeReport, NodeState};
use crate::http::{Answered, BOUNDS, Counts, Sort};

/// Everything that is written down.
#[derive(Clone, Debug)]
pub struct Scrape {
    /// The node.
    pub report: NodeReport,
    /// The management API's connections.
    pub http: Counts,
    /// The management API's answers.
    pub answered: Answered,
    /// Lines of the log that were lost.
    pub lines_lost: u64,
}

/// As text.
pub fn encode(scrape: Scrape) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(scrape));
    let mut out = String::new();
    // A string takes whatever is written to it.
    let _ = text::encode(&mut out, &registry);
    out
}

/// Names with values.
struct Labels<'a>(&'a [(&'a str, String)]);

impl EncodeLabelSet for Labels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        for (name, value) in self.0 {
            (*name, value.as_str()).encode(encoder.encode_label())?;
        }
        Ok(())
    }
}

/// One value with what it is of.
type Sample<'a, V> = (Vec<(&'a str, String)>, V);

struct Writer<'a>(DescriptorEncoder<'a>);

impl Writer<'_> {
    fn gauge<V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        samples: &[Sample<'_, V>],
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, unit, MetricType::Gauge)?;
        for (labels, value) in samples {
            if labels.is_empty() {
                family.encode_gauge(value)?;
            } else {
                family.encode_family(&Labels(labels))?.encode_gauge(value)?;
            }
        }
        Ok(())
    }

    fn counter(&mut self, name: &str, help: &str, samples: &[Sample<'_, u64>]) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in samples {
            if labels.is_empty() {
                family.encode_counter::<NoLabelSet, _, u64>(value, None)?;
            } else {
                family.encode_family(&Labels(labels))?.encode_counter::<NoLabelSet, _, u64>(value, None)?;
            }
        }
        Ok(())
    }

    /// Counts and latencies, by what `label` calls their sort.
    fn answered(&mut self, [requests, duration]: [&str; 2], label: &str, answered: &Answered) -> fmt::Result {
        let labels = |(sort, status): &Sort| vec![(label, (*sort).to_owned()), ("status", status.to_string())];
        let counts: Vec<_> = answered.entries().map(|(sort, latency)| (labels(sort), latency.count())).collect();
        self.counter(requests, &format!("Requests answered, by {label} and status"), &counts)?;
        let help = "How long requests took until their answer began";
        let mut family = self.0.encode_descriptor(duration, help, Some(&Unit::Seconds), MetricType::Histogram)?;
        for (sort, latency) in answered.entries() {
            let ends = BOUNDS.iter().copied().chain([f64::MAX]);
            let buckets: Vec<(f64, u64)> = ends.zip(latency.buckets).collect();
            let labels = labels(sort);
            let labels = Labels(&labels);
            let mut one = family.encode_family(&labels)?;
            one.encode_histogram::<NoLabelSet>(latency.sum.as_secs_f64(), latency.count(), &buckets, None)?;
        }
        Ok(())
    }
}

fn alone<V>(value: V) -> [Sample<'static, V>; 1] {
    [(vec![], value)]
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut writer = Writer(encoder);
        self.node(&mut writer)?;
        self.cores(&mut writer)?;
        self.disks(&mut writer)?;
        self.lanes(&mut writer)?;
        self.actors(&mut writer)?;
        self.cluster(&mut writer)?;
        self.s3(&mut writer)?;
        self.management(&mut writer)
    }
}

impl Scrape {
    fn node(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let NodeReport { version, node, uptime_seconds, state, is_settled, map_epoch, resident_bytes, .. } =
            &self.report;
        let build = vec![("version", version.clone()), ("node", node.clone())];
        writer.gauge(
            "cairn_node_info",
            "The version of the program and the name of the node",
            None,
            &[(build, 1_i64)],
        )?;
        writer.gauge(
            "cairn_node_uptime",
            "Time since the start",
            Some(&Unit::Seconds),
            &alone(*uptime_seconds as i64),
        )?;
        let is_ready = i64::from(*state == NodeState::Ready && self.report.readiness().is_ok());
        writer.gauge("cairn_node_ready", "1 if something can be stored", None, &alone(is_ready))?;
        writer.gauge(
            "cairn_node_settled",
            "1 if every chunk lies where the lane map wants it",
            None,
            &alone(i64::from(*is_settled)),
        )?;
        writer.gauge(
            "cairn_lane_map_epoch",
            "The number of the lane map that counts",
            None,
            &alone(*map_epoch as i64),
        )?;
        if let Some(bytes) = resident_bytes {
            let help = "Memory of the process";
            writer.gauge("process_resident_memory", help, Some(&Unit::Bytes), &alone(*bytes as i64))?;
        }
        writer.counter("cairn_log_lines_lost", "Lines of the log that nobody took in time", &alone(self.lines_lost))
    }

    fn cores(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let samples = |value: fn(&super::report::CoreReport) -> u64| -> Vec<Sample<'_, i64>> {
            let cores = self.report.cores.iter();
            cores.map(|core| (vec![("core", core.core.to_string())], value(core) as i64)).collect()
        };
        let bytes = Some(&Unit::Bytes);
        writer.gauge(
            "cairn_block_memory_max",
            "Memory for blocks that a core may use",
            bytes,
            &samples(|core| core.block_bytes_max),
        )?;
        writer.gauge("cairn_block_memory_lent", "Of it, in use", bytes, &samples(|core| core.block_bytes_lent))?;
        writer.gauge(
            "cairn_block_memory_cached",
            "Of it, kept for reuse",
            bytes,
            &samples(|core| core.block_bytes_cached),
        )
    }

    fn disks(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let samples = |value: fn(&super::report::DiskReport) -> Option<u64>| -> Vec<Sample<'_, i64>> {
            let disks = self.report.disks.iter();
            disks.filter_map(|disk| Some((vec![("disk", disk.disk.clone())], value(disk)? as i64))).collect()
        };
        let bytes = Some(&Unit::Bytes);
        writer.gauge(
            "cairn_disk_present",
            "1 if the disk is there",
            None,
            &samples(|disk| Some(u64::from(disk.path.is_some()))),
        )?;
        writer.gauge(
            "cairn_disk_slots_to_move",
            "Slots that are to be moved off a disk that is being emptied",
            None,
            &samples(|disk| Some(disk.slots_to_move)),
        )?;
        writer.gauge("cairn_disk_size", "Room on the disk's file system", bytes, &samples(|disk| disk.total_bytes))?;
        writer.gauge("cairn_disk_free", "Of it, free", bytes, &samples(|disk| disk.free_bytes))
    }

    fn lanes(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let states = [LaneState::Open, LaneState::Full, LaneState::Poisoned, LaneState::Missing];
        let lanes = &self.report.lanes;
        let of_state = |state: LaneState| {
            let labels = move |lane: u32| vec![("lane", lane.to_string()), ("state", lane_state(state).to_owned())];
            lanes.iter().map(move |lane| (labels(lane.lane), i64::from(lane.state == state)))
        };
        let samples: Vec<_> = states.into_iter().flat_map(of_state).collect();
        writer.gauge("cairn_lane_state", "1 for the state the lane is in", None, &samples)?;
        for (name, help, unit, value) in LANE_GAUGES {
            writer.gauge(name, help, unit.then_some(&Unit::Bytes), &self.of_lanes::<i64>(*value))?;
        }
        for (name, help, value) in LANE_COUNTERS {
            writer.counter(name, help, &self.of_lanes::<u64>(*value))?;
        }
        Ok(())
    }

    fn of_lanes<V: TryFrom<u64> + Default>(&self, value: fn(&LaneDetail) -> u64) -> Vec<Sample<'static, V>> {
        let open = self.report.lanes.iter().filter_map(|lane| Some((lane.lane, lane.detail.as_ref()?)));
        open.map(|(lane, detail)| (vec![("lane", lane.to_string())], V::try_from(value(detail)).unwrap_or_default()))
            .collect()
    }

    fn actors(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let all = || self.report.cores.iter().flat_map(|core| core.actors.iter().map(|actor| (core.core, actor)));
        let labels = |core: usize, actor: &super::report::ActorReport| {
            let lane = actor.lane.map_or_else(String::new, |lane| lane.to_string());
            vec![("actor", actor.name.clone()), ("core", core.to_string()), ("lane", lane)]
        };
        let gauges = |value: fn(&super::report::ActorReport) -> i64| -> Vec<Sample<'_, i64>> {
            all().map(|(core, actor)| (labels(core, actor), value(actor))).collect()
        };
        let counters = |value: fn(&super::report::ActorReport) -> u64| -> Vec<Sample<'_, u64>> {
            all().map(|(core, actor)| (labels(core, actor), value(actor))).collect()
        };
        writer.gauge(
            "cairn_actor_working",
            "1 if the background worker works",
            None,
            &gauges(|actor| i64::from(actor.state == ActorState::Working)),
        )?;
        writer.gauge("cairn_actor_mailbox", "Messages it has not read", None, &gauges(|actor| actor.mailbox as i64))?;
        writer.counter("cairn_actor_starts", "How often it was started", &counters(|actor| actor.starts))?;
        writer.counter("cairn_actor_failures", "How often it failed", &counters(|actor| actor.failures))?;
        writer.counter("cairn_actor_panics", "Of these, how often it panicked", &counters(|actor| actor.panics))
    }

    fn cluster(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let Some(cluster) = &self.report.cluster else { return Ok(()) };
        let gauges: [(&str, &str, u64); 9] = [
            ("cairn_map_epoch", "The epoch of the cluster map that the node has", cluster.epoch),
            ("cairn_groups_led", "Groups that the node leads", cluster.led),
            ("cairn_groups_followed", "Groups of the node that another one leads", cluster.followed),
            ("cairn_groups_leaderless", "Groups of the node that nobody leads, as far as it knows", cluster.leaderless),
            ("cairn_groups_resting", "Groups of the node in which nothing happens", cluster.resting),
            ("cairn_groups_stopped", "Groups that have stopped on the node", cluster.stopped.len() as u64),
            ("cairn_groups_lag", "Entries that are committed and not applied on the node yet", cluster.lag),
            ("cairn_conflicts", "Objects in conflict, in groups that the node leads", cluster.conflicts),
            ("cairn_provisional_versions", "Versions of the node that their slots don't have yet", cluster.provisional),
        ];
        for (name, help, value) in gauges {
            writer.gauge(name, help, None, &alone(value as i64))?;
        }
        Ok(())
    }

    fn management(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let Counts { connections, accepted, refused, timed_out, underway, panics, .. } = self.http;
        writer.gauge("cairn_management_connections", "Connections that are open", None, &alone(connections as i64))?;
        writer.gauge(
            "cairn_management_requests_underway",
            "Requests that are being answered",
            None,
            &alone(underway as i64),
        )?;
        writer.counter("cairn_management_connections_accepted", "Connections taken", &alone(accepted))?;
        writer.counter(
            "cairn_management_connections_refused",
            "Connections refused because there were too many",
            &alone(refused),
        )?;
        writer.counter(
            "cairn_management_connections_timed_out",
            "Connections closed because their client was too slow",
            &alone(timed_out),
        )?;
        writer.counter("cairn_management_panics", "Requests that panicked", &alone(panics))?;
        let names = ["cairn_management_requests", "cairn_management_request_duration"];
        writer.answered(names, "route", &self.answered)
    }

    /// What the gateways of all cores have done.
    fn s3(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let gateways = || self.report.cores.iter().filter_map(|core| core.s3.as_ref());
        if gateways().next().is_none() {
            return Ok(());
        }
        for (name, help, is_bytes, value) in GATEWAY_GAUGES {
            let sum = gateways().map(value).sum::<u64>();
            writer.gauge(name, help, is_bytes.then_some(&Unit::Bytes), &alone(sum as i64))?;
        }
        let refused = gateways().map(|one| one.refused).sum();
        writer.counter(
            "cairn_s3_connections_refused",
            "Connections of S3 clients refused because there were too many",
            &alone(refused),
        )?;
        let mut answered = Answered::default();
        gateways().for_each(|one| answered.add(&one.answered));
        writer.answered(["cairn_s3_requests", "cairn_s3_request_duration"], "operation", &answered)
    }
}

fn lane_state(state: LaneState) -> &'static str {
    match state {
        LaneState::Open => "open",
        LaneState::Full => "full",
        LaneState::Poisoned => "poisoned",
        LaneState::Missing => "missing",
    }
}

type Gauge = (&'static str, &'static str, bool, fn(&LaneDetail) -> u64);
type GatewayGauge = (&'static str, &'static str, bool, fn(&GatewayReport) -> u64);
type Counter = (&'static str, &'static str, fn(&LaneDetail) -> u64);

/// Name, meaning, whether it is bytes.
const LANE_GAUGES: &[Gauge] = &[
    ("cairn_lane_chunks", "Chunks in the lane", false, |lane| lane.chunks),
    ("cairn_lane_chunk_size", "Their bytes", true, |lane| lane.chunk_bytes),
    ("cairn_lane_live", "Bytes of live records", true, |lane| lane.live_bytes),
    ("cairn_lane_segments", "Segments in use", false, |lane| lane.segments),
    ("cairn_lane_segments_free", "Files that are ready to become segments", false, |lane| lane.segments_free),
    ("cairn_lane_segment_size", "The length of a segment", true, |lane| lane.segment_bytes),
    ("cairn_lane_quarantined", "Records found bad that wait for repair", false, |lane| lane.quarantined),
    ("cairn_lane_damage", "Parts of the log that can not be read", false, |lane| lane.damage.len() as u64),
    ("cairn_lane_commit_failing", "1 if the index could not be committed", false, |lane| {
        u64::from(lane.commit_failure.is_some())
    }),
    ("cairn_index_uncommitted", "Bytes of the log that a start would read again", true, |lane| lane.uncommitted_bytes),
];

const GATEWAY_GAUGES: &[GatewayGauge] = &[
    ("cairn_s3_connections", "Connections of S3 clients that are open", false, |one| one.connections),
    ("cairn_s3_requests_underway", "Requests over S3 that are being answered", false, |one| one.underway),
    ("cairn_s3_body_memory", "Memory that bodies hold", true, |one| one.body_bytes),
];

const LANE_COUNTERS: &[Counter] = &[
    ("cairn_lane_puts", "Chunks stored", |lane| lane.puts),
    ("cairn_lane_puts_existing", "Chunks that were there already", |lane| lane.puts_existing),
    ("cairn_lane_gets", "Chunks read", |lane| lane.gets),
    ("cairn_cache_hits", "Of these, from the cache", |lane| lane.cache_hits),
    ("cairn_lane_drops", "Chunks dropped", |lane| lane.drops),
    ("cairn_lane_bad_reads", "Reads that found bad bytes", |lane| lane.bad_reads),
    ("cairn_log_records", "Records made durable", |lane| lane.log_records),
    ("cairn_log_batches", "Batches written", |lane| lane.log_batches),
    ("cairn_log_written_bytes", "Bytes written in batches", |lane| lane.log_bytes),
    ("cairn_log_syncs", "Syncs of the log", |lane| lane.log_syncs),
    ("cairn_log_segments_made", "Segments made", |lane| lane.segments_made),
    ("cairn_log_segments_freed", "Segments freed", |lane| lane.segments_freed),
];
