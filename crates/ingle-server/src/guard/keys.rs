//! API keys: made once, shown once, kept as hashes.
//!
//! A file has a line per key: `NAME ROLE SHA-256`, in hexadecimal, and behind it limits such as `parallel=4`. A key has 256
//! random bits, so a plain hash is as good as a slow one.

use super::limits::{Account, Limits};
use crate::ServeError;
use sha2::{Digest, Sha256};
use std::path::Path;
use std::sync::Arc;

/// What a key allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// To ask models.
    Infer,
    /// To change what models there are, too.
    Manage,
}

impl Role {
    /// By its name.
    pub fn parse(name: &str) -> Option<Role> {
        match name {
            "infer" => Some(Role::Infer),
            "manage" => Some(Role::Manage),
            _ => None,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Role::Infer => "infer",
            Role::Manage => "manage",
        }
    }
}

/// A key that is known.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) name: String,
    pub(crate) role: Role,
    /// How much its owner may ask.
    pub(crate) limits: Limits,
    /// How much they did.
    pub(crate) account: Arc<Account>,
    hash: [u8; 32],
}

/// All that are known.
#[derive(Clone, Debug, Default)]
pub struct Keys(Vec<Key>);

impl Keys {
    /// Of a file.
    ///
    /// # Errors
    /// A file that cannot be read, has a line that is no key, or has none.
    pub fn read(path: &Path) -> Result<Keys, ServeError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ServeError::Keys { path: path.to_owned(), problem: error.to_string() })?;
        Keys::parse(&text).map_err(|problem| ServeError::Keys { path: path.to_owned(), problem })
    }

    fn parse(text: &str) -> Result<Keys, String> {
        let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
        let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let keys = lines.map(|(number, line)| {
            let mut fields = line.split_whitespace();
            let key = (|| {
                let (name, role, hash) = (fields.next()?, fields.next()?, fields.next()?);
                Some((name.to_owned(), Role::parse(role)?, unhex(hash)?))
            })();
            let (name, role, hash) =
                key.ok_or_else(|| format!("line {number} is not `NAME infer|manage SHA-256`"))?;
            let limits = fields.try_fold(Limits::default(), Limits::with);
            let limits = limits.map_err(|problem| format!("line {number}: {problem}"))?;
            Ok(Key { name, role, hash, limits, account: Arc::default() })
        });
        let keys: Vec<Key> = keys.collect::<Result<_, String>>()?;
        if keys.is_empty() { Err("it has no keys".into()) } else { Ok(Keys(keys)) }
    }

    /// The key that this is. Takes the same time for all that it is not.
    pub(crate) fn find(&self, key: &str) -> Option<&Key> {
        let hash = hash(key);
        // no early end, neither among bytes nor among keys
        let same = |known: &Key| known.hash.iter().zip(hash).fold(0, |all, (a, b)| all | (a ^ b)) == 0;
        self.0.iter().fold(None, |found, known| if same(known) { Some(known) } else { found })
    }
}

/// A new key: what its owner gets to see once, and the line for the file.
///
/// # Errors
/// A name with spaces, or a system without random numbers.
pub fn new_key(name: &str, role: Role, limits: Limits) -> Result<(String, String), String> {
    if name.is_empty() || name.starts_with('#') || name.chars().any(char::is_whitespace) || name.len() > 100 {
        return Err("a key's name is one word".into());
    }
    let mut random = [0; 32];
    random_bytes(&mut random).map_err(|error| format!("the system gives no random numbers: {error}"))?;
    let key = format!("ingle-{}", hex(&random));
    let mut line = format!("{name} {} {}", role.name(), hex(&hash(&key)));
    for (name, limit) in limits.named() {
        if let Some(limit) = limit {
            // said as it will be read
            let limit = format!("{name}={limit}");
            Limits::default().with(&limit)?;
            line.push(' ');
            line.push_str(&limit);
        }
    }
    Ok((key, line))
}

fn random_bytes(out: &mut [u8]) -> std::io::Result<()> {
    use std::io::Read;
    std::fs::File::open("/dev/urandom")?.read_exact(out)
}

fn hash(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let bytes = pairs.iter().map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    let bytes: Vec<u8> = bytes.collect::<Option<_>>()?;
    bytes.try_into().ok().filter(|_| rest.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_known_by_its_hash_alone() {
        let limits = Limits { parallel: Some(4), ..Limits::default() };
        let (key, line) = new_key("ann", Role::Infer, limits).unwrap();
        let (other, second) = new_key("bob", Role::Manage, Limits::default()).unwrap();
        assert!(!line.contains(&key[6..]) && key != other);
        let keys = Keys::parse(&format!("# who may ask\n{line}\n\n{second}\n")).unwrap();
        let found = keys.find(&key).map(|key| (key.name.as_str(), key.role, key.limits));
        assert_eq!(found, Some(("ann", Role::Infer, limits)));
        assert_eq!(keys.find(&other).map(|key| key.role), Some(Role::Manage));
        for wrong in ["", "ingle-", &key[..key.len() - 1], &key.to_uppercase()] {
            assert!(keys.find(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_file_that_is_no_list_of_keys_is_refused() {
        let wrong = format!("ann infer {} speed=3", "00".repeat(32));
        for text in ["", "# nothing", "ann infer", "ann king 00", "ann infer 00ff", "ann infer é0", &wrong] {
            assert!(Keys::parse(text).is_err(), "{text}");
        }
        assert!(new_key("two words", Role::Infer, Limits::default()).is_err());
    }
}
