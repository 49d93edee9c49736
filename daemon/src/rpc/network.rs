//! A connection as capnp-rpc wants it, on a stream of `cairn_io`: messages in, messages out, all of it bounded.
//!
//! capnp-rpc's own two-party network trusts its peer with memory and time. This one reads a message only while there is
//! room for what it asks, gives up on a peer that stalls, and writes what has gathered at once.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::task::{Poll, Waker};

use cairn_io::net::Stream;
use cairn_io::time::{Duration, timeout};
use capnp::capability::Promise;
use capnp::message::{Builder, HeapAllocator, Reader};
use capnp_rpc::RpcSystem;
use capnp_rpc::rpc_capnp::message::Which;
use capnp_rpc::rpc_capnp::{self, message};
use capnp_rpc::rpc_twoparty_capnp::Side;
use futures_channel::oneshot;
use futures_util::future::{Either, join, select};

use super::frame::{FrameReader, FrameWriter, Segments};
use super::limits::Limits;
use super::traffic::Traffic;

type Message = Builder<HeapAllocator>;

/// Lets the writer borrow what capnp-rpc keeps.
struct Shared(Rc<Message>);

impl AsRef<Message> for Shared {
    fn as_ref(&self) -> &Message {
        &self.0
    }
}

/// Messages to be written, and who waits for that.
struct Outbox {
    queue: RefCell<VecDeque<Shared>>,
    traffic: Rc<Traffic>,
    writer: Cell<Option<Waker>>,
    /// Who waits for room before reading on.
    reader: Cell<Option<Waker>>,
    end: RefCell<End>,
}

/// Whether more is to come.
enum End {
    Open,
    /// After what is queued, with this result; then tell.
    Asked(capnp::Result<()>, oneshot::Sender<()>),
    Closed,
}

impl Outbox {
    fn push(&self, message: Rc<Message>) {
        if !matches!(*self.end.borrow(), End::Open) {
            return;
        }
        self.traffic.add_unsent(message.size_in_words() * 8);
        self.queue.borrow_mut().push_back(Shared(message));
        wake(&self.writer);
    }

    /// What is to be written next; none when the end was asked for and all is written.
    async fn next(&self) -> Option<Vec<Shared>> {
        poll_fn(|cx| {
            let mut queue = self.queue.borrow_mut();
            if !queue.is_empty() {
                let count = queue.len().min(FrameWriter::batch_max());
                return Poll::Ready(Some(queue.drain(..count).collect()));
            }
            if !matches!(*self.end.borrow(), End::Open) {
                return Poll::Ready(None);
            }
            self.writer.set(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await
    }

    fn written(&self, batch: &[Shared]) {
        let bytes: usize = batch.iter().map(|message| message.0.size_in_words() * 8).sum();
        self.traffic.remove_unsent(bytes);
        wake(&self.reader);
    }

    /// Waits until no more bytes than this wait to be written, or nothing is written any more.
    async fn room(&self, max: usize) {
        poll_fn(|cx| {
            if self.traffic.unsent() <= max || matches!(*self.end.borrow(), End::Closed) {
                return Poll::Ready(());
            }
            self.reader.set(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}

fn wake(waker: &Cell<Option<Waker>>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

/// Writes what is queued until the end is asked for or the peer is gone.
async fn write_all(outbox: Rc<Outbox>, mut writer: FrameWriter) -> capnp::Result<()> {
    while let Some(batch) = outbox.next().await {
        let result = writer.write(&batch).await;
        if let Err(error) = result {
            // The peer may still send: whoever reads must learn that nobody can be answered any more.
            writer.abort();
            *outbox.end.borrow_mut() = End::Closed;
            wake(&outbox.reader);
            return Err(broken(&error));
        }
        outbox.written(&batch);
    }
    writer.close().await;
    match outbox.end.replace(End::Closed) {
        End::Asked(result, told) => {
            let _ = told.send(());
            result
        }
        End::Open | End::Closed => Ok(()),
    }
}

fn broken(error: &io::Error) -> capnp::Error {
    match error.kind() {
        io::ErrorKind::InvalidData => capnp::Error::failed(error.to_string()),
        _ => capnp::Error::disconnected(error.to_string()),
    }
}

struct Incoming(Reader<Segments>);

impl capnp_rpc::IncomingMessage for Incoming {
    fn get_body(&self) -> capnp::Result<capnp::any_pointer::Reader<'_>> {
        self.0.get_root()
    }
}

struct Outgoing {
    message: Message,
    outbox: Rc<Outbox>,
}

impl capnp_rpc::OutgoingMessage for Outgoing {
    fn get_body(&mut self) -> capnp::Result<capnp::any_pointer::Builder<'_>> {
        self.message.get_root()
    }

    fn get_body_as_reader(&self) -> capnp::Result<capnp::any_pointer::Reader<'_>> {
        self.message.get_root_as_reader()
    }

    fn send(self: Box<Self>) -> (Promise<(), capnp::Error>, Rc<Message>) {
        let Self { message, outbox } = *self;
        count_answer(&message, &outbox.traffic);
        let message = Rc::new(message);
        outbox.push(message.clone());
        (Promise::ok(()), message)
    }

    fn take(self: Box<Self>) -> Message {
        self.message
    }

    fn size_in_words(&self) -> usize {
        self.message.size_in_words()
    }
}

fn count_answer(message: &Message, traffic: &Traffic) {
    let Ok(body) = message.get_root_as_reader::<message::Reader<'_>>() else { return };
    if let Ok(Which::Return(Ok(answer))) = body.which() {
        traffic.answered(answer.get_answer_id(), message.size_in_words() * 8, answer.get_no_finish_needed());
    }
}

/// Both directions of a connection.
struct Inner {
    /// Taken while a message is read.
    reader: Rc<Cell<Option<FrameReader>>>,
    outbox: Rc<Outbox>,
    limits: Limits,
    dropped: Option<oneshot::Sender<()>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(dropped) = self.dropped.take() {
            let _ = dropped.send(());
        }
    }
}

#[derive(Clone)]
struct Connection {
    inner: Rc<RefCell<Inner>>,
    side: Side,
}

impl capnp_rpc::Connection<Side> for Connection {
    fn get_peer_vat_id(&self) -> Side {
        self.side
    }

    fn new_outgoing_message(&mut self, first_segment_words: u32) -> Box<dyn capnp_rpc::OutgoingMessage> {
        let words = if first_segment_words == 0 { 128 } else { first_segment_words };
        let message = Builder::new(HeapAllocator::new().first_segment_words(words));
        Box::new(Outgoing { message, outbox: self.inner.borrow().outbox.clone() })
    }

    fn receive_incoming_message(&mut self) -> Promise<Option<Box<dyn capnp_rpc::IncomingMessage>>, capnp::Error> {
        let inner = self.inner.borrow();
        let (place, outbox, limits) = (inner.reader.clone(), inner.outbox.clone(), inner.limits);
        Promise::from_future(async move {
            let mut reader = place.take().ok_or_else(|| capnp::Error::failed("two read at once".to_owned()))?;
            let message = receive(&mut reader, &outbox, &limits).await?;
            place.set(Some(reader));
            Ok(message.map(|message| Box::new(Incoming(message)) as Box<dyn capnp_rpc::IncomingMessage>))
        })
    }

    fn shutdown(&mut self, result: capnp::Result<()>) -> Promise<(), capnp::Error> {
        let (tell, told) = oneshot::channel();
        let outbox = self.inner.borrow().outbox.clone();
        let mut end = outbox.end.borrow_mut();
        if matches!(*end, End::Open) {
            *end = End::Asked(result, tell);
        }
        wake(&outbox.writer);
        Promise::from_future(async move {
            told.await.map_err(|_| capnp::Error::disconnected("the connection is closed".to_owned()))
        })
    }
}

async fn receive(
    reader: &mut FrameReader,
    outbox: &Outbox,
    limits: &Limits,
) -> capnp::Result<Option<Reader<Segments>>> {
    outbox.room(limits.bytes_max).await;
    if !begins(reader, &outbox.traffic, limits).await? {
        return Ok(None);
    }
    let segments = reader.read().await.map_err(|error| broken(&error))?;
    let bytes = segments.bytes();
    let message = segments.into_reader();
    count(&message, bytes, &outbox.traffic, limits)?;
    Ok(Some(message))
}

/// Waits for a message's first byte, for ever while calls are worked on: they have deadlines of their own.
async fn begins(reader: &mut FrameReader, traffic: &Traffic, limits: &Limits) -> capnp::Result<bool> {
    loop {
        match timeout(limits.idle_within, reader.begins()).await {
            Ok(result) => return result.map_err(|error| broken(&error)),
            Err(_) if traffic.calls() > 0 => {}
            Err(_) => {
                let idle = format!("nothing arrived for {:?}: call ping now and then", limits.idle_within);
                return Err(capnp::Error::disconnected(idle));
            }
        }
    }
}

fn count(message: &Reader<Segments>, bytes: usize, traffic: &Traffic, limits: &Limits) -> capnp::Result<()> {
    let root = message.get_root::<rpc_capnp::message::Reader<'_>>()?;
    let Ok(body) = root.which() else { return Ok(()) };
    let number = match body {
        Which::Call(call) => call?.get_question_id(),
        Which::Bootstrap(bootstrap) => bootstrap?.get_question_id(),
        Which::Finish(finish) => {
            traffic.finished(finish?.get_question_id());
            return Ok(());
        }
        _ => return Ok(()),
    };
    let counted = traffic.called(number, bytes, limits.questions_max);
    counted.map_err(|foul| capnp::Error::failed(foul.to_string()))
}

/// How long a connection that ends may take to say so.
const FAREWELL: Duration = Duration::from_secs(1);

/// Runs a connection until it ends by itself, or `end` is ready: then calls under way fail on both sides, as far as the
/// other one still listens. Just dropping the system would leave them waiting.
pub async fn run(mut system: RpcSystem<Side>, end: impl Future<Output = ()>) {
    let disconnector = system.get_disconnector();
    if let Either::Right(_) = select(&mut system, pin!(end)).await {
        let _ = timeout(FAREWELL, join(disconnector, system)).await;
    }
}

/// The network of one connection.
pub struct Network {
    side: Side,
    /// What `accept` returns, once.
    accepted: Option<Connection>,
    /// What `connect` returns.
    inner: Weak<RefCell<Inner>>,
    driver: Option<Promise<(), capnp::Error>>,
}

impl Network {
    /// On `stream`, as this side of it, under these limits; counts in `traffic`.
    pub fn new(stream: Stream, side: Side, limits: &Limits, traffic: Rc<Traffic>) -> Self {
        let reader = FrameReader::new(stream.clone(), limits, traffic.clone());
        let outbox = Rc::new(Outbox {
            queue: RefCell::default(),
            traffic,
            writer: Cell::default(),
            reader: Cell::default(),
            end: RefCell::new(End::Open),
        });
        let (dropped, is_dropped) = oneshot::channel();
        let writer = FrameWriter::new(stream, limits.write_within);
        let inner = Rc::new(RefCell::new(Inner {
            reader: Rc::new(Cell::new(Some(reader))),
            outbox: outbox.clone(),
            limits: *limits,
            dropped: Some(dropped),
        }));
        let driver = Promise::from_future(async move {
            let written = write_all(outbox, writer).await;
            // capnp-rpc cleans up in tasks of its own, which end with this one.
            let _ = is_dropped.await;
            written
        });
        let weak = Rc::downgrade(&inner);
        Self { side, accepted: Some(Connection { inner, side }), inner: weak, driver: Some(driver) }
    }
}

impl capnp_rpc::VatNetwork<Side> for Network {
    fn connect(&mut self, host: Side) -> Option<Box<dyn capnp_rpc::Connection<Side>>> {
        if host == self.side {
            return None;
        }
        let inner = self.inner.upgrade()?;
        Some(Box::new(Connection { inner, side: self.side }))
    }

    fn accept(&mut self) -> Promise<Box<dyn capnp_rpc::Connection<Side>>, capnp::Error> {
        match self.accepted.take() {
            Some(connection) => Promise::ok(Box::new(connection)),
            None => Promise::from_future(std::future::pending()),
        }
    }

    fn drive_until_shutdown(&mut self) -> Promise<(), capnp::Error> {
        self.driver.take().unwrap_or_else(|| Promise::from_future(std::future::pending()))
    }
}
