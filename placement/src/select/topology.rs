//! The labels of candidates as small numbers, and the question on which selection rests: given what is chosen, can the
//! rest still meet the spreads?
//!
//! A set with one more node than these can do with is no worse, so only what nodes would *add* counts, and nodes with
//! the same values are the same to it: a kind. One spread, or spreads of which each needs nodes of its own and finds
//! them, are answered by counting. Spreads that must share nodes take a search over kinds, which branches only over the kinds that
//! help the neediest spread, and gives up after [`STEPS_MAX`] steps: then it answers "no", the same on every machine.

use std::collections::BTreeMap;

use crate::map::Node;
use crate::policy::{Need, Spread};

/// Of a node that doesn't carry the label.
const NO_VALUE: u32 = u32::MAX;

/// Bounds the search for one answer. Labels that nest, such as rack in room in site, need a step for each node.
const STEPS_MAX: u32 = 2_000;

/// What all nodes with the same values have in common: a value for each spread.
type Kind = Vec<u32>;

/// The candidates of a placer, seen by the spreads of its policy.
#[derive(Clone, Debug)]
pub(super) struct Topology {
    /// For each spread, the values there are, in order.
    values: Vec<Vec<String>>,
    /// For each spread, how many different values can be reached together with those before it.
    targets: Vec<usize>,
    /// For each candidate its values, one for each spread.
    by_place: Vec<u32>,
    /// Each once.
    kinds: Vec<Kind>,
}

impl Topology {
    pub(super) fn new(nodes: &[&Node], spreads: &[Spread], width: usize) -> Self {
        let values: Vec<Vec<String>> = spreads.iter().map(|spread| values_of(nodes, &spread.label)).collect();
        let number = |node: &Node, at: usize| {
            let value = node.labels.get(&spreads[at].label);
            value.and_then(|value| values[at].binary_search(value).ok()).map_or(NO_VALUE, |place| place as u32)
        };
        let kind_of = |node: &&Node| -> Kind { (0..spreads.len()).map(|at| number(node, at)).collect() };
        let mut kinds: Vec<Kind> = nodes.iter().map(kind_of).collect();
        let by_place = kinds.concat();
        kinds.sort_unstable();
        kinds.dedup();
        let mut topology = Self { values, targets: vec![0; spreads.len()], by_place, kinds };
        topology.find_targets(spreads, width);
        topology
    }

    /// Raises one spread after the other, required ones first, as far as it goes without lowering another.
    fn find_targets(&mut self, spreads: &[Spread], width: usize) {
        for need in [Need::Required, Need::Preferred] {
            for at in (0..spreads.len()).filter(|at| spreads[*at].need == need) {
                let most = usize::from(spreads[at].distinct).min(self.values[at].len());
                for target in (1..=most).rev() {
                    self.targets[at] = target;
                    if Chosen::new(self).can_complete(self, width) {
                        break;
                    }
                    self.targets[at] = 0;
                }
            }
        }
    }

    /// Whether every set is as good as any other.
    pub(super) fn is_plain(&self) -> bool {
        self.targets.iter().all(|target| *target == 0)
    }

    pub(super) fn target(&self, spread: usize) -> usize {
        self.targets[spread]
    }

    pub(super) fn values(&self, spread: usize) -> &[String] {
        &self.values[spread]
    }

    fn kind(&self, place: u32) -> &[u32] {
        let spreads = self.targets.len();
        &self.by_place[place as usize * spreads..][..spreads]
    }
}

fn values_of(nodes: &[&Node], label: &str) -> Vec<String> {
    let mut values: Vec<String> = nodes.iter().filter_map(|node| node.labels.get(label).cloned()).collect();
    values.sort_unstable();
    values.dedup();
    values
}

/// What has been chosen so far.
#[derive(Clone, Debug)]
pub(super) struct Chosen {
    places: Vec<u32>,
    /// For each spread the values there are already.
    seen: Vec<Vec<u32>>,
}

impl Chosen {
    pub(super) fn new(topology: &Topology) -> Self {
        Self { places: Vec::new(), seen: vec![Vec::new(); topology.targets.len()] }
    }

    pub(super) fn contains(&self, place: u32) -> bool {
        self.places.contains(&place)
    }

    pub(super) fn add(&mut self, topology: &Topology, place: u32) {
        self.places.push(place);
        self.see(topology.kind(place));
    }

    pub(super) fn is_met(&self, topology: &Topology) -> bool {
        (0..self.seen.len()).all(|spread| self.unmet(topology, spread) == 0)
    }

    /// Whether, with this node too, `width` nodes can reach all targets.
    pub(super) fn can_take(&mut self, topology: &Topology, place: u32, width: usize) -> bool {
        let kind = topology.kind(place);
        let added = self.see(kind);
        self.places.push(place);
        let can = self.can_complete(topology, width);
        self.places.pop();
        self.unsee(&added);
        can
    }

    fn can_complete(&mut self, topology: &Topology, width: usize) -> bool {
        let left = width - self.places.len().min(width);
        self.search(topology, left, &mut 0)
    }

    /// Values that a spread still lacks.
    fn unmet(&self, topology: &Topology, spread: usize) -> usize {
        topology.targets[spread].saturating_sub(self.seen[spread].len())
    }

    fn search(&mut self, topology: &Topology, left: usize, steps: &mut u32) -> bool {
        let unmet = |spread| self.unmet(topology, spread);
        let spreads = 0..self.seen.len();
        let Some(neediest) = spreads.clone().max_by_key(|spread| (unmet(*spread), usize::MAX - spread)) else {
            return true;
        };
        // Each could have nodes of its own: an unseen value has unchosen nodes, and there are as many as the target.
        if spreads.map(unmet).sum::<usize>() <= left {
            return true;
        }
        if unmet(neediest) > left || *steps >= STEPS_MAX {
            return false;
        }
        self.helpful(topology, neediest).into_iter().any(|kind| {
            *steps += 1;
            let added = self.see(&topology.kinds[kind]);
            let can = *steps < STEPS_MAX && self.search(topology, left - 1, steps);
            self.unsee(&added);
            can
        })
    }

    /// The kinds with a new value for this spread, those that help most others first; of kinds that help the same
    /// spreads with the same values only one.
    fn helpful(&self, topology: &Topology, spread: usize) -> Vec<usize> {
        let mut by_help: BTreeMap<Kind, usize> = BTreeMap::new();
        for (at, kind) in topology.kinds.iter().enumerate() {
            let help = |spread: usize| {
                let useful = self.unmet(topology, spread) > 0 && !self.seen[spread].contains(&kind[spread]);
                if useful { kind[spread] } else { NO_VALUE }
            };
            if help(spread) != NO_VALUE {
                by_help.entry((0..kind.len()).map(help).collect()).or_insert(at);
            }
        }
        let mut helpful: Vec<(usize, usize)> = by_help
            .into_iter()
            .map(|(help, at)| (help.iter().filter(|value| **value == NO_VALUE).count(), at))
            .collect();
        helpful.sort_unstable();
        helpful.into_iter().map(|(_, at)| at).collect()
    }

    /// Notes the values of a kind and returns the spreads to which they were new.
    fn see(&mut self, kind: &[u32]) -> Vec<usize> {
        let new = |spread: &usize| kind[*spread] != NO_VALUE && !self.seen[*spread].contains(&kind[*spread]);
        let added: Vec<usize> = (0..kind.len()).filter(new).collect();
        added.iter().for_each(|spread| self.seen[*spread].push(kind[*spread]));
        added
    }

    fn unsee(&mut self, added: &[usize]) {
        added.iter().for_each(|spread| _ = self.seen[*spread].pop());
    }
}
