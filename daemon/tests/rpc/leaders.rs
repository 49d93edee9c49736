//! Any node takes any request: forwarding to the leader, and the advice where that is not possible.

use std::rc::Rc;

use cairn_daemon::rpc::{Forwarding, Pool, Server, Services};
use cairn_io::net::Stream;
use cairn_io::time::Duration;
use cairn_schema::*;

use crate::fake::{Fake, backoff, identity, limits, pool, put, services, start_at};
use crate::harness::{Place, Program, alone, on_each_driver};

on_each_driver! {
    a_request_reaches_the_leader_through_any_node: 1,
    nodes_that_name_each_other_send_nothing_in_circles: 1,
    who_cant_forward_names_the_leader: 1,
}

/// For what must succeed, however busy the machine is.
const LONG: Duration = Duration::from_secs(60);

/// A node that forwards.
struct Node {
    server: Server,
    fake: Rc<Fake>,
    pool: Rc<Pool>,
}

fn start(place: &Place, node: u64) -> Node {
    let fake = Rc::new(Fake::default());
    let pool = Rc::new(Pool::new(identity(node), limits(), backoff()));
    let slots = Rc::new(Forwarding::new(Shared(fake.clone()), pool.clone()));
    let services = Services { slots: slots.clone(), control: slots, ..services(&fake) };
    Node { server: start_at(place.any_port(), node, limits(), services), fake, pool }
}

fn start_three(place: &Place) -> [Node; 3] {
    let nodes = [1, 2, 3].map(|node| start(place, node));
    for node in &nodes {
        (1..).zip(&nodes).for_each(|(id, other)| node.pool.set(id, other.server.local_addr()));
    }
    nodes
}

fn names(leader: u64) -> Option<NodeRef> {
    Some(NodeRef { node: leader, address: String::new() })
}

/// The test looks into what the node serves.
struct Shared(Rc<Fake>);

mod shared {
    use super::*;
    use cairn_daemon::rpc::{Answering, Caller, ControlService, SlotService};

    impl SlotService for Shared {
        fn commit<'a>(&'a self, caller: Caller, request: &'a CommitRequest) -> Answering<'a, Vec<Answer<Committed>>> {
            self.0.commit(caller, request)
        }

        fn read<'a>(&'a self, caller: Caller, request: &'a ReadRequest) -> Answering<'a, ReadResult> {
            self.0.read(caller, request)
        }

        fn list<'a>(&'a self, caller: Caller, request: &'a ListRequest) -> Answering<'a, Page> {
            self.0.list(caller, request)
        }
    }

    impl ControlService for Shared {
        fn map<'a>(&'a self, caller: Caller, request: &'a MapRequest) -> Answering<'a, MapUpdate> {
            self.0.map(caller, request)
        }

        fn wait<'a>(&'a self, caller: Caller, request: &'a MapRequest) -> Answering<'a, MapUpdate> {
            self.0.wait(caller, request)
        }

        fn propose<'a>(&'a self, caller: Caller, request: &'a ProposeRequest) -> Answering<'a, Applied> {
            self.0.propose(caller, request)
        }
    }
}

fn a_request_reaches_the_leader_through_any_node() -> Program {
    alone(|place| async move {
        let nodes = start_three(&place);
        // Node 1 believes in node 2, which knows that node 3 leads by now.
        *nodes[0].fake.leader.borrow_mut() = names(2);
        *nodes[1].fake.leader.borrow_mut() = names(3);
        for (id, hops) in [(1, 2), (2, 1), (3, 0)] {
            let peer = nodes[0].pool.peer(id).expect("known");
            let answers = peer.commit(put("a", b"x"), LONG).await.expect("committed");
            assert!(answers[0].is_ok());
            assert_eq!(nodes[2].fake.hops.get(), hops, "asked through node {id}");
        }
        assert!(nodes[0].fake.objects.borrow().is_empty() && nodes[1].fake.objects.borrow().is_empty());
        let change = Change::RemoveBucket(1);
        let propose = ProposeRequest { call: CallInfo::default(), idempotency: None, epoch: 0, change };
        let applied = nodes[2].pool.peer(1).expect("known").propose(propose, LONG).await;
        assert_eq!(applied, Ok(Applied { epoch: 1, bucket: 0 }));
        assert_eq!(nodes[2].fake.epoch.get(), 1);
    })
}

fn nodes_that_name_each_other_send_nothing_in_circles() -> Program {
    alone(|place| async move {
        let nodes = start_three(&place);
        *nodes[0].fake.leader.borrow_mut() = names(2);
        *nodes[1].fake.leader.borrow_mut() = names(1);
        let peer = pool(&nodes[0].server).peer(1).expect("known");
        let error = peer.commit(put("a", b"x"), LONG).await.expect_err("nobody leads");
        assert_eq!((error.kind, error.outcome), (ErrorKind::NotLeader, Outcome::NothingDone), "{error}");
        let asked = nodes[0].fake.asked.get() + nodes[1].fake.asked.get();
        assert!((2..=8).contains(&asked), "{asked} commits asked for");
        assert!(peer.commit(put("a", b"x"), LONG).await.is_err());
        // A node that names itself is asked once.
        *nodes[2].fake.leader.borrow_mut() = names(3);
        let error = nodes[0].pool.peer(3).expect("known").commit(put("a", b"x"), LONG).await.expect_err("nobody");
        assert_eq!((error.kind, nodes[2].fake.asked.get()), (ErrorKind::NotLeader, 1));
    })
}

fn who_cant_forward_names_the_leader() -> Program {
    alone(|place| async move {
        let nodes = start_three(&place);
        // A port at which nobody listens.
        let gone = start(&place, 9).server;
        let addr = gone.local_addr();
        gone.drain().await;
        assert!(Stream::connect(addr).await.is_err());
        nodes[0].pool.set(9, addr);
        for leader in [9, 77] {
            *nodes[0].fake.leader.borrow_mut() = names(leader);
            let peer = nodes[1].pool.peer(1).expect("known");
            let error = peer.commit(put("a", b"x"), LONG).await.expect_err("the leader can't be reached");
            assert_eq!((error.kind, error.outcome), (ErrorKind::NotLeader, Outcome::NothingDone), "{error}");
            assert_eq!(error.advice, Advice::GoTo(names(leader).expect("somebody")));
        }
    })
}
