//! The properties of plans that move data: rebalancing lowers the busiest and breaks nothing; a change of nodes moves
//! what it must and says when it can't.

use std::collections::BTreeMap;

use cairn_placement::map::Parts;
use cairn_placement::plan::change::{Change, ChangeError, Obstacle, change};
use cairn_placement::plan::rebalance::{Measure, Options, Size, rebalance};
use cairn_placement::policy::{Need, Policy};
use cairn_placement::{Group, Map, Node, NodeId, NodeState, PartitionId, Placer};
use proptest::prelude::*;

const GIB: u64 = 1 << 30;

fn nodes(count: u64) -> Vec<Node> {
    (1..=count).map(|id| Node::new(id, 1000 * GIB).label("rack", &format!("r{}", id % 5))).collect()
}

fn map_of(nodes: Vec<Node>, policy: Policy) -> Map {
    let (meta, policies) = (policy.name.clone(), vec![policy]);
    Map::new(Parts { nodes, policies, meta, partitions: 64, ..Parts::default() }).expect("the map is right")
}

fn racks() -> Policy {
    Policy::copies("p", 3).spread("rack", 3, Need::Required)
}

fn any_sizes() -> impl Strategy<Value = Vec<Size>> {
    let bytes = prop_oneof![4 => 0..GIB, 1 => 0..50 * GIB];
    prop::collection::vec((bytes, 0..1000_u64).prop_map(|(bytes, load)| Size { bytes, load }), 0..80)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    /// With its pins in the map, the map says exactly what the plan said, and constraints still hold.
    #[test]
    fn a_rebalance_does_what_it_says(sizes in any_sizes(), threshold in 0..100_u32, by_load in any::<bool>()) {
        let map = map_of(nodes(12), racks());
        let placer = Placer::new(&map, map.meta_policy());
        let measure = if by_load { Measure::Load } else { Measure::Bytes };
        let options = Options { measure, threshold_percent: threshold, ..Options::default() };
        let plan = rebalance(&placer, &sizes, options);
        prop_assert!(plan.busiest_percent.1 <= plan.busiest_percent.0);
        let next = map.with_pins(|pins| pins.extend(plan.pins.clone())).expect("pins name nodes of the map");
        let after = Placer::new(&next, next.meta_policy());
        for (group, nodes) in &plan.pins {
            prop_assert_eq!(&after.select(*group).nodes, nodes);
            prop_assert!(placer.accepts(nodes));
        }
        let again = rebalance(&after, &sizes, options);
        prop_assert!(again.moves.is_empty(), "one plan is enough: {:?}", again.moves);
        if plan.stuck.is_empty() {
            prop_assert!(plan.busiest_percent.1 <= u64::from(threshold) + 101, "{:?}", plan.busiest_percent);
        }
    }

    /// A drained node gives away all it has and nothing else moves: the least there can be.
    #[test]
    fn a_drain_moves_the_nodes_own_data_only(which in 1..=12_u64, bytes in prop::collection::vec(0..GIB, 64)) {
        let map = map_of(nodes(12), racks());
        let node = NodeId(which);
        let plan = change(&map, map.meta_policy(), &bytes, &Change::Drain(node)).expect("it is a node");
        let placer = Placer::new(&map, map.meta_policy());
        let had = map.partitions().filter(|one| placer.select(Group::Partition(*one)).nodes.contains(&node));
        let had: u64 = had.map(|one| bytes[one.0 as usize]).sum();
        prop_assert!(plan.transfers.iter().all(|transfer| transfer.from == node && transfer.to != node));
        prop_assert_eq!(plan.bytes(), had);
        prop_assert!(plan.is_possible(), "{:?}", plan.obstacles);
    }
}

#[test]
fn below_the_threshold_nothing_moves() {
    let map = map_of(nodes(12), racks());
    let placer = Placer::new(&map, map.meta_policy());
    let sizes = vec![Size { bytes: GIB, load: 1 }; 64];
    let options = Options { threshold_percent: 400, ..Options::default() };
    assert!(rebalance(&placer, &sizes, options).moves.is_empty());
    assert!(rebalance(&placer, &[], Options::default()).moves.is_empty(), "an empty cluster is balanced");
}

/// Found by the property above: who could move nothing at first was never asked again, though moves of others made room.
#[test]
fn who_was_stuck_is_asked_again() {
    let map = map_of(nodes(12), racks());
    let placer = Placer::new(&map, map.meta_policy());
    let sizes = [101, 543, 389, 22, 389].map(|load| Size { bytes: 0, load });
    let options = Options { measure: Measure::Load, threshold_percent: 8, ..Options::default() };
    let plan = rebalance(&placer, &sizes, options);
    let next = map.with_pins(|pins| pins.extend(plan.pins)).expect("pins name nodes of the map");
    let again = rebalance(&Placer::new(&next, next.meta_policy()), &sizes, options);
    assert!(again.moves.is_empty(), "one plan is enough: {:?}", again.moves);
}

#[test]
fn hot_partitions_leave_the_hot_node() {
    let map = map_of(nodes(12), Policy::copies("p", 1));
    let placer = Placer::new(&map, map.meta_policy());
    let hot = placer.select(Group::Partition(PartitionId(0))).nodes[0];
    let of_hot = |number: u32| placer.select(Group::Partition(PartitionId(number))).nodes[0] == hot;
    let sizes: Vec<Size> = (0..64).map(|one| Size { bytes: GIB, load: if of_hot(one) { 100 } else { 10 } }).collect();
    let plan = rebalance(&placer, &sizes, Options { measure: Measure::Load, ..Options::default() });
    assert!(!plan.moves.is_empty() && plan.moves.iter().all(|one| one.from == hot), "{:?}", plan.moves);
    assert!(plan.busiest_percent.1 < plan.busiest_percent.0);
}

#[test]
fn a_drain_that_breaks_the_policy_says_so() {
    let map = map_of(nodes(3), racks());
    let plan = change(&map, map.meta_policy(), &[GIB; 64], &Change::Drain(NodeId(2))).expect("it is a node");
    let said: Vec<String> = plan.obstacles.iter().map(Obstacle::to_string).collect();
    assert!(said[0].starts_with("3 nodes wanted, 2 may be chosen, 1 draining"), "{said:?}");
    assert!(said[1].starts_with("3 different values of `rack` wanted (required), 2 possible"), "{said:?}");
}

#[test]
fn a_drain_without_room_says_who_lacks_it() {
    let mut members = nodes(6);
    members[3].free_bytes = 0;
    let map = map_of(members, Policy::copies("p", 3));
    let plan = change(&map, map.meta_policy(), &[GIB; 64], &Change::Decommission(NodeId(1))).expect("it is a node");
    assert!(matches!(plan.obstacles[..], [Obstacle::NoRoom { node: NodeId(4), free: 0, .. }]), "{:?}", plan.obstacles);
}

#[test]
fn a_dead_node_is_replaced_and_its_pins_follow() {
    let map = map_of(nodes(6), Policy::copies("p", 1));
    let group = Group::Partition(PartitionId(5));
    let map = map.with_pins(|pins| _ = pins.insert(group, vec![NodeId(2)])).expect("it is a node");
    let map = map.with_state(NodeId(2), NodeState::Offline);
    let new = Node::new(77, 1000 * GIB).label("rack", "r2");
    let plan = change(&map, map.meta_policy(), &[GIB; 64], &Change::Replace { old: NodeId(2), new }).expect("it fits");
    assert_eq!(Placer::new(&plan.next, plan.next.meta_policy()).select(group).nodes, [NodeId(77)]);
    assert_eq!(plan.next.node(NodeId(2)).map(|node| node.state), Some(NodeState::Out));
    let targets: BTreeMap<_, _> = plan.incoming.iter().filter(|(node, _)| node.0 != 77).collect();
    assert!(targets.is_empty(), "only the new node is given anything: {targets:?}");
}

#[test]
fn a_change_that_makes_no_sense_is_refused() {
    let map = map_of(nodes(3), Policy::copies("p", 1));
    let unknown = change(&map, map.meta_policy(), &[], &Change::Drain(NodeId(9))).expect_err("no such node");
    assert_eq!(unknown.to_string(), "the map has no node 9; look its id up in [[nodes]]");
    let twice = change(&map, map.meta_policy(), &[], &Change::Add(Node::new(1, GIB))).expect_err("it is there");
    assert!(matches!(twice, ChangeError::Faults(_)) && twice.to_string().contains("two nodes"), "{twice}");
}
