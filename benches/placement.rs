//! Benchmarks of `placement`: what choosing nodes and planning cost, beside a plain rendezvous loop in the same run.
//!
//! The plain loop hashes every node and keeps the three best: no weights, no labels, no pins.

use std::hint::black_box;

use cairn_benches::criterion;
use cairn_placement::map::Parts;
use cairn_placement::plan::cleanup::cleanup;
use cairn_placement::plan::repair::{Limits, repair};
use cairn_placement::plan::{Digest, Holding, Inventory, Proof, audit};
use cairn_placement::policy::{Need, Policy};
use cairn_placement::rank::Strategy;
use cairn_placement::{Group, Map, Node, PartitionId, Placer};
use criterion::Criterion;
use xxhash_rust::xxh3::xxh3_64;

const TIB: u64 = 1 << 40;

fn main() {
    let mut criterion = criterion();
    select(&mut criterion);
    table(&mut criterion);
    plans(&mut criterion);
    criterion.final_summary();
}

/// Nodes of four sizes, twenty to a rack.
fn map(nodes: u64, partitions: u32, policy: Policy, strategy: Strategy) -> Map {
    let node = |id: u64| Node::new(id, TIB << (id % 4)).label("rack", &format!("r{}", id / 20));
    let (nodes, meta, policies) = ((1..=nodes).map(node).collect(), policy.name.clone(), vec![policy]);
    Map::new(Parts { nodes, partitions, strategy, meta, policies, ..Parts::default() }).expect("the map is right")
}

fn three() -> Policy {
    Policy::copies("three", 3)
}

fn three_racks() -> Policy {
    three().spread("rack", 3, Need::Required)
}

/// The reference: the three nodes with the greatest hashes.
fn plain(partition: u32, nodes: u64) -> [(u64, u64); 3] {
    let mut best = [(0, 0); 3];
    for node in 1..=nodes {
        let pair = u128::from(partition) | (u128::from(node) << 64);
        let entry = (xxh3_64(&pair.to_le_bytes()), node);
        if entry > best[2] {
            best[2] = entry;
            best.sort_unstable_by(|a, b| b.cmp(a));
        }
    }
    best
}

fn select(criterion: &mut Criterion) {
    for nodes in [1_000, 10_000] {
        let mut group = criterion.benchmark_group(format!("select/{nodes}_nodes"));
        let mut partition = 0;
        let mut next = move || {
            partition = (partition + 1) % 4096;
            partition
        };
        group.bench_function("plain", |bencher| bencher.iter(|| plain(black_box(next()), nodes)));
        let ring = Strategy::Ring { weight_per_token: 64 };
        let cases = [
            ("three", three(), Strategy::Rendezvous),
            ("three_racks", three_racks(), Strategy::Rendezvous),
            ("ring_three_racks", three_racks(), ring),
        ];
        for (name, policy, strategy) in cases {
            let map = map(nodes, 4096, policy, strategy);
            let placer = Placer::new(&map, map.meta_policy());
            group.bench_function(name, |bencher| {
                bencher.iter(|| placer.select(Group::Partition(PartitionId(black_box(next())))));
            });
        }
        group.finish();
    }
}

fn table(criterion: &mut Criterion) {
    for (nodes, partitions) in [(1_000, 4_096), (10_000, 65_536)] {
        let mut group = criterion.benchmark_group(format!("table/{nodes}_nodes_{partitions}_partitions"));
        group.bench_function("plain", |bencher| {
            bencher.iter(|| (0..partitions).map(|partition| plain(partition, nodes)).collect::<Vec<_>>());
        });
        let map = map(nodes, partitions, three_racks(), Strategy::Rendezvous);
        group.bench_function("three_racks", |bencher| {
            bencher.iter(|| Placer::new(&map, map.meta_policy()).table());
        });
        group.finish();
    }
}

/// Every copy in place, but each hundredth partition lacks one and each fiftieth has one too many.
fn inventory(placer: &Placer<'_>) -> Inventory {
    let mut holdings = Vec::new();
    for partition in placer.map().partitions() {
        let mut nodes = placer.select(Group::Partition(partition)).nodes;
        if partition.0 % 50 == 1 {
            nodes.extend(placer.ranking(Group::Partition(partition)).last());
        }
        for node in nodes.into_iter().skip(usize::from(partition.0 % 100 == 0)) {
            let (digest, proof) = (Digest(u128::from(partition.0)), Some(Proof(1)));
            holdings.push(Holding { partition, node, piece: 0, digest, bytes: 1 << 30, proof });
        }
    }
    Inventory::new(holdings)
}

fn plans(criterion: &mut Criterion) {
    let map = map(100, 4_096, three_racks(), Strategy::Rendezvous);
    let placer = Placer::new(&map, map.meta_policy());
    let inventory = inventory(&placer);
    let audited = audit(&placer, &inventory);
    let mut group = criterion.benchmark_group("plans/100_nodes_4096_partitions");
    group.bench_function("plain", |bencher| {
        bencher.iter(|| (0..4_096).map(|partition| plain(partition, 100)).collect::<Vec<_>>());
    });
    group.bench_function("audit", |bencher| bencher.iter(|| audit(&placer, &inventory)));
    group.bench_function("repair", |bencher| bencher.iter(|| repair(&placer, &audited, Limits::default())));
    group.bench_function("cleanup", |bencher| {
        bencher.iter(|| cleanup(&placer, &audited, 0));
    });
    group.finish();
}
