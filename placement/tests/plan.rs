//! The properties of plans: an audit misses nothing, repair and audit agree, cleanup never goes below policy.

use std::collections::{BTreeMap, BTreeSet};

use cairn_placement::map::Parts;
use cairn_placement::plan::audit::{LackKind, Standing, Worth};
use cairn_placement::plan::cleanup::{CleanupPlan, Kept, cleanup};
use cairn_placement::plan::ledger::{Domain, ledger};
use cairn_placement::plan::repair::{Action, Limits, Obstacle, RepairPlan, repair};
use cairn_placement::plan::{Audit, Digest, Holding, Inventory, Proof, audit};
use cairn_placement::policy::{Need, Policy, Redundancy};
use cairn_placement::{Group, Map, Node, NodeId, NodeState, PartitionId, Placer};
use proptest::prelude::*;

const GIB: u64 = 1 << 30;
const PARTITIONS: u32 = 32;

fn map_of(nodes: Vec<Node>, policy: Policy) -> Map {
    let meta = Policy::copies("meta", 3);
    let (policies, meta) = (vec![meta, policy], "meta".to_owned());
    Map::new(Parts { nodes, policies, meta, partitions: PARTITIONS, ..Parts::default() }).expect("the map is right")
}

fn nodes(count: u64) -> Vec<Node> {
    (1..=count).map(|id| Node::new(id, 1000 * GIB).label("rack", &format!("r{}", id % 4))).collect()
}

fn pieces(data: u8, parity: u8) -> Policy {
    Policy { redundancy: Redundancy::Pieces { data, parity }, ..Policy::copies("data", 1) }
}

fn holding(partition: u32, node: u64, piece: u8) -> Holding {
    let digest = Digest(u128::from(partition) + 1);
    let proof = Some(Proof(1000 + node));
    Holding { partition: PartitionId(partition), node: NodeId(node), piece, digest, bytes: GIB, proof }
}

/// Everything where it should be.
fn healthy(map: &Map, policy: &Policy) -> Vec<Holding> {
    let placer = Placer::new(map, policy);
    let whole = matches!(policy.redundancy, Redundancy::Copies(_));
    let of = |partition: PartitionId| {
        let nodes = placer.select(Group::Partition(partition)).nodes;
        let held = nodes.into_iter().zip(0..);
        held.map(move |(node, piece)| holding(partition.0, node.0, if whole { 0 } else { piece })).collect::<Vec<_>>()
    };
    map.partitions().flat_map(of).collect()
}

fn audited(map: &Map, policy: &Policy, holdings: Vec<Holding>) -> Audit {
    audit(&Placer::new(map, policy), &Inventory::new(holdings))
}

/// What is held after a plan has been carried out.
fn repaired(holdings: &[Holding], plan: &RepairPlan) -> Vec<Holding> {
    let mut after = holdings.to_vec();
    for step in &plan.steps {
        after.retain(|holding| (holding.partition, holding.node) != (step.partition, step.to));
        let source = holdings.iter().find(|one| one.partition == step.partition && one.node == step.from[0]);
        let digest = source.expect("a source holds what it gives").digest;
        after.push(Holding { digest, ..holding(step.partition.0, step.to.0, step.piece) });
    }
    after
}

fn data(map: &Map) -> &Policy {
    map.policy("data").expect("each of these maps has it")
}

fn any_policy() -> impl Strategy<Value = Policy> {
    prop_oneof![
        (1..=4_u8).prop_map(|copies| Policy::copies("data", copies)),
        Just(Policy::copies("data", 3).spread("rack", 3, Need::Required)),
        Just(Policy::copies("data", 3).spread("rack", 2, Need::Preferred)),
        (1..=4_u8, 0..=2_u8).prop_map(|(data, parity)| pieces(data, parity)),
    ]
}

/// A cluster in some disorder: states, lost, moved, doubled, different and unproven copies.
#[derive(Clone, Debug)]
struct Disorder {
    states: Vec<NodeState>,
    free: Vec<u64>,
    holdings: Vec<(u32, u64, u8, bool, bool)>,
}

fn any_disorder() -> impl Strategy<Value = Disorder> {
    let state = prop_oneof![5 => Just(NodeState::Online), 1 => prop::sample::select(&NodeState::ALL[..])];
    let holding = (0..PARTITIONS, 1..=12_u64, 0..6_u8, prop::bool::weighted(0.1), prop::bool::weighted(0.8));
    let (states, free) = (prop::collection::vec(state, 12), prop::collection::vec(0..60_u64, 12));
    (states, free, prop::collection::vec(holding, 0..200)).prop_map(|(states, free, holdings)| Disorder {
        states,
        free,
        holdings,
    })
}

fn disorderly(disorder: &Disorder, policy: &Policy) -> (Map, Vec<Holding>) {
    let mut nodes = nodes(12);
    for (node, (state, free)) in nodes.iter_mut().zip(disorder.states.iter().zip(&disorder.free)) {
        (node.state, node.free_bytes) = (*state, free * GIB);
    }
    let width = policy.redundancy.width() as u8;
    let whole = matches!(policy.redundancy, Redundancy::Copies(_));
    let made = disorder.holdings.iter().map(|(partition, node, piece, differs, proven)| {
        let mut holding = holding(*partition, *node, if whole { 0 } else { piece % width });
        holding.digest.0 += 1000 * u128::from(*differs);
        holding.proof = holding.proof.filter(|_| *proven);
        holding
    });
    let holdings = made.collect();
    (map_of(nodes, policy.clone()), holdings)
}

fn after_cleanup(holdings: &[Holding], plan: &CleanupPlan) -> Vec<Holding> {
    let dropped: BTreeSet<_> = plan.drops.iter().map(|drop| (drop.partition, drop.node)).collect();
    holdings.iter().filter(|holding| !dropped.contains(&(holding.partition, holding.node))).copied().collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// After a repair plan the next audit finds missing only what the plan said was blocked.
    #[test]
    fn a_repair_leaves_only_what_it_said(policy in any_policy(), disorder in any_disorder()) {
        let (map, holdings) = disorderly(&disorder, &policy);
        let placer = Placer::new(&map, data(&map));
        let before = audit(&placer, &Inventory::new(holdings.clone()));
        let plan = repair(&placer, &before, Limits::default());
        let missing: usize = before.findings.iter().map(|finding| finding.missing.len()).sum();
        prop_assert_eq!(plan.steps.len() + plan.blocked.len(), missing, "each is planned or explained");
        // Inventory keeps the first of two reports: so do we before repairing.
        let mut seen = BTreeSet::new();
        let unique: Vec<Holding> = holdings.into_iter().filter(|one| seen.insert((one.partition, one.node))).collect();
        let blocked: BTreeSet<_> = plan.blocked.iter().map(|blocked| blocked.partition).collect();
        for finding in audit(&placer, &Inventory::new(repaired(&unique, &plan))).findings {
            let was_diverged = before.findings.iter().any(|old| old.partition == finding.partition && old.is_diverged());
            if !blocked.contains(&finding.partition) && !was_diverged {
                prop_assert!(finding.missing.is_empty(), "{:?}", finding);
            }
        }
    }

    #[test]
    fn a_repair_keeps_its_limits_and_its_order(policy in any_policy(), disorder in any_disorder(), per in 1..4_u32) {
        let (map, holdings) = disorderly(&disorder, &policy);
        let placer = Placer::new(&map, data(&map));
        let audit = audit(&placer, &Inventory::new(holdings));
        let limits = Limits { per_source: per, per_target: 2, per_link: 1 };
        let plan = repair(&placer, &audit, limits);
        let (mut sent, mut received, mut linked) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let mut incoming = BTreeMap::new();
        for step in &plan.steps {
            for from in &step.from {
                *sent.entry((step.round, *from)).or_insert(0) += 1;
                *linked.entry((step.round, *from, step.to)).or_insert(0) += 1;
                prop_assert!(*from != step.to && map.node(*from).is_some_and(|node| node.state.is_live()));
            }
            *received.entry((step.round, step.to)).or_insert(0) += 1;
            *incoming.entry(step.to).or_insert(0) += step.bytes;
        }
        prop_assert!(sent.values().all(|count| *count <= per) && received.values().all(|count| *count <= 2));
        prop_assert!(linked.values().all(|count| *count <= 1));
        for (node, bytes) in incoming {
            prop_assert!(map.node(node).is_some_and(|node| bytes <= node.free_bytes), "{node} has no room");
        }
        for pair in plan.steps.windows(2) {
            prop_assert!((pair[0].round, pair[0].why) <= (pair[1].round, pair[1].why), "most endangered first");
        }
    }

    /// What is proven on live nodes after a cleanup meets the policy for everything that was touched.
    #[test]
    fn a_cleanup_never_goes_below_policy(policy in any_policy(), disorder in any_disorder(), overhead in 0..20_u64) {
        let (map, holdings) = disorderly(&disorder, &policy);
        let placer = Placer::new(&map, data(&map));
        let mut seen = BTreeSet::new();
        let holdings: Vec<Holding> = holdings.into_iter().filter(|one| seen.insert((one.partition, one.node))).collect();
        let before = audit(&placer, &Inventory::new(holdings.clone()));
        let plan = cleanup(&placer, &before, overhead * GIB);
        let after = after_cleanup(&holdings, &plan);
        for drop in &plan.drops {
            let old = before.findings.iter().find(|finding| finding.partition == drop.partition).expect("it was audited");
            prop_assert!(!old.desired.contains(&drop.node), "only surplus goes");
            prop_assert!(!old.is_diverged(), "nothing goes while copies differ");
            let proven = after.iter().filter(|one| one.partition == drop.partition && one.proof.is_some());
            let proven = proven.filter(|one| map.node(one.node).is_some_and(|node| node.state == NodeState::Online));
            let proven: Vec<&Holding> = proven.collect();
            let pieces: BTreeSet<u8> = proven.iter().map(|one| one.piece).collect();
            let strength = if data(&map).redundancy.enough() == 1 && pieces.len() == 1 { proven.len() } else { pieces.len() };
            prop_assert!(strength >= data(&map).redundancy.width(), "{} left of {}", strength, data(&map).redundancy);
            for spread in data(&map).spread.iter().filter(|spread| spread.need == Need::Required) {
                let value = |one: &&Holding| map.node(one.node).and_then(|node| node.labels.get(&spread.label));
                let values: BTreeSet<_> = proven.iter().filter_map(value).collect();
                prop_assert!(values.len() >= usize::from(spread.distinct));
            }
        }
        let surplus = |audit: &Audit| -> u64 {
            let held = audit.findings.iter().flat_map(|finding| &finding.held);
            held.filter(|held| held.worth != Worth::Unreachable)
                .filter(|held| held.place != cairn_placement::plan::audit::Place::Desired).map(|held| held.bytes).sum()
        };
        let kept = surplus(&before) - plan.bytes();
        prop_assert!(kept >= (overhead * GIB).min(surplus(&before)), "the overhead stays");
    }

    /// Removing a good copy never makes the ledger look better.
    #[test]
    fn a_lost_copy_never_improves_the_ledger(policy in any_policy(), gone in 0..1000_usize) {
        let map = map_of(nodes(12), policy);
        let mut holdings = healthy(&map, data(&map));
        let placer = Placer::new(&map, data(&map));
        let green = ledger(&placer, &audit(&placer, &Inventory::new(holdings.clone())));
        prop_assert!(green[0].is_green(), "{:?}", green[0]);
        holdings.remove(gone % holdings.len());
        let rows = ledger(&placer, &audit(&placer, &Inventory::new(holdings)));
        prop_assert!(!rows[0].is_green() || data(&map).redundancy.width() == 1);
    }
}

#[test]
fn a_healthy_cluster_needs_nothing() {
    for policy in [Policy::copies("data", 3).spread("rack", 3, Need::Required), pieces(4, 2)] {
        let map = map_of(nodes(12), policy);
        let placer = Placer::new(&map, data(&map));
        let audit = audited(&map, data(&map), healthy(&map, data(&map)));
        assert_eq!(audit.findings.len(), PARTITIONS as usize);
        assert!(audit.findings.iter().all(|finding| finding.standing == Standing::Full && finding.missing.is_empty()));
        assert_eq!(repair(&placer, &audit, Limits::default()), RepairPlan::default());
        assert_eq!(cleanup(&placer, &audit, 0), CleanupPlan::default());
        assert!(ledger(&placer, &audit).iter().all(cairn_placement::plan::ledger::Row::is_green));
    }
}

#[test]
fn the_most_endangered_is_repaired_first() {
    let map = map_of(nodes(12), Policy::copies("data", 3));
    let mut holdings = healthy(&map, data(&map));
    let mut of_seven = 0;
    holdings.retain(|one| {
        of_seven += u32::from(one.partition.0 == 7);
        let first = one.node == Placer::new(&map, data(&map)).select(Group::Partition(one.partition)).nodes[0];
        !((one.partition.0 == 7 && of_seven > 1) || (one.partition.0 == 3 && first))
    });
    let audit = audited(&map, data(&map), holdings);
    let plan = repair(&Placer::new(&map, data(&map)), &audit, Limits::default());
    let order: Vec<u32> = plan.steps.iter().map(|step| step.partition.0).collect();
    assert_eq!(order.len(), 3);
    assert_eq!(order[0], 7, "one copy left");
    assert!(plan.steps[0].to_string().ends_with("the next failure loses it"), "{}", plan.steps[0]);
}

#[test]
fn a_lost_piece_is_rebuilt_and_a_lost_partition_is_told() {
    let map = map_of(nodes(12), pieces(2, 1));
    let mut holdings = healthy(&map, data(&map));
    holdings.retain(|one| !matches!((one.partition.0, one.piece), (5, 1) | (6, 1..)));
    let placer = Placer::new(&map, data(&map));
    let audit = audited(&map, data(&map), holdings);
    let plan = repair(&placer, &audit, Limits::default());
    assert_eq!((plan.steps.len(), plan.steps[0].action, plan.steps[0].piece), (1, Action::Rebuild, 1));
    assert_eq!(plan.steps[0].from.len(), 2);
    assert!(plan.blocked.iter().all(|blocked| blocked.why == Obstacle::NoSource { have: 1, need: 2 }));
    let rows = ledger(&placer, &audit);
    assert_eq!((rows[0].lost.partitions, rows[0].short_by[&1].partitions), (1, 1));
}

#[test]
fn a_partition_that_nobody_holds_is_missed() {
    let map = map_of(nodes(5), Policy::copies("data", 3));
    let mut inventory = Inventory::new(vec![]);
    inventory.expect(PartitionId(9), 77);
    let audit = audit(&Placer::new(&map, data(&map)), &inventory);
    assert_eq!((audit.findings.len(), audit.findings[0].standing, audit.findings[0].bytes), (1, Standing::Lost, 77));
}

#[test]
fn different_copies_are_compared_and_nothing_is_dropped() {
    let map = map_of(nodes(12), Policy::copies("data", 3));
    let placer = Placer::new(&map, data(&map));
    let mut holdings = healthy(&map, data(&map));
    let odd = holdings.iter_mut().find(|one| one.partition.0 == 4).expect("it is held");
    odd.digest = Digest(99);
    let node = odd.node;
    let spare = (1..=12).map(NodeId).find(|node| !holdings.iter().any(|one| (one.partition.0, one.node) == (4, *node)));
    holdings.push(holding(4, spare.expect("12 are more than 3").0, 0));
    let audit = audited(&map, data(&map), holdings);
    let finding = &audit.findings[4];
    assert_eq!((finding.missing[0].node, finding.missing[0].kind), (node, LackKind::Differs));
    assert_eq!(repair(&placer, &audit, Limits::default()).steps[0].action, Action::Sync);
    let plan = cleanup(&placer, &audit, 0);
    assert!(plan.drops.is_empty() && plan.kept[&Kept::Diverged].0 == 1);
}

#[test]
fn the_fullest_node_is_relieved_first() {
    let mut members = nodes(12);
    members[2].free_bytes = 5 * GIB;
    members[7].free_bytes = 3 * GIB;
    let map = map_of(members, Policy::copies("data", 3));
    let mut holdings = healthy(&map, data(&map));
    for partition in 0..PARTITIONS {
        for node in [3, 8] {
            if !holdings.iter().any(|one| (one.partition.0, one.node.0) == (partition, node)) {
                holdings.push(holding(partition, node, 0));
            }
        }
    }
    let placer = Placer::new(&map, data(&map));
    let plan = cleanup(&placer, &audited(&map, data(&map), holdings), 10 * GIB);
    let order: Vec<u64> = plan.drops.iter().take(6).map(|drop| drop.node.0).collect();
    assert_eq!(order, [8, 8, 3, 8, 3, 8], "free space grows with each drop; of equals the lower id");
    assert_eq!(plan.kept[&Kept::Overhead], (10, 10 * GIB));
}

#[test]
fn the_ledger_speaks_of_each_failure_domain() {
    let map = map_of(nodes(12), Policy::copies("data", 3).spread("rack", 2, Need::Required));
    let placer = Placer::new(&map, data(&map));
    let holdings = [4, 8, 12].map(|node| holding(1, node, 0)).to_vec(); // All in rack r0.
    let rows = ledger(&placer, &audited(&map, data(&map), holdings));
    assert_eq!((&rows[0].domain, rows[0].wanted, rows[0].is_green()), (&Domain::Node, 2, true));
    assert_eq!((rows[1].domain.to_string(), rows[1].wanted, rows[1].is_green()), ("rack".to_owned(), 1, false));
    assert_eq!(rows[1].short_by[&1].oldest_proof, Some(Proof(1004)));
}

#[test]
fn a_limit_of_nothing_is_said_not_waited_for() {
    let map = map_of(nodes(12), Policy::copies("data", 3));
    let mut holdings = healthy(&map, data(&map));
    holdings.remove(0);
    let limits = Limits { per_link: 0, ..Limits::default() };
    let plan = repair(&Placer::new(&map, data(&map)), &audited(&map, data(&map), holdings), limits);
    assert_eq!((plan.steps.len(), plan.blocked[0].why), (0, Obstacle::Forbidden));
}
