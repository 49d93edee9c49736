//! Access keys: made here, so that nobody chooses a weak secret.

use std::io;

use cairn_io::rng;
use cairn_meta::control::command::Command;
use cairn_meta::control::state::{KeyRecord, UserRecord};

use super::{Cluster, ClusterError};

/// The rights of a user who may do everything.
pub const ADMIN: &str = "admin";

/// A new access key. The secret is shown this once.
#[derive(Clone, PartialEq, Eq)]
pub struct NewKey {
    /// Its public half.
    pub access: String,
    /// Its secret half.
    pub secret: String,
}

impl std::fmt::Debug for NewKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewKey").field("access", &self.access).finish_non_exhaustive()
    }
}

/// Letters that nobody takes for another.
const LETTERS: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";

/// So many letters of five random bits each.
fn draw(letters: usize) -> io::Result<String> {
    let mut text = String::new();
    while text.len() < letters {
        let bytes = rng::secret()?;
        text.extend(bytes.iter().take(letters - text.len()).map(|byte| LETTERS[usize::from(byte % 32)] as char));
    }
    Ok(text)
}

impl Cluster {
    /// Makes an access key for a user, and the user if there is none, who then may do everything if `rights` is [`ADMIN`].
    ///
    /// # Errors
    /// If control refuses, or can't be reached.
    pub async fn create_key(&self, who: &str, user: &str, rights: &str) -> Result<NewKey, ClusterError> {
        let random = |error: io::Error| ClusterError::Broken(format!("no randomness: {error}"));
        if self.map().user(user).is_none() {
            let record = UserRecord { name: user.to_owned(), rights: rights.to_owned() };
            self.control(who, None, Command::PutUser(record)).await?;
        }
        let access = format!("CAIRN{}", draw(15).map_err(random)?);
        let secret = draw(40).map_err(random)?;
        let sealed = self.seal().close(&access, &secret).map_err(random)?;
        let record = KeyRecord { access: access.clone(), user: user.to_owned(), sealed, disabled: false };
        self.control(who, None, Command::PutKey(record)).await?;
        Ok(NewKey { access, secret })
    }

    /// Removes an access key, and says whether there was one.
    ///
    /// # Errors
    /// If control can't be reached.
    pub async fn delete_key(&self, who: &str, access: &str) -> Result<bool, ClusterError> {
        let is_there = self.map().keys.iter().any(|key| key.access == access);
        self.control(who, None, Command::RemoveKey { access: access.to_owned() }).await?;
        Ok(is_there)
    }
}
