//! What is measured: the scenarios, and the requests each is made of.

use bytes::Bytes;
use cairn_io::rng::{Rng, RngCore};
use hyper::Method;

use super::load::Prepared;
use crate::s3::client::{Ask, BodySignature, Endpoint};
use crate::s3::error::S3Error;
use crate::s3::sign::Signer;

/// Bytes of a small object, a large one, a huge one.
pub const SMALL: usize = 4 << 10;
pub const LARGE: usize = 1 << 20;
pub const HUGE: usize = 16 << 20;
/// Objects that a listing is asked for.
pub const PAGE: usize = 1000;
/// Requests that are signed before the clock starts; then they are sent again.
const PREPARED: usize = 8192;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Objects of a length are stored, each under a name of its own.
    Put,
    /// Objects of a length are read, in no order.
    Get,
    /// A page of names from anywhere on.
    List,
    /// Of a hundred small requests 60 read, 25 store, 10 ask for a head, 5 list a short page.
    Mixed,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its name for people.
    pub title: &'static str,
    /// What it asks for.
    pub what: What,
    /// The length of its objects.
    pub bytes: usize,
    /// How many connections it is asked over.
    pub connections: usize,
    /// Whether a bare server can do the same.
    pub beside: Beside,
    /// What the disk's part of it is, where that may be what holds it back.
    pub below: Option<Below>,
    /// The share of what it is compared with that is promised of a node.
    pub bar: Option<f64>,
}

/// What a disk is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Below {
    /// Bare reads: what it reads can't be read faster, and what HTTP carries can't either.
    Reads,
    /// Puts of a lane: what is durable can't be stored faster.
    Puts,
}

/// What a scenario is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beside {
    /// HTTP and nothing else.
    Bare,
    /// Nothing does the same.
    Nothing,
}

/// All of them.
pub const SCENARIOS: &[Scenario] = &[
    bare("PUT 4 KiB, 1 connection", What::Put, SMALL, 1, Some(0.35)),
    bare("PUT 4 KiB, 32 connections", What::Put, SMALL, 32, Some(0.35)),
    bare("GET 4 KiB, 1 connection", What::Get, SMALL, 1, Some(0.60)),
    bare("GET 4 KiB, 32 connections", What::Get, SMALL, 32, Some(0.60)),
    Scenario { below: Some(Below::Puts), ..bare("PUT 1 MiB, 8 connections", What::Put, LARGE, 8, Some(0.60)) },
    Scenario { below: Some(Below::Reads), ..bare("GET 1 MiB, 8 connections", What::Get, LARGE, 8, Some(0.70)) },
    bare("PUT 16 MiB, 4 connections", What::Put, HUGE, 4, None),
    bare("GET 16 MiB, 4 connections", What::Get, HUGE, 4, None),
    alone("LIST 1000, 4 connections", What::List, 4),
    alone("mixed 4 KiB, 16 connections", What::Mixed, 16),
];

const fn bare(title: &'static str, what: What, bytes: usize, connections: usize, bar: Option<f64>) -> Scenario {
    Scenario { title, what, bytes, connections, beside: Beside::Bare, below: None, bar }
}

const fn alone(title: &'static str, what: What, connections: usize) -> Scenario {
    Scenario { title, what, bytes: SMALL, connections, beside: Beside::Nothing, below: None, bar: None }
}

impl Scenario {
    /// Whether it needs small objects that are there.
    pub fn needs(&self) -> Option<usize> {
        match self.what {
            What::Put => None,
            What::Get | What::List | What::Mixed => Some(self.bytes),
        }
    }
}

/// What requests are made about.
#[derive(Clone, Debug)]
pub struct Ground {
    /// The bucket.
    pub bucket: String,
    /// What every name of this run begins with.
    pub prefix: String,
    /// How many small objects there are.
    pub objects: u64,
}

impl Ground {
    /// How many objects of a length there are to be read.
    pub fn count(&self, bytes: usize) -> u64 {
        match bytes {
            SMALL => self.objects,
            // 128 MiB of them: more than a processor's cache holds.
            _ => ((128 << 20) / bytes) as u64,
        }
    }

    /// The name of an object to be read.
    pub fn key(&self, bytes: usize, number: u64) -> String {
        format!("{}{bytes}/{number:010}", self.prefix)
    }

    /// Requests of a scenario, signed now. `turn` makes the names of what is stored new.
    ///
    /// # Errors
    /// If one can't be made.
    pub fn prepare(
        &self,
        scenario: &Scenario,
        (endpoint, signer): (&Endpoint, &Signer),
        signature: BodySignature,
        turn: u64,
    ) -> Result<Vec<Prepared>, S3Error> {
        let mut rng = Rng::from_seed(turn);
        let payload = payload(scenario.bytes, &mut rng);
        let count = if scenario.bytes == SMALL { PREPARED } else { 256 };
        let one = |number: usize| {
            let (ask, answer, sent) = self.ask(scenario, &payload, &mut rng, (turn, number));
            let request = ask.sign(endpoint, signer, signature)?;
            Ok(Prepared { request, answer, sent })
        };
        (0..count).map(one).collect()
    }

    fn ask(
        &self,
        scenario: &Scenario,
        payload: &Bytes,
        rng: &mut Rng,
        (turn, number): (u64, usize),
    ) -> (Ask, Option<u64>, u64) {
        let (bytes, bucket) = (scenario.bytes, self.bucket.as_str());
        let any = self.key(bytes, rng.below(self.count(bytes)));
        let put = || {
            let key = format!("{}put/{bytes}/{turn}/{number}", self.prefix);
            (Ask::object(Method::PUT, bucket, &key).body(payload.clone()), None, bytes as u64)
        };
        let list = |keys: usize| {
            let ask = Ask::bucket(Method::GET, bucket)
                .query("list-type", "2")
                .query("max-keys", keys.to_string())
                .query("prefix", format!("{}{SMALL}/", self.prefix))
                .query("start-after", &any);
            (ask, None, 0)
        };
        let get = || (Ask::object(Method::GET, bucket, &any), Some(bytes as u64), 0);
        let mixed = if scenario.what == What::Mixed { number % 100 } else { 0 };
        match (scenario.what, mixed) {
            (What::Put, _) | (What::Mixed, 60..85) => put(),
            (What::Get, _) | (What::Mixed, 0..60) => get(),
            (What::List, _) => list(PAGE),
            (What::Mixed, 85..95) => (Ask::object(Method::HEAD, bucket, &any), Some(0), 0),
            (What::Mixed, _) => list(100),
        }
    }
}

/// Bytes like no others, so that nothing on the way can leave them out.
pub fn payload(bytes: usize, rng: &mut Rng) -> Bytes {
    let mut payload = vec![0; bytes];
    rng.fill_bytes(&mut payload);
    payload.into()
}
