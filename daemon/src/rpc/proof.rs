//! What a caller proves in its hello: that it knows the secret of an access key, or the one that all nodes of a cluster share.
//!
//! The secret itself never travels. A proof is made with a nonce of the node that is called, so one that was overheard opens no
//! other connection. It doesn't protect the connection behind it: without encryption, whoever can change what travels can speak
//! in the caller's name (`docs/decisions/0008-who-calls-by-rpc.md`).

use std::fmt;

use cairn_schema::{HelloRequest, Role};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// What is random in each connection.
pub type Nonce = [u8; 32];

/// What a caller knows, and proves to know.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// What all nodes of a cluster share, and nobody else.
    Member([u8; 32]),
    /// An access key.
    Key {
        /// Its public half.
        access: String,
        /// Its secret half.
        secret: String,
    },
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Member(_) => f.write_str("Member"),
            Self::Key { access, .. } => f.debug_struct("Key").field("access", access).finish_non_exhaustive(),
        }
    }
}

impl Credential {
    /// As what it lets somebody come.
    pub fn role(&self) -> Role {
        match self {
            Self::Member(_) => Role::Peer,
            Self::Key { .. } => Role::Client,
        }
    }

    fn secret(&self) -> &[u8] {
        match self {
            Self::Member(secret) => secret,
            Self::Key { secret, .. } => secret.as_bytes(),
        }
    }

    /// Puts the proof into a hello that says all else.
    pub fn prove(&self, hello: &mut HelloRequest, nonce: &Nonce) {
        hello.proof = Some(of(self.secret(), hello, nonce));
    }
}

/// Whether a hello was made by who knows this secret, in a time that says nothing.
pub fn holds(secret: &[u8], hello: &HelloRequest, nonce: &Nonce) -> bool {
    let Some(stated) = hello.proof else { return false };
    bool::from(of(secret, hello, nonce).ct_eq(&stated))
}

fn of(secret: &[u8], hello: &HelloRequest, nonce: &Nonce) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("a key has any length");
    mac.update(&hello.proven(nonce));
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_is_of_one_secret_one_nonce_and_one_hello() {
        let key = Credential::Key { access: "A".to_owned(), secret: "s".to_owned() };
        let mut hello = HelloRequest { key: "A".to_owned(), ..HelloRequest::default() };
        assert!(!holds(b"s", &hello, &[1; 32]), "without a proof");
        key.prove(&mut hello, &[1; 32]);
        assert!(holds(b"s", &hello, &[1; 32]));
        assert!(!holds(b"t", &hello, &[1; 32]) && !holds(b"s", &hello, &[2; 32]));
        let others = [
            HelloRequest { role: Role::Peer, ..hello.clone() },
            HelloRequest { node: 1, ..hello.clone() },
            HelloRequest { expect: 1, ..hello.clone() },
            HelloRequest { key: "B".to_owned(), ..hello.clone() },
        ];
        assert!(others.iter().all(|other| !holds(b"s", other, &[1; 32])));
        assert!(!format!("{key:?} {:?}", Credential::Member([0xA5; 32])).contains("a5"));
    }

    /// The example of `docs/protocol.md`, for those who write clients.
    #[test]
    fn the_documented_proof_is_this_one() {
        let key = Credential::Key { access: "CAIRNEXAMPLE".to_owned(), secret: "a secret".to_owned() };
        let mut hello = HelloRequest { key: "CAIRNEXAMPLE".to_owned(), ..HelloRequest::default() };
        key.prove(&mut hello, &[7; 32]);
        let hex: String = hello.proof.unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
        let page = include_str!("../../../docs/protocol.md");
        assert!(page.contains(&hex), "docs/protocol.md should say {hex}");
    }
}
