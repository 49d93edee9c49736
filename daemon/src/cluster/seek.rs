//! Finding who leads a slot: on this node or another.
//!
//! | it says | then |
//! | --- | --- |
//! | an answer, or an error that is one | that is the answer; who gave it is asked first next time |
//! | another leads, and which | that one is asked, at once unless it was asked just before |
//! | another leads, nobody knows which | the next of the slot's nodes, after a pause |
//! | it can't be reached | the next of the slot's nodes, after a pause |
//!
//! It ends after [`PATIENCE`], which outlasts an election, or as soon as it is clear that there will be none ([`super::contact`]).
//! Nothing was done by then.

use std::future::Future;
use std::rc::Rc;

use bytes::Bytes;
use cairn_io::CoreId;
use cairn_io::time::{self, Duration};
use cairn_meta::slot::command::{Envelope, Leveled};
use cairn_placement::NodeId;

use super::ask::{Ask, Told};
use super::hub::{Core, Line};
use super::peers::Missed;
use super::{CONTROL, ClusterError, Freshness, members};
use crate::slot::SlotError;

/// How long a leader is looked for.
const PATIENCE: Duration = Duration::from_secs(8);
/// How long another node may take: longer than what a proposal may there.
const ANSWER_WITHIN: Duration = Duration::from_secs(12);
const PAUSE_FIRST: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_millis(200);

/// Whether a slot has more to keep when it has obeyed.
fn stores(command: &[u8]) -> bool {
    matches!(Envelope::decode(command), Ok(Leveled::Known(_, envelope)) if envelope.command.stores())
}

/// Who is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    /// A core of this node.
    Here(CoreId),
    /// Another node.
    There(NodeId),
}

impl Core {
    /// Has a slot obey a command, wherever it is led.
    pub async fn command(self: &Rc<Self>, slot: u32, command: Bytes) -> Result<Bytes, ClusterError> {
        self.seek(slot, self.likely(slot), |target| {
            let (core, command) = (self.clone(), command.clone());
            async move {
                match target {
                    Target::Here(to) => core.command_on(to, slot, command).await,
                    Target::There(node) => {
                        let answer = core.peers.calls.command(node, slot, command, ANSWER_WITHIN);
                        let lost = || {
                            Err(ClusterError::Unknown(format!("node {} is out of reach all at once", node.0)).into())
                        };
                        core.unless_away(node, answer).await.unwrap_or_else(lost)
                    }
                }
            }
        })
        .await
    }

    /// Has a slot of this node obey a command.
    pub async fn command_on(self: &Rc<Self>, to: CoreId, slot: u32, command: Bytes) -> Result<Bytes, Missed> {
        let propose = move |core: Rc<Self>| async move {
            core.check(slot)?;
            core.check_room(slot, &command)?;
            Ok::<_, Missed>(core.slots.propose(slot, command).await?)
        };
        Ok(self.run(Line::Slot, to, propose).await??.into())
    }

    /// Asks a slot: who leads it, or, if the answer may be old, this node first.
    pub async fn ask(self: &Rc<Self>, slot: u32, ask: Ask) -> Result<Told, ClusterError> {
        let may_be_old = matches!(ask, Ask::Slot(_, Freshness::Local)) && self.core_of(slot).is_some();
        let first = if may_be_old { Some(self.me) } else { self.likely(slot) };
        self.seek(slot, first, |target| {
            let (core, ask) = (self.clone(), ask.clone());
            async move {
                match target {
                    Target::Here(to) => core.ask_on(to, slot, ask).await,
                    Target::There(node) => {
                        let answer = core.peers.calls.ask(node, slot, ask.encode().into(), ANSWER_WITHIN);
                        let lost = || Err(Missed::Away(format!("node {} is out of reach all at once", node.0)));
                        let told = core.unless_away(node, answer).await.unwrap_or_else(lost)?;
                        Told::decode(&told).map_err(|malformed| Missed::Final(malformed.into()))
                    }
                }
            }
        })
        .await
    }

    /// Asks a slot of this node.
    pub async fn ask_on(self: &Rc<Self>, to: CoreId, slot: u32, ask: Ask) -> Result<Told, Missed> {
        let answer = move |core: Rc<Self>| async move {
            core.check(slot)?;
            core.answer(slot, &ask).await
        };
        self.run(Line::Slot, to, answer).await?
    }

    /// Whether a group of this core has stopped: then another node may do what is asked.
    fn check(&self, slot: u32) -> Result<(), Missed> {
        match self.slots.stopped(slot)? {
            Some(why) => Err(Missed::Away(format!("it has stopped on node {}: {why}", self.me.0))),
            None => Ok(()),
        }
    }

    /// Refuses what stores something while there is only the room that is kept for what frees some.
    fn check_room(&self, slot: u32, command: &[u8]) -> Result<(), Missed> {
        match self.slots.check_room(slot) {
            Err(error @ SlotError::NoRoom(_)) if slot != CONTROL && stores(command) => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// The core of this node that has a slot.
    pub fn core_of(&self, slot: u32) -> Option<CoreId> {
        self.routes.borrow().core_of(slot)
    }

    /// Who led a slot when it was last asked.
    fn likely(&self, slot: u32) -> Option<NodeId> {
        self.leaders.borrow().get(&slot).copied()
    }

    async fn seek<T, F: Future<Output = Result<T, Missed>>>(
        &self,
        slot: u32,
        first: Option<NodeId>,
        attempt: impl Fn(Target) -> F,
    ) -> Result<T, ClusterError> {
        let (begun, mut pause, mut turn) = (time::now(), PAUSE_FIRST, 0_usize);
        let mut next = first.or_else(|| self.candidates(slot).first().copied());
        let mut why = String::new();
        loop {
            let Some(node) = next else { return Err(self.nowhere(slot)) };
            let missed = match self.target(slot, node) {
                // Nothing is sent of which nobody would know what became.
                Some(Target::There(node)) if self.is_still_away(node).await => {
                    Missed::Away(format!("node {} is out of reach", node.0))
                }
                Some(target) => match attempt(target).await {
                    Ok(answer) => {
                        if first != Some(node) {
                            self.leaders.borrow_mut().insert(slot, node);
                        }
                        return Ok(answer);
                    }
                    Err(missed) => missed,
                },
                // Nobody else has it, and here it won't come back by waiting.
                None if self.candidates(slot) == [self.me] && !self.is_opening(slot) => return Err(self.nowhere(slot)),
                None => Missed::Away(self.nowhere(slot).to_string()),
            };
            let mut named = None;
            match missed {
                Missed::Final(error) => {
                    if matches!(error, ClusterError::Unknown(_)) {
                        // Whoever leads now: this one may not be there any more.
                        self.leaders.borrow_mut().remove(&slot);
                    }
                    return Err(error);
                }
                Missed::Elsewhere(leader) => named = leader.filter(|leader| *leader != node),
                Missed::Away(reason) => why = reason,
            }
            turn += 1;
            if begun.elapsed() > PATIENCE || named.is_none() && self.is_cut_off(slot).await {
                self.leaders.borrow_mut().remove(&slot);
                return Err(ClusterError::Unreachable(format!("nobody leads slot {slot} now: {why}; ask again later")));
            }
            // Nodes that name each other are not asked in a tight circle.
            if named.is_none() || turn.is_multiple_of(3) {
                time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
            next = named.or_else(|| {
                let candidates = self.candidates(slot);
                candidates.get(turn % candidates.len().max(1)).copied()
            });
        }
    }

    fn is_opening(&self, slot: u32) -> bool {
        !self.routes.borrow().missing().contains_key(&slot)
    }

    fn target(&self, slot: u32, node: NodeId) -> Option<Target> {
        if node != self.me {
            return Some(Target::There(node));
        }
        self.core_of(slot).map(Target::Here)
    }

    /// Who may lead a slot, this node first if it has it.
    pub fn candidates(&self, slot: u32) -> Vec<NodeId> {
        let map = self.map.borrow().clone();
        let mut nodes = members(&map, &self.peers, slot);
        nodes.sort_by_key(|node| *node != self.me);
        nodes
    }

    fn nowhere(&self, slot: u32) -> ClusterError {
        let name = if slot == CONTROL { "the control group".to_owned() } else { format!("slot {slot}") };
        let lane = self.routes.borrow().missing().get(&slot).copied();
        ClusterError::Unreachable(match lane {
            Some(lane) => format!("{name} is in lane {lane}, which is missing; bring its disk back"),
            None => format!("{name} is on no node that is known here; ask again when the map has arrived"),
        })
    }
}
