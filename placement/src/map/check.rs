//! What must hold in a map. Every complaint names its field and says what to do.

use std::collections::BTreeSet;
use std::fmt;

use super::{GROUPS_MAX, NODES_MAX, Node, Parts};
use crate::id::{Group, NodeId};
use crate::policy::{Policy, Redundancy, WIDTH_MAX};
use crate::rank::Strategy;
use crate::selector::{Labels, is_label_word};

/// One thing that is wrong with a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where, such as `nodes[3].free_bytes`.
    pub field: String,
    /// What is wrong and what to do about it.
    pub problem: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.problem)
    }
}

impl std::error::Error for Fault {}

/// Gathers faults.
#[derive(Default)]
pub(super) struct Faults(pub(super) Vec<Fault>);

impl Faults {
    fn unless(&mut self, right: bool, field: impl FnOnce() -> String, problem: impl FnOnce() -> String) {
        if !right {
            self.0.push(Fault { field: field(), problem: problem() });
        }
    }
}

pub(super) fn check(parts: &Parts) -> Vec<Fault> {
    let mut faults = Faults::default();
    check_sizes(parts, &mut faults);
    let mut ids = BTreeSet::new();
    for (at, node) in parts.nodes.iter().enumerate() {
        check_node(&format!("nodes[{at}]"), node, &mut ids, &mut faults);
    }
    let mut names = BTreeSet::new();
    for (at, policy) in parts.policies.iter().enumerate() {
        let field = format!("policies[{at}]");
        let new = names.insert(policy.name.as_str());
        let twice = || format!("{:?} names two policies; rename one", policy.name);
        faults.unless(new, || format!("{field}.name"), twice);
        check_policy(&field, policy, &mut faults);
    }
    check_meta(parts, &mut faults);
    check_pins(parts, &ids, &mut faults);
    faults.0
}

fn check_sizes(parts: &Parts, faults: &mut Faults) {
    for (field, count) in [("partitions", parts.partitions), ("slots", parts.slots)] {
        let right = (1..=GROUPS_MAX).contains(&count);
        faults.unless(right, || field.to_owned(), || format!("{count} is not between 1 and {GROUPS_MAX}"));
    }
    let count = parts.nodes.len();
    let too_many = || format!("{count} nodes are more than the {NODES_MAX} a map may have");
    faults.unless(count <= NODES_MAX, || "nodes".to_owned(), too_many);
    let unusable = matches!(parts.strategy, Strategy::Ring { weight_per_token: 0 });
    let zero = || "0 would mean endless tokens; give at least 1".to_owned();
    faults.unless(!unusable, || "strategy.ring.weight_per_token".to_owned(), zero);
}

fn check_node(field: &str, node: &Node, ids: &mut BTreeSet<NodeId>, faults: &mut Faults) {
    let twice = || format!("{} is the id of two nodes; every node needs its own", node.id.0);
    faults.unless(ids.insert(node.id), || format!("{field}.id"), twice);
    let (free, capacity) = (node.free_bytes, node.capacity_bytes);
    let more = || format!("{free} is more than capacity_bytes, {capacity}; correct one of them");
    faults.unless(free <= capacity, || format!("{field}.free_bytes"), more);
    check_labels(field, &node.labels, faults);
}

fn check_labels(field: &str, labels: &Labels, faults: &mut Faults) {
    for (name, value) in labels {
        let rule = "a label's name and value have 1 to 63 letters, digits or -_./:";
        faults.unless(is_label_word(name), || format!("{field}.labels"), || format!("{name:?} is no name: {rule}"));
        let wrong = || format!("{value:?} is no value: {rule}");
        faults.unless(is_label_word(value), || format!("{field}.labels.{name}"), wrong);
    }
}

fn check_policy(field: &str, policy: &Policy, faults: &mut Faults) {
    let word = || format!("{:?} is no name: use 1 to 63 letters, digits or -_./:", policy.name);
    faults.unless(is_label_word(&policy.name), || format!("{field}.name"), word);
    let width = policy.redundancy.width();
    let redundancy = || format!("{field}.redundancy");
    let range = || format!("{} needs {width} nodes; it must be 1 to {WIDTH_MAX}", policy.redundancy);
    faults.unless((1..=WIDTH_MAX).contains(&width), redundancy, range);
    let no_data = matches!(policy.redundancy, Redundancy::Pieces { data: 0, .. });
    faults.unless(!no_data, redundancy, || "k of k+m must be at least 1".to_owned());
    let mut labels = BTreeSet::new();
    for (at, spread) in policy.spread.iter().enumerate() {
        let field = format!("{field}.spread[{at}]");
        let label = &spread.label;
        faults.unless(is_label_word(label), || format!("{field}.label"), || format!("{label:?} is no label's name"));
        let twice = || format!("{label:?} is spread twice; keep the stricter one");
        faults.unless(labels.insert(label), || format!("{field}.label"), twice);
        let distinct = usize::from(spread.distinct);
        let unmeetable = || format!("{distinct} different values can't lie on {width} nodes; give 1 to {width}");
        faults.unless((1..=width).contains(&distinct), || format!("{field}.distinct"), unmeetable);
    }
}

fn check_meta(parts: &Parts, faults: &mut Faults) {
    let meta = parts.policies.iter().find(|policy| policy.name == parts.meta);
    let unknown = || format!("{:?} names no policy; name one of [policies]", parts.meta);
    faults.unless(meta.is_some(), || "meta".to_owned(), unknown);
    let copies = meta.is_none_or(|policy| matches!(policy.redundancy, Redundancy::Copies(_)));
    let pieces = || format!("{:?} cuts into pieces; metadata needs a policy of whole copies", parts.meta);
    faults.unless(copies, || "meta".to_owned(), pieces);
}

fn check_pins(parts: &Parts, ids: &BTreeSet<NodeId>, faults: &mut Faults) {
    for (group, nodes) in &parts.pins {
        let field = || format!("pins.{group}");
        let (number, count) = match group {
            Group::Partition(partition) => (partition.0, parts.partitions),
            Group::Slot(slot) => (slot.0, parts.slots),
        };
        faults.unless(number < count, field, || format!("there are only {count}, numbered from 0"));
        let mut seen = BTreeSet::new();
        for node in nodes {
            faults.unless(ids.contains(node), field, || format!("{} is no node of this map; remove it", node.0));
            faults.unless(seen.insert(node), field, || format!("{} stands there twice; remove one", node.0));
        }
    }
}
