//! Elections: who hears of no leader for long enough asks first whether others would vote for it, and then for their votes.

use cairn_io::time;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::group::Slot;
use super::raft::Role;
use super::types::{Payload, Vote};
use super::wire::{Candidacy, Question, Reply};

impl Slot {
    /// Does what it is time for.
    pub fn tick(&self) {
        if self.is_over() {
            return;
        }
        let raft = self.raft.borrow();
        let Some(lead) = raft.lead() else {
            let is_due = time::now() >= self.elect_at.get() && raft.membership().is_voter(self.me);
            drop(raft);
            if is_due {
                self.wake();
                self.stand(None);
            }
            return;
        };
        let leaves = raft.are_members_settled() && !raft.membership().is_voter(self.me);
        let goes_on = lead.hands_over.is_none_or(|until| time::now() >= until);
        drop(raft);
        if leaves && goes_on {
            self.hand_over();
        }
        if !self.rest.is_resting() {
            self.beat_due(self.options.heartbeat);
            self.tell_all(self.options.heartbeat / 4);
        }
    }

    /// Stands for election; at once if the leader itself, who has this vote, wants it.
    pub fn stand(&self, wanted_by: Option<Vote>) {
        if self.runs.is_standing.replace(true) {
            return;
        }
        self.wait_for_leader(self.options.election.0);
        self.run(async move |slot| {
            let stood = slot.stand_once(wanted_by).await;
            slot.runs.is_standing.set(false);
            if let Err(error) = stood {
                slot.fail(&error);
            }
        });
    }

    async fn stand_once(&self, wanted_by: Option<Vote>) -> std::io::Result<()> {
        let (before, heard) = (wanted_by.unwrap_or(self.raft.borrow().vote), self.rest.heard());
        let candidacy = |term| Candidacy {
            vote: Vote::new(term, self.me),
            last: self.log.last(),
            is_transfer: wanted_by.is_some(),
        };
        if wanted_by.is_none() {
            let question = Question::PreVote(candidacy(self.raft.borrow().latest + 1));
            if !self.poll(&question, || self.raft.borrow().vote == before).await {
                return Ok(());
            }
        }
        let candidacy = {
            let _turn = self.turn.lock().await;
            // Somebody was elected, or stands already.
            let has_heard = wanted_by.is_none() && self.rest.heard() != heard;
            if self.raft.borrow().vote != before || has_heard || self.leading().is_some() {
                return Ok(());
            }
            // Others vote against what they promised a leader only in the term behind the one of who hands over.
            let term = wanted_by.map_or(self.raft.borrow().latest, |leader| leader.term) + 1;
            self.raft.borrow_mut().stand(term);
            self.save_vote().await?;
            candidacy(term)
        };
        let stands = || {
            let raft = self.raft.borrow();
            raft.vote == candidacy.vote && matches!(raft.role, Role::Candidate)
        };
        if stands() && self.poll(&Question::Vote(candidacy), stands).await {
            self.begin_to_lead();
        }
        Ok(())
    }

    /// Asks all who vote, and says whether a majority would, while this node still wants to know.
    async fn poll(&self, question: &Question, still: impl Fn() -> bool) -> bool {
        let membership = self.raft.borrow().membership().clone();
        let mut granted = vec![self.me];
        let has_majority = |granted: &[u64]| membership.is_majority(|node| granted.contains(&node));
        let others = membership.voters().into_iter().filter(|node| *node != self.me);
        let limit = self.options.election.0;
        let mut asked: FuturesUnordered<_> =
            others.map(async |node| (node, self.router.ask(node, self.number, question, limit).await)).collect();
        while !has_majority(&granted) {
            let Some((node, reply)) = asked.next().await else { return false };
            match reply {
                Ok(Reply::Voted { is_granted: true, .. }) => granted.push(node),
                // What it voted for may be somebody who gave up: a later term is only remembered.
                Ok(Reply::Voted { vote, .. } | Reply::Higher(vote)) => {
                    let mut raft = self.raft.borrow_mut();
                    raft.latest = raft.latest.max(vote.term);
                }
                _ => {}
            }
            if !still() {
                return false;
            }
        }
        still()
    }

    fn begin_to_lead(&self) {
        self.raft.borrow_mut().lead_from(self.log.end());
        tracing::debug!(slot = self.number, "this node leads");
        self.push(Payload::Blank);
        self.beat_all();
        self.send_all();
        self.drive();
    }
}
