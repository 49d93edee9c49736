//! Programs in simulated worlds, over many seeds: what they promise must hold under every plan of faults, and each seed
//! must give the same run again.
//!
//! `CAIRN_SIM_SEEDS` says how many seeds each test takes, `CAIRN_SIM_FROM` which comes first; `CAIRN_SIM_SEED` takes
//! just that one and tells all about it. `CAIRN_SIM_SHRINK_RUNS` says how many runs a failing plan may take to be made smaller.
// NOTE: from a client of a node down to a write of its log, futures nest deeper than the usual 128.
#![recursion_limit = "256"]

mod bell;
mod chunklog;
mod cluster;
mod counter;
mod disks;
mod harness;
mod http;
mod lane;
mod log;
mod ping;
mod rate;
mod rpc;
mod slots;
mod wire;

use cairn_io::sim::{Fault, FaultPlan};
use harness::Scenario;

#[test]
fn counter_keeps_every_acknowledged_increment() {
    Scenario { name: "counter", plan: counter::plan, run: counter::run }.check();
}

#[test]
fn chunklog_keeps_every_record_it_applied() {
    Scenario { name: "chunklog", plan: chunklog::plan, run: chunklog::run }.check();
}

#[test]
fn lane_keeps_what_it_answered_for() {
    Scenario { name: "lane", plan: lane::plan, run: lane::run }.check();
}

#[test]
fn lane_tells_what_rotted() {
    Scenario { name: "lane_tells", plan: lane::plan_with_rot, run: lane::run }.check();
}

#[test]
fn a_cluster_keeps_what_it_answered_for() {
    Scenario { name: "cluster", plan: cluster::plan, run: cluster::run }.check();
}

#[test]
fn a_gateway_keeps_what_it_answered_for() {
    Scenario { name: "gateway", plan: cluster::plan, run: cluster::run_gateway }.check();
}

#[test]
fn what_a_node_takes_while_it_is_cut_off_is_handed_over() {
    Scenario { name: "cut_off", plan: cluster::plan_cut_off, run: cluster::cut_off }.check();
}

#[test]
fn an_evacuation_keeps_what_was_answered_for() {
    Scenario { name: "evacuation", plan: cluster::plan_with_disks, run: cluster::evacuation }.check();
}

#[test]
fn of_fifty_writers_one_is_first() {
    Scenario { name: "fifty", plan: cluster::plan, run: cluster::race }.check();
}

#[test]
fn disks_keep_what_they_answered_for() {
    Scenario { name: "disks", plan: disks::plan, run: disks::run }.check();
}

#[test]
fn disks_go_on_without_those_that_are_lost() {
    Scenario { name: "disks_go_on", plan: disks::plan_with_loss, run: disks::run }.check();
}

#[test]
fn http_answers_whole_until_it_has_stopped() {
    Scenario { name: "http", plan: http::plan, run: http::run }.check();
}

#[test]
fn ping_is_answered_with_what_was_sent() {
    Scenario { name: "ping", plan: ping::plan, run: ping::run }.check();
}

#[test]
fn rpc_calls_take_effect_at_most_once() {
    Scenario { name: "rpc", plan: rpc::plan, run: rpc::run }.check();
}

#[test]
fn slots_agree_on_what_they_answered() {
    Scenario { name: "slots", plan: slots::plan, run: slots::run }.check();
}

/// The counter's checker must be able to fail: writes that disks acknowledge and lose are more than the program can bear.
#[test]
fn writes_that_disks_lose_are_caught_and_shrunk() {
    let beyond = |seed| {
        let lose = |node, count| Fault::LoseWrites { node: cairn_io::sim::NodeId(node), disk: 0, count };
        let kill = |node| Fault::Kill { node: cairn_io::sim::NodeId(node), lasting: harness::millis(50) };
        counter::plan(seed)
            .with(harness::millis(2_000), lose(0, 40))
            .with(harness::millis(2_000), lose(1, 40))
            .with(harness::millis(2_000), lose(2, 40))
            .with(harness::millis(2_600), kill(0))
            .with(harness::millis(2_600), kill(1))
            .with(harness::millis(2_600), kill(2))
    };
    let fails = |seed: u64, plan: &FaultPlan| counter::run(seed, plan).verdict.is_err();
    let seed = (0..20).find(|&seed| fails(seed, &beyond(seed))).expect("20 seeds that lose writes, and none is caught");
    let plan = beyond(seed);
    let small = plan.shrink(|plan| fails(seed, plan));
    println!("seed {seed} fails with {} faults, and with these {}:\n{small}", plan.len(), small.len());
    assert!(fails(seed, &small), "what is left still fails");
    assert!(small.len() <= 6, "a few faults are enough:\n{small}");
    assert!(small.to_string().contains("lose-writes"), "the cause is among them:\n{small}");
}

#[test]
fn rate() {
    rate::print();
}
