//! What clients are told on the RPC port: that it is for nodes. Objects are to be had over S3.

use cairn_schema::{
    Answer, Applied, CommitRequest, Committed, Error, ErrorKind, ListRequest, MapRequest, MapUpdate, Page,
    ProposeRequest, ReadRequest, ReadResult,
};

use crate::rpc::{Answering, Caller, Client, ControlService, KeyService, SlotService};

/// See the module.
pub struct NoClients;

fn refuse<'a, T: 'a>() -> Answering<'a, T> {
    let message = "this node's RPC is for other nodes only: use S3";
    Box::pin(std::future::ready(Err(Error::fix_input(ErrorKind::Unsupported, message))))
}

impl KeyService for NoClients {
    fn client(&self, _: &str) -> Answer<Option<Client>> {
        Ok(None)
    }
}

impl SlotService for NoClients {
    fn commit<'a>(&'a self, _: Caller, _: &'a CommitRequest) -> Answering<'a, Vec<Answer<Committed>>> {
        refuse()
    }

    fn read<'a>(&'a self, _: Caller, _: &'a ReadRequest) -> Answering<'a, ReadResult> {
        refuse()
    }

    fn list<'a>(&'a self, _: Caller, _: &'a ListRequest) -> Answering<'a, Page> {
        refuse()
    }
}

impl ControlService for NoClients {
    fn map<'a>(&'a self, _: Caller, _: &'a MapRequest) -> Answering<'a, MapUpdate> {
        refuse()
    }

    fn wait<'a>(&'a self, _: Caller, _: &'a MapRequest) -> Answering<'a, MapUpdate> {
        refuse()
    }

    fn propose<'a>(&'a self, _: Caller, _: &'a ProposeRequest) -> Answering<'a, Applied> {
        refuse()
    }
}
