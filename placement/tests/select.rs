//! The properties on which everything else rests: selections are deterministic, stable, weighted, and constrained.

use std::collections::{BTreeMap, BTreeSet};

use cairn_placement::map::Parts;
use cairn_placement::policy::{Need, Policy};
use cairn_placement::rank::Strategy as Ranking;
use cairn_placement::select::{Exclusion, Missing};
use cairn_placement::{Group, Map, Node, NodeId, NodeState, PartitionId, Placer, SlotId};
use proptest::prelude::*;

const TIB: u64 = 1 << 40;

fn map_of(nodes: Vec<Node>, policy: Policy, partitions: u32) -> Map {
    let (meta, policies) = (policy.name.clone(), vec![policy]);
    Map::new(Parts { nodes, policies, meta, partitions, ..Parts::default() }).expect("the map is right")
}

fn selections(map: &Map) -> Vec<Vec<NodeId>> {
    let placer = Placer::new(map, map.meta_policy());
    map.partitions().map(|partition| placer.select(Group::Partition(partition)).nodes).collect()
}

/// Few values, so that spreads are often just possible and often not.
fn any_node() -> impl Strategy<Value = Node> {
    let state = prop_oneof![6 => Just(NodeState::Online), 1 => prop::sample::select(&NodeState::ALL[..])];
    let label = |most: u8| prop::option::weighted(0.9, 0..most);
    (any::<u32>(), 1..64_u64, state, label(2), label(3), label(4)).prop_map(|(id, size, state, site, room, rack)| {
        let mut node = Node { state, ..Node::new(u64::from(id), size * TIB) };
        for (name, value) in [("site", site), ("room", room), ("rack", rack)] {
            node = value.into_iter().fold(node, |node, value| node.label(name, &format!("{name}{value}")));
        }
        node
    })
}

fn any_nodes(most: usize) -> impl Strategy<Value = Vec<Node>> {
    prop::collection::vec(any_node(), 1..most).prop_map(|mut nodes| {
        nodes.sort_by_key(|node| node.id);
        nodes.dedup_by_key(|node| node.id);
        nodes
    })
}

fn any_policy() -> impl Strategy<Value = Policy> {
    let need = prop_oneof![Just(Need::Required), Just(Need::Preferred)];
    let spread = (0..=4_u8, need);
    (1..=4_u8, [spread.clone(), spread.clone(), spread]).prop_map(|(copies, spreads)| {
        let named = ["site", "room", "rack"].into_iter().zip(spreads);
        let wanted = named.filter(|(_, (distinct, _))| (1..=copies).contains(distinct));
        wanted
            .fold(Policy::copies("p", copies), |policy, (label, (distinct, need))| policy.spread(label, distinct, need))
    })
}

/// How well a set meets a policy: each spread's count, required ones first, none counted beyond what is wanted.
fn quality(nodes: &[&Node], policy: &Policy) -> Vec<usize> {
    let of_need = |need| policy.spread.iter().filter(move |spread| spread.need == need);
    let values = |label: &str| nodes.iter().filter_map(|node| node.labels.get(label)).collect::<BTreeSet<_>>().len();
    let all = of_need(Need::Required).chain(of_need(Need::Preferred));
    all.map(|spread| values(&spread.label).min(usize::from(spread.distinct))).collect()
}

/// All sets of `width` of them.
fn sets<'a>(nodes: &[&'a Node], width: usize) -> Vec<Vec<&'a Node>> {
    match (width, nodes) {
        (0, _) => vec![vec![]],
        (_, []) => vec![],
        (_, [first, rest @ ..]) => {
            let with = sets(rest, width - 1).into_iter().map(|mut set| {
                set.insert(0, *first);
                set
            });
            with.chain(sets(rest, width)).collect()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    /// Against trying every set: the best there is, the first of those in ranking order, and the shortfall exactly.
    #[test]
    fn constraints_hold_whenever_they_can(nodes in any_nodes(9), policy in any_policy(), number in 0..100_u32) {
        let map = map_of(nodes, policy, 128);
        let policy = map.meta_policy();
        let placer = Placer::new(&map, policy);
        let group = Group::Partition(PartitionId(number));
        let ranking: Vec<&Node> = placer.ranking(group).iter().filter_map(|id| map.node(*id)).collect();
        let width = policy.redundancy.width().min(ranking.len());
        let all = sets(&ranking, width); // In ranking order already.
        let best = all.iter().map(|set| quality(set, policy)).max().expect("at least the empty set");
        let first = all.iter().find(|set| quality(set, policy) == best).expect("one has it");
        let expected: Vec<NodeId> = first.iter().map(|node| node.id).collect();
        let selection = placer.select(group);
        prop_assert_eq!(&selection.nodes, &expected);
        prop_assert!(placer.accepts(&selection.nodes));

        let order = |need| policy.spread.iter().filter(move |spread| spread.need == need);
        let spreads = order(Need::Required).chain(order(Need::Preferred));
        let short: BTreeMap<_, _> = spreads.zip(&best).filter(|(spread, got)| usize::from(spread.distinct) > **got)
            .map(|(spread, got)| (spread.label.clone(), *got)).collect();
        let said: BTreeMap<_, _> = selection.missing.iter().filter_map(|missing| match missing {
            Missing::Distinct { label, possible, .. } => Some((label.clone(), *possible)),
            Missing::Nodes { .. } => None,
        }).collect();
        prop_assert_eq!(said, short);
        let too_few = selection.missing.iter().any(|missing| matches!(missing, Missing::Nodes { .. }));
        prop_assert_eq!(too_few, width < policy.redundancy.width());
    }

    #[test]
    fn the_order_of_nodes_plays_no_part(nodes in any_nodes(30), policy in any_policy(), turn in 0..30_usize) {
        let mut turned = nodes.clone();
        turned.reverse();
        turned.rotate_left(turn % nodes.len());
        prop_assert_eq!(selections(&map_of(nodes, policy.clone(), 32)), selections(&map_of(turned, policy, 32)));
    }

    /// Whoever isn't chosen may go without anybody noticing; so a new node takes part only where it is chosen.
    #[test]
    fn a_node_changes_only_what_it_is_in(nodes in any_nodes(30), policy in any_policy(), which in 0..30_usize) {
        let gone = nodes[which % nodes.len()].id;
        let with = map_of(nodes.clone(), policy.clone(), 64);
        let without = map_of(nodes.into_iter().filter(|node| node.id != gone).collect(), policy, 64);
        let same = Placer::new(&with, with.meta_policy()).missing() == Placer::new(&without, without.meta_policy()).missing();
        for (before, after) in selections(&with).iter().zip(selections(&without)) {
            prop_assert!(!after.contains(&gone));
            if same && !before.contains(&gone) {
                prop_assert_eq!(before, &after);
            }
        }
    }

    #[test]
    fn only_nodes_that_may_be_chosen_are(nodes in any_nodes(20), policy in any_policy()) {
        let map = map_of(nodes, policy, 64);
        for nodes in selections(&map) {
            for node in &nodes {
                let state = map.node(*node).map(|node| node.state);
                prop_assert!(matches!(state, Some(NodeState::Online | NodeState::Suspect)), "{node}: {state:?}");
            }
            prop_assert_eq!(nodes.iter().collect::<BTreeSet<_>>().len(), nodes.len());
        }
    }

    /// Pins come first, in their order, as far as the policy can be met with them.
    #[test]
    fn pins_never_break_a_policy(nodes in any_nodes(12), policy in any_policy(), picks in prop::collection::btree_set(0..12_usize, 0..4)) {
        let pinned: Vec<NodeId> = picks.iter().filter_map(|at| nodes.get(*at)).map(|node| node.id).collect();
        let map = map_of(nodes, policy, 8);
        let group = Group::Partition(PartitionId(3));
        let with = map.with_pins(|pins| _ = pins.insert(group, pinned.clone())).expect("they are nodes");
        let placer = Placer::new(&with, with.meta_policy());
        let selection = placer.select(group);
        prop_assert!(placer.accepts(&selection.nodes));
        let unpinned = Placer::new(&map, map.meta_policy());
        prop_assert_eq!(placer.missing(), unpinned.missing());
        if placer.accepts(&pinned) {
            prop_assert_eq!(selection.nodes, pinned);
        }
    }
}

fn equal_nodes(count: u64) -> Vec<Node> {
    (1..=count).map(|id| Node::new(id, 4 * TIB).label("rack", &format!("r{}", id % 10))).collect()
}

fn moved(before: &[Vec<NodeId>], after: &[Vec<NodeId>]) -> usize {
    let news = before.iter().zip(after).map(|(old, new)| new.iter().filter(|node| !old.contains(node)).count());
    news.sum()
}

/// 65,536 partitions, so that chance is much smaller than 5 %.
fn assert_fair_share(policy: Policy, strategy: Ranking, slack_percent: usize) {
    let few = Map::new(Parts {
        nodes: equal_nodes(40),
        meta: policy.name.clone(),
        policies: vec![policy],
        partitions: 65_536,
        strategy,
        ..Parts::default()
    });
    let few = few.expect("the map is right");
    let many = few.with_nodes(|nodes| nodes.push(Node::new(41, 4 * TIB).label("rack", "r1"))).expect("a new id");
    let (before, after) = (selections(&few), selections(&many));
    let copies = before.iter().map(Vec::len).sum::<usize>();
    let allowed = copies / 41 * (100 + slack_percent) / 100;
    let (came, went) = (moved(&before, &after), moved(&after, &before));
    assert!(came > 0 && came <= allowed && went <= allowed, "{came} came, {went} went, {allowed} allowed");
}

#[test]
fn a_new_node_moves_no_more_than_its_share() {
    assert_fair_share(Policy::copies("p", 3), Ranking::Rendezvous, 5);
    assert_fair_share(Policy::copies("p", 3).spread("rack", 3, Need::Required), Ranking::Rendezvous, 5);
}

#[test]
fn a_ring_moves_little_too_if_less_evenly() {
    assert_fair_share(Policy::copies("p", 3), Ranking::Ring { weight_per_token: 16 }, 30);
}

#[test]
fn nodes_win_in_proportion_to_their_weight() {
    let nodes: Vec<Node> = (1..=20).map(|id| Node::new(id, id * TIB)).collect();
    let map = map_of(nodes, Policy::copies("p", 1), 262_144);
    let mut wins = BTreeMap::new();
    selections(&map).iter().flatten().for_each(|node| *wins.entry(node.0).or_insert(0_u64) += 1);
    for (id, count) in wins {
        let expected = 262_144 * id / 210;
        let deviation = count.abs_diff(expected);
        // Five standard deviations of a Poisson variable: chance passes that once in millions.
        assert!(deviation * deviation <= 25 * expected, "n{id}: {count} of {expected}");
    }
}

#[test]
fn partitions_and_slots_are_independent() {
    let map = map_of(equal_nodes(40), Policy::copies("p", 1), 256);
    let placer = Placer::new(&map, map.meta_policy());
    let same = (0..256).filter(|number| {
        placer.select(Group::Partition(PartitionId(*number))) == placer.select(Group::Slot(SlotId(*number)))
    });
    assert!(same.count() < 30, "one in forty is chance");
}

#[test]
fn draining_a_node_gives_its_part_to_others_and_moves_nothing_else() {
    let map = map_of(equal_nodes(40), Policy::copies("p", 3).spread("rack", 3, Need::Required), 4096);
    let drained = map.with_state(NodeId(7), NodeState::Draining);
    for (before, after) in selections(&map).iter().zip(selections(&drained)) {
        assert!(!after.contains(&NodeId(7)));
        let lost = before.iter().filter(|node| !after.contains(node)).count();
        assert_eq!(lost, usize::from(before.contains(&NodeId(7))), "one node for one node");
    }
}

#[test]
fn what_is_missing_is_said_precisely() {
    let mut nodes: Vec<Node> = (1..=4).map(|id| Node::new(id, TIB).label("rack", "r1")).collect();
    nodes[0].state = NodeState::Offline;
    nodes[1] = nodes[1].clone().label("class", "archive");
    let mut policy = Policy::copies("p", 3).spread("rack", 2, Need::Required).spread("dc", 1, Need::Preferred);
    policy.only = vec!["!class=archive".parse().expect("it is one")];
    let map = map_of(nodes, policy, 16);
    let placer = Placer::new(&map, map.meta_policy());
    let said: Vec<String> = placer.missing().iter().map(Missing::to_string).collect();
    assert_eq!(
        said,
        [
            "3 nodes wanted, 2 may be chosen, 1 offline, 1 kept out by `!class=archive`; add nodes or lower the redundancy",
            "2 different values of `rack` wanted (required), 1 possible; there are: r1; add nodes with other values or lower `distinct`",
            "1 different values of `dc` wanted (preferred), 0 possible; no node that may be chosen carries the label; \
             add nodes with other values or lower `distinct`",
        ]
    );
    assert_eq!(placer.excluded()[1], (NodeId(2), Exclusion::Forbidden("!class=archive".to_owned())));
    assert_eq!(placer.select(Group::Slot(SlotId(3))).nodes.len(), 2, "the best possible set all the same");
}

#[test]
fn no_nodes_no_panic() {
    let strategies = [Ranking::Rendezvous, Ranking::Ring { weight_per_token: 1 }, Ranking::Modulo];
    for (strategy, nodes) in strategies.into_iter().flat_map(|one| [(one, vec![]), (one, equal_nodes(1))]) {
        let count = nodes.len();
        let map = Map::new(Parts { nodes, strategy, ..Parts::default() }).expect("few nodes are no fault");
        let placer = Placer::new(&map, map.meta_policy());
        assert_eq!(placer.select(Group::Partition(PartitionId(5))).nodes.len(), count);
        assert_eq!(placer.table().nodes(PartitionId(4095)).len(), count);
        assert!(placer.table().nodes(PartitionId(4096)).is_empty());
    }
}
