//! Any node takes any request: what another one leads is sent on to it.
//!
//! | this node says | the leader named | then |
//! | --- | --- | --- |
//! | anything but "not the leader" | | that is the answer |
//! | not the leader | unknown, or this node | that is the answer: try again soon |
//! | not the leader | can't be reached from here | the caller is sent to it |
//! | not the leader | answers "not the leader" and names another | on to that one, until the hops are used up |
//! | not the leader | answers anything else | that is the answer |
//!
//! Each hop adds one to `call.hops`, so nodes that name each other don't send a request in circles.

use std::future::Future;
use std::rc::Rc;

use cairn_io::time::Duration;
use cairn_schema::limits::HOPS_MAX;
use cairn_schema::{
    Advice, Answer, Applied, CommitRequest, Committed, Error, ErrorKind, ListRequest, MapRequest, MapUpdate, NodeRef,
    Outcome, Page, ProposeRequest, ReadRequest, ReadResult, Request,
};

use super::peer::Peer;
use super::pool::Pool;
use super::serve::deadline_passed;
use super::service::{Answering, Caller, ControlService, SlotService};

/// A service that answers what it leads, and sends the rest on.
pub struct Forwarding<S> {
    local: S,
    pool: Rc<Pool>,
}

impl<S> Forwarding<S> {
    /// In front of what this node itself answers.
    pub fn new(local: S, pool: Rc<Pool>) -> Self {
        Self { local, pool }
    }

    /// What this node itself answers.
    pub fn local(&self) -> &S {
        &self.local
    }

    /// Follows the advice of an answer as long as it leads to another node.
    async fn follow<R, F>(
        &self,
        mut caller: Caller,
        request: &R,
        mut answer: Answer<R::Answer>,
        send: impl Fn(Peer, R, Duration) -> F,
    ) -> Answer<R::Answer>
    where
        R: Request + Clone,
        F: Future<Output = Answer<R::Answer>>,
    {
        while let Err(error) = &answer {
            let Some(leader) = leader_of(error) else { break };
            if caller.hops >= HOPS_MAX || leader.node == self.pool.own() {
                break;
            }
            let Ok(peer) = self.pool.peer(leader.node) else { break };
            let remaining = caller.remaining();
            if remaining.is_zero() {
                return Err(deadline_passed());
            }
            caller.hops += 1;
            let mut next = request.clone();
            *next.call_mut() = caller.info();
            let forwarded = send(peer, next, remaining).await;
            if let Err(failure) = &forwarded
                && failure.kind == ErrorKind::Unreachable
                && failure.outcome == Outcome::NothingDone
            {
                let message = format!("{}; from here: {}", error.message, failure.message);
                return Err(Error { message, ..error.clone() });
            }
            answer = forwarded;
        }
        answer
    }
}

/// The node that an error names as the leader.
fn leader_of(error: &Error) -> Option<&NodeRef> {
    match &error.advice {
        Advice::GoTo(leader) if error.kind == ErrorKind::NotLeader && error.outcome == Outcome::NothingDone => {
            (leader.node != 0).then_some(leader)
        }
        _ => None,
    }
}

/// Methods that differ in nothing but their names.
macro_rules! forwarded {
    ($($name:ident: $request:ty => $answer:ty),* $(,)?) => {$(
        fn $name<'a>(&'a self, caller: Caller, request: &'a $request) -> Answering<'a, $answer> {
            Box::pin(async move {
                let answer = self.local.$name(caller.clone(), request).await;
                let send = |peer: Peer, request, within| async move { peer.$name(request, within).await };
                self.follow(caller, request, answer, send).await
            })
        }
    )*};
}

impl<S: SlotService> SlotService for Forwarding<S> {
    forwarded! {
        commit: CommitRequest => Vec<Answer<Committed>>,
        read: ReadRequest => ReadResult,
        list: ListRequest => Page,
    }
}

impl<S: ControlService> ControlService for Forwarding<S> {
    fn map<'a>(&'a self, caller: Caller, request: &'a MapRequest) -> Answering<'a, MapUpdate> {
        self.local.map(caller, request)
    }

    fn wait<'a>(&'a self, caller: Caller, request: &'a MapRequest) -> Answering<'a, MapUpdate> {
        self.local.wait(caller, request)
    }

    forwarded! {
        propose: ProposeRequest => Applied,
    }
}
